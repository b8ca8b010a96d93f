"""The gradient flow of U(1) links: its order, its exact limits, and what it must keep."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from lattice_flows import lattice
from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import sample_u1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1.kernels.gradient_flow import STEP_SIZE, flow_steps, gradient_flow, whole_steps

pytestmark = pytest.mark.quick

SHAPES = [(4, 4), (3, 5), (2, 2), (8, 6)]


@pytest.fixture(params=SHAPES, ids=str)
def links(request, rng):
    return rng.uniform(-np.pi, np.pi, (6, 2, *request.param))


def distance(one, other):
    """The largest difference of two angles."""
    return np.abs(np.angle(np.exp(1j * (one - other)))).max()


def plaquettes(links):
    return lattice.plaquette(torch.from_numpy(links), 0, 1).numpy()


def test_against_another_integrator(rng):
    shape = (2, 3, 4)
    start = rng.uniform(-1.0, 1.0, shape)
    solution = solve_ivp(
        lambda t, x: hmc.force(Wilson(1.0), x.reshape(1, *shape)).ravel(),
        (0.0, 0.7),
        start.ravel(),
        rtol=1e-11,
        atol=1e-12,
    )
    end = solution.y[:, -1].reshape(shape)
    assert distance(gradient_flow(start[None], 0.7, 0.001)[0], end) < 1e-8
    assert distance(gradient_flow(start[None], 0.7)[0], end) < 1e-4
    # A flow time that is one per cent off would be seen.
    assert distance(gradient_flow(start[None], 0.707, 0.001)[0], end) > 1e-4


def test_third_order(rng):
    start = rng.uniform(-1.0, 1.0, (4, 2, 8, 8))
    true = gradient_flow(start, 0.6, 0.0025)
    errors = [distance(gradient_flow(start, 0.6, step_size), true) for step_size in (0.04, 0.02, 0.01)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(orders - 3.0) < 0.25), orders


def test_error_at_the_default_step_is_far_below_physics(seed):
    """A millionth of the plaquette, where 200 configurations know it to a thousandth."""
    links, _ = sample_u1(6.0, 8, 8, make_streams(seed, "test", range(200)))
    for flow_time in (0.1, 0.5, 2.0):
        ours, true = (u1.mean_plaquette(gradient_flow(links, flow_time, h)) for h in (STEP_SIZE, 0.002))
        assert abs((ours - true).mean()) < 1e-6
        assert abs((ours - true).mean()) < 1e-2 * true.std() / np.sqrt(len(true))


def test_weak_fields_diffuse(rng):
    """For small angles the plaquettes obey the heat equation on the lattice, mode by mode; the rest does not move."""
    shape, flow_time, n_steps = (6, 5), 0.5, 25
    links = 1e-7 * rng.standard_normal((3, 2, *shape))
    k = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(length) for length in shape), indexing="ij")
    rate = sum(4 * np.sin(0.5 * one) ** 2 for one in k)
    start = np.fft.fft2(plaquettes(links))
    flowed = gradient_flow(links, flow_time)
    modes = np.fft.fft2(plaquettes(flowed))
    z = rate * flow_time / n_steps
    np.testing.assert_allclose(modes, start * (1 - z + z**2 / 2 - z**3 / 6) ** n_steps, rtol=0, atol=1e-12 * 30)
    np.testing.assert_allclose(modes, start * np.exp(-rate * flow_time), rtol=0, atol=1e-4 * np.abs(start).max())
    # The longitudinal part, the divergence of the links, does not move: the flow fixes no gauge.
    before, after = (sum(x[:, mu] - np.roll(x[:, mu], 1, mu + 1) for mu in (0, 1)) for x in (links, flowed))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-20)


def test_the_action_falls(links):
    actions = [hmc.action(Wilson(1.0), links)]
    for _ in range(60):
        links = flow_steps(links, 1, STEP_SIZE)
        actions.append(hmc.action(Wilson(1.0), links))
    assert np.all(np.diff(actions, axis=0) < 0)


def test_gauge_transformations_go_through(links, rng):
    alpha = torch.from_numpy(rng.uniform(-np.pi, np.pi, (len(links), *links.shape[2:])))
    transformed = lattice.gauge_transform(torch.from_numpy(links), alpha).numpy()
    after = lattice.gauge_transform(torch.from_numpy(gradient_flow(links, 0.3)), alpha).numpy()
    assert distance(gradient_flow(transformed, 0.3), after) < 1e-12


def test_angles_stay_in_their_interval_and_arguments_as_they_are(links):
    before = links.copy()
    flowed = gradient_flow(links, 1.01)
    assert np.all((flowed >= -np.pi) & (flowed < np.pi))
    np.testing.assert_array_equal(links, before)
    np.testing.assert_array_equal(gradient_flow(links, 0.0), links)


def test_later_times_pass_through_earlier_ones_to_the_bit(links):
    halfway = gradient_flow(links, 0.5)
    np.testing.assert_array_equal(flow_steps(halfway, 25, STEP_SIZE), gradient_flow(links, 1.0))
    apart = [gradient_flow(one[None], 0.51)[0] for one in links]
    np.testing.assert_array_equal(gradient_flow(links, 0.51), apart)


def test_whole_steps():
    assert whole_steps(0.0) == (0, 0.0)
    assert whole_steps(0.5, 0.02) == (25, 0.0)
    assert whole_steps(0.3, 0.1) == (3, 0.0)
    n_steps, rest = whole_steps(0.25, 0.1)
    assert n_steps == 2
    assert rest == pytest.approx(0.05)
    for wrong in ((-0.1, 0.02), (float("nan"), 0.02), (0.1, 0.0)):
        with pytest.raises(ValueError, match="flow time"):
            whole_steps(*wrong)
