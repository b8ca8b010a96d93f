"""Linear transforms: of channels, and of momenta."""

from pathlib import Path

import pytest
import torch

from lattice_flows.flows import TRANSFORMS, ComposedFlow, Fields, forward_with_score, initialise
from lattice_flows.flows.fourier_scaling import OrbitSpectrum
from lattice_flows.lattice import REAL
from lattice_flows.statistics import effective_sample_size
from lattice_flows.theories import XY, DoubleWell, Phi4
from lattice_flows.training import TrainingSettings, evaluate, train

CHANNELLED = Fields((3, 4, 2), (4, 2), REAL, 1.0, Phi4(1.0, 1.0))


@pytest.mark.quick
@pytest.mark.parametrize("name", ["actnorm", "convolution_1x1", "spectrum"])
def test_channels_are_mapped_each_by_numbers_of_its_own(name, generator):
    plan = TRANSFORMS.build(name)
    plan.check(CHANNELLED)
    transform = plan.assemble(CHANNELLED).double()
    initialise(transform, generator)
    z = torch.randn(2, *CHANNELLED.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(transform.forward(z)[0], z)
    with torch.no_grad():
        for weight in transform.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    assert all(weight.shape[0] == 3 for weight in transform.parameters())
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(inverse_log_det, -log_det)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform.forward(z)[0], z[:1]).reshape(24, 24)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0])
    score = torch.randn(2, *CHANNELLED.shape, generator=generator, dtype=torch.float64)
    scored = forward_with_score(transform, z, score).score
    torch.testing.assert_close(scored.flatten(1), torch.linalg.solve(jacobian.T, score.flatten(1).T).T)


@pytest.mark.quick
@pytest.mark.parametrize(("sites", "n_orbits"), [((8,), 5), ((4, 4), 6), ((4, 6), 12), ((4, 4, 4), 10), ((5, 5), 6)])
def test_momenta_of_one_orbit_have_one_number(sites, n_orbits):
    spectrum = OrbitSpectrum(sites)
    assert spectrum.n_values == n_orbits
    c = spectrum.forward(torch.arange(float(n_orbits)))
    assert len(c.unique()) == n_orbits
    for axis, side in enumerate(sites):
        torch.testing.assert_close(c.flip(axis).roll(1, axis), c)
        torch.testing.assert_close(c.transpose(0, axis) if side == sites[0] else c, c)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "action", "table", "message"),
    [
        ((), DoubleWell(), "spectrum", "needs a lattice"),
        ((4, 4), XY(1.0), "spectrum", "maps real numbers"),
        ((4, 4), Phi4(1.0, 1.0), {"name": "spectrum", "n_knots": 1}, "n_knots must be between 2 and 100, got 1"),
        ((4, 4), Phi4(1.0, 1.0), "convolution_1x1", "needs 2 channels or more"),
        (
            (4, 4),
            Phi4(1.0, 1.0),
            {"name": "free_field", "mass_squared": 0.0},
            "mass_squared must be between",
        ),
        ((), DoubleWell(), "free_field", "needs one number at each site of a lattice"),
    ],
)
def test_what_they_do_not_support_is_refused(shape, action, table, message):
    with pytest.raises(ValueError, match=message):
        ComposedFlow(shape, action, transforms=(table,))


@pytest.mark.parametrize("table", ["spectrum", "free_field"])
def test_a_free_field_is_learnt_to_the_last_digits(table, tmp_path: Path, generator):
    """From white noise, and from the free field of mass 1: these layers hold the target exactly."""
    action = Phi4(0.1, 0.0)
    flow = ComposedFlow((8, 8), action, transforms=(table,), prior="gaussian").build()
    settings = TrainingSettings(max_steps=300, learning_rate=0.05, batch_size=64, monitor_samples=64)
    before = effective_sample_size(evaluate(flow, action, 1024, generator)).value
    train(flow, action, settings, tmp_path, seed=1, header={})
    after = effective_sample_size(evaluate(flow, action, 1024, generator)).value
    assert before < 0.1
    assert after > 0.9999
