"""Factors of Fourier modes: a linear bijection with the symmetries of the lattice, and exact between free fields."""

from pathlib import Path

import pytest
import torch

from lattice_flows.flows import FourierScalingFlow, forward_with_score
from lattice_flows.flows.fourier_scaling import FourierScaling, SmoothSpectrum, fourier_scaling
from lattice_flows.samplers import StochasticFlowPlan, TransformLayer
from lattice_flows.statistics import effective_sample_size
from lattice_flows.theories import Phi4, WilsonU1
from lattice_flows.training import TrainingSettings, evaluate, train

SHAPES = [(4, 4), (5, 3), (7,), (2, 3, 4)]


def built(shape, generator):
    transform = FourierScaling(shape, SmoothSpectrum(shape, 5)).double()
    with torch.no_grad():
        transform.values.add_(0.3 * torch.randn(5, generator=generator, dtype=torch.float64))
    return transform


@pytest.mark.quick
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_a_bijection_with_the_log_det_of_its_jacobian_and_carries_the_score(shape, generator):
    transform = built(shape, generator)
    z = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-12, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform.forward(z)[0], z[:1]).reshape(z[0].numel(), -1)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0])
    score = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    scored = forward_with_score(transform, z, score)
    torch.testing.assert_close(scored.score.flatten(1), torch.linalg.solve(jacobian.T, score.flatten(1).T).T)


@pytest.mark.quick
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_commutes_with_signs_translations_and_reflections(shape, generator):
    transform = built(shape, generator)
    z = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    x, _ = transform.forward(z)
    axes = range(1, z.ndim)
    for moved in (
        lambda f: -f,
        *(lambda f, a=a: f.roll(1, a) for a in axes),
        *(lambda f, a=a: f.flip(a) for a in axes),
    ):
        torch.testing.assert_close(transform.forward(moved(z))[0], moved(x), atol=1e-12, rtol=0)


def test_it_maps_one_free_field_to_another_without_any_random_step(tmp_path: Path, generator):
    """And with the weights of a smaller lattice on a larger one, where few knots tell momenta in between."""
    action = Phi4(0.2, 0.0)

    def flow_on(shape, n_knots):
        layers = (TransformLayer(lambda there: FourierScalingFlow(shape, there, n_knots=n_knots)),)
        return StochasticFlowPlan(shape, action, layers=layers, initial={"m2": 1.0}).build()

    def ess(flow):
        return effective_sample_size(evaluate(flow, action, 2000, generator)).value

    settings = TrainingSettings(max_steps=200, learning_rate=0.05, monitor_samples=64)
    flow, coarse = flow_on((8, 8), 12), flow_on((8, 8), 4)
    assert ess(flow) < 0.5
    for number, one in enumerate((flow, coarse)):
        train(one, action, settings, tmp_path / str(number), seed=1, header={})
    assert ess(flow) > 0.99
    larger = flow_on((12, 12), 4)
    untrained = ess(larger)
    larger.load_state_dict(coarse.state_dict())
    assert ess(larger) > 3.0 * untrained


@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "action", "options", "message"),
    [
        ((4, 4), WilsonU1(1.0), {}, "fourier_scaling is a flow of phi4 and phi4_hopping, got WilsonU1"),
        ((4, 1), Phi4(1.0, 1.0), {}, "needs extents of 2 or more"),
        ((4, 4), Phi4(1.0, 1.0), {"n_knots": 1}, "n_knots must be between 2 and 100, got 1"),
    ],
)
def test_what_it_does_not_support_is_refused(shape, action, options, message):
    with pytest.raises(ValueError, match=message):
        fourier_scaling(shape, action, **options)
