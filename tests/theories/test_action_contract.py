"""What every action must satisfy, over the registry."""

import numpy as np
import pytest
import torch
from cases import ACTION_CASES

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import Action

MOVING = [case for case in ACTION_CASES if case.action.space.tangent_shape is not None]
"""Those with forces and trajectories: integers have none."""


@pytest.fixture(params=ACTION_CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def x(case, seed):
    """Hot configurations; those of some actions keep away from forces that no step of molecular dynamics follows."""
    return torch.from_numpy(case.action.hot(make_streams(seed, "test", range(3)), case.event)[0])


moving = pytest.mark.parametrize("case", MOVING, indirect=True, ids=lambda case: case.name)


def leapfrog(action, x, momenta, step_size, n_md_steps):
    return integrate(action, x, momenta, INTEGRATORS["leapfrog"], step_size, n_md_steps)


def finite_difference_error(action: Action, x: torch.Tensor, size: float) -> float:
    """The largest difference of the force from five-point differences of S, over a few of the variables, by the size
    of their changes."""
    h, force, worst = 1e-3 * size, action.force(x), 0.0
    for index in np.random.default_rng(0).choice(x[0].numel(), size=min(8, x[0].numel()), replace=False):
        step = torch.zeros_like(x).flatten(1)
        step[:, index] = h
        step = step.view_as(x)
        near, far = action(x + step) - action(x - step), action(x + 2 * step) - action(x - 2 * step)
        slope = (8 * near - far) / (12 * h)
        worst = max(worst, size * float((force.flatten(1)[:, index] + slope).abs().max()))
    return worst


@moving
def test_force_is_minus_the_gradient(case, x):
    assert finite_difference_error(case.action, x, case.size) < 1e-8
    torch.testing.assert_close(case.action.force(x), Action.force(case.action, x), atol=1e-12, rtol=0)


@moving
def test_a_force_one_per_cent_off_is_caught(case, x):
    class OnePerCentOff(type(case.action)):
        def force(self, x):
            return 1.01 * super().force(x)

    wrong = OnePerCentOff(**vars(case.action))
    assert finite_difference_error(wrong, x, case.size) > 1e-3


def test_action_is_double_and_finite(case, x):
    assert case.action(x).dtype == torch.float64
    assert case.action(x.float()).dtype == torch.float64
    assert case.action(x).shape == (3,)
    assert torch.isfinite(case.action(x)).all()


def test_the_action_of_arrays_is_that_of_tensors(case, x):
    np.testing.assert_allclose(case.action.evaluate(x.numpy()), case.action(x).numpy(), rtol=1e-12, atol=0)


def test_symmetries(case, x, generator):
    for image in case.images(x, generator):
        torch.testing.assert_close(case.action(image), case.action(x), rtol=1e-12, atol=0)


def test_event_shape_is_that_of_the_configurations(case):
    field = case.action.field(case.lattice_shape)
    assert field.shape == case.event
    assert field.lattice_shape == case.lattice_shape
    assert field.dtype == case.action.space.dtype


@moving
def test_compiled_and_torch_trajectories_agree(case, x, generator):
    couplings = case.action.kernel_couplings(case.event)
    if couplings is None:
        pytest.skip("no compiled form in this dimension: only the torch path exists")
    momenta = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    end, end_momenta = leapfrog(case.action, x, momenta, 0.05, 10)
    drifts, kicks, _ = INTEGRATORS["leapfrog"]
    compiled, compiled_momenta = hmc.integrate(
        couplings, x.numpy(), momenta.numpy(), drifts, kicks, np.full(len(x), 0.05), 10
    )
    np.testing.assert_allclose(compiled, end.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(compiled_momenta, end_momenta.numpy(), rtol=0, atol=1e-12)


@moving
def test_leapfrog_is_reversible_and_its_error_falls_as_the_square_of_the_step(case, x, generator):
    momenta = torch.randn(x.shape, generator=generator, dtype=torch.float64)

    def energy(x, p):
        return case.action(x) + 0.5 * p.square().flatten(1).sum(1)

    def delta_h(n):
        return float(
            (energy(*leapfrog(case.action, x, momenta, 0.4 * case.size / n, n)) - energy(x, momenta)).abs().max()
        )

    end, p = leapfrog(case.action, x, momenta, 0.02 * case.size, 8)
    back, minus_p = leapfrog(case.action, end, -p, 0.02 * case.size, 8)
    torch.testing.assert_close(back, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(minus_p, -momenta, atol=1e-12, rtol=0)
    assert delta_h(64) / delta_h(128) == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf")])
def test_impossible_couplings_are_refused(beta):
    from lattice_flows.theories import WilsonU1

    with pytest.raises(ValueError, match="beta"):
        WilsonU1(beta)
