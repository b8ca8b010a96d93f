"""Integrators of molecular dynamics: their order, their size of error, reversibility, and both paths."""

import numpy as np
import pytest
import torch

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import WilsonU1, sample_u1

pytestmark = pytest.mark.quick

BETA, SHAPE, LENGTH = 3.0, (6, 4), 0.8


@pytest.fixture(params=INTEGRATORS)
def integrator(request):
    return INTEGRATORS[request.param]


@pytest.fixture
def begin(seed, generator):
    """Equilibrium links (20, 2, 6, 4) and momenta."""
    x = torch.from_numpy(sample_u1(BETA, *SHAPE, make_streams(seed, "test", range(20)))[0])
    return x, torch.randn(x.shape, generator=generator, dtype=torch.float64)


def delta_h(action, begin, integrator, n_md_steps):
    """The root mean square of delta_h over trajectories of one length."""

    def energy(x, p):
        return WilsonU1(BETA)(x) + 0.5 * p.square().flatten(1).sum(1)

    end = integrate(action, *begin, integrator, LENGTH / n_md_steps, n_md_steps)
    return float((energy(*end) - energy(*begin)).square().mean().sqrt())


def test_a_step_is_a_palindrome_and_adds_up_to_one(integrator):
    for coefficients in (integrator.drifts, integrator.kicks):
        np.testing.assert_array_equal(coefficients, coefficients[::-1])
        assert coefficients.sum() == pytest.approx(1.0, abs=1e-15)
    assert len(integrator.drifts) == len(integrator.kicks) + 1


def test_delta_h_falls_with_the_order(integrator, begin):
    n = 96 // len(integrator.kicks)
    ratio = delta_h(WilsonU1(BETA), begin, integrator, n) / delta_h(WilsonU1(BETA), begin, integrator, 2 * n)
    assert np.log2(ratio) == pytest.approx(integrator.order, abs=0.1)


class ForceOff(WilsonU1):
    """A force one per cent off."""

    def force(self, x):
        return 1.01 * super().force(x)


def test_a_wrong_force_spoils_the_order(integrator, begin):
    n = 64 // len(integrator.kicks)
    ratio = delta_h(ForceOff(BETA), begin, integrator, n) / delta_h(ForceOff(BETA), begin, integrator, 2 * n)
    assert np.log2(ratio) < 1.0


def test_the_digits_of_the_coefficients_matter(begin):
    """A fourth-order scheme with one coefficient one per cent off is of second order only."""
    drifts, kicks, _ = INTEGRATORS["omelyan4"]
    kicks = kicks + 0.01 * kicks[1] * np.array([0, 1, -2, 1, 0])
    off = INTEGRATORS["omelyan4"]._replace(drifts=drifts, kicks=kicks)
    ratio = delta_h(WilsonU1(BETA), begin, off, 20) / delta_h(WilsonU1(BETA), begin, off, 40)
    assert np.log2(ratio) < 2.5


def test_minimum_norm_pays_at_equal_cost(begin):
    """At 24 forces a trajectory, two of them a step instead of one. The norms of the errors are as 2.7 to 1."""
    errors = {
        name: delta_h(WilsonU1(BETA), begin, integrator, 24 // len(integrator.kicks))
        for name, integrator in INTEGRATORS.items()
    }
    assert errors["omelyan"] < 0.5 * errors["leapfrog"]
    other = INTEGRATORS["omelyan"]._replace(drifts=np.array([0.25, 0.5, 0.25]))  # leapfrog of half the step
    assert delta_h(WilsonU1(BETA), begin, other, 12) == pytest.approx(errors["leapfrog"], rel=1e-9)


def test_there_and_back(integrator, begin):
    end, p = integrate(WilsonU1(BETA), *begin, integrator, 0.1, 8)
    back, minus_p = integrate(WilsonU1(BETA), end, -p, integrator, 0.1, 8)
    torch.testing.assert_close(back, begin[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(minus_p, -begin[1], rtol=0, atol=1e-12)


def test_steps_follow_one_another(integrator, begin):
    """Merging the drifts between steps changes nothing but rounding."""
    once = integrate(WilsonU1(BETA), *begin, integrator, 0.1, 3)
    x, p = begin
    for _ in range(3):
        x, p = integrate(WilsonU1(BETA), x, p, integrator, 0.1, 1)
    torch.testing.assert_close((x, p), once, rtol=0, atol=1e-12)


def test_the_volume_of_phase_space_is_kept(integrator, generator):
    """The determinant of the Jacobian of one trajectory on a 2x2 lattice is one."""
    z = torch.randn(16, generator=generator, dtype=torch.float64)

    def flow(z):
        x, p = z.view(2, 1, 2, 2, 2)
        return torch.cat([part.flatten() for part in integrate(WilsonU1(BETA), x, p, integrator, 0.3, 2)])

    jacobian = torch.autograd.functional.jacobian(flow, z)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-10)
