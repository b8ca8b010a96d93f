"""Compiled U(1) with rectangles: action, force, HMC and the hop against torch, Creutz's equality, threads."""

import numba
import numpy as np
import pytest
import torch

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams, normals, uniforms
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import ImprovedU1, sample_u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1.kernels.instanton import instanton
from lattice_flows.theories.u1_improved.kernels.dynamics import LoopCouplings

THEORIES = [ImprovedU1(6.0, 1.0 / 12.0), ImprovedU1(3.0, -1.0 / 12.0), ImprovedU1(2.0, 0.0)]
SHAPES = [(2, 2), (2, 5), (3, 2), (1, 4), (4, 1), (5, 7), (16, 16), (3, 17)]


@pytest.fixture(params=THEORIES, ids=lambda action: f"beta{action.beta}-c1{action.c1:+.3f}")
def action(request):
    return request.param


@pytest.fixture(params=INTEGRATORS)
def integrator(request):
    return INTEGRATORS[request.param]


def begin(shape, n_chains, seed, beta=4.0):
    return sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_action_and_force(action, shape, rng):
    x = rng.uniform(-np.pi, np.pi, (5, 2, *shape))
    couplings = action.loop_couplings
    np.testing.assert_allclose(hmc.action(couplings, x), action(torch.from_numpy(x)).numpy(), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(hmc.force(couplings, x), action.force(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-13)


def test_small_angles_keep_their_digits(rng):
    x = 1e-9 * rng.standard_normal((3, 2, 4, 4))
    p = x[:, 0] + np.roll(x[:, 1], -1, 1) - np.roll(x[:, 0], -1, 2) - x[:, 1]
    pairs = np.square(p + np.roll(p, -1, 1)).sum((1, 2)) + np.square(p + np.roll(p, -1, 2)).sum((1, 2))
    action = ImprovedU1(1.0, 0.05)
    expected = 0.5 * (0.6 * np.square(p).sum((1, 2)) + 0.05 * pairs)
    np.testing.assert_allclose(hmc.action(action.loop_couplings, x), expected, rtol=1e-12)
    np.testing.assert_allclose(action(torch.from_numpy(x)).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (5, 3), (2, 2)], ids=str)
def test_trajectories_against_torch(action, integrator, shape, seed):
    x, streams = begin(shape, 3, seed)
    momenta = normals(streams, x[0].size)[0].reshape(x.shape)
    expected = integrate(action, torch.from_numpy(x), torch.from_numpy(momenta), integrator, 0.08, 6)
    run = (integrator.drifts, integrator.kicks, np.full(3, 0.08), 6)
    found = hmc.integrate(action.loop_couplings, x, momenta, *run)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3)], ids=str)
def test_trajectories_are_reversible(action, integrator, shape, seed):
    x, streams = begin(shape, 4, seed)
    momenta = normals(streams, x[0].size)[0].reshape(x.shape)
    run = (integrator.drifts, integrator.kicks, np.full(4, 0.1), 8)
    end, p = hmc.integrate(action.loop_couplings, x, momenta, *run)
    back, p = hmc.integrate(action.loop_couplings, end, -p, *run)
    assert np.abs(end - x).max() > 0.1
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(-p, momenta, rtol=0, atol=1e-11)


def equilibrium(action, shape, n, seed):
    """Independent configurations of the target, to the accuracy of 100 trajectories and hops of each chain."""
    x, streams = begin(shape, n, seed, beta=action.beta)
    couplings, run = action.loop_couplings, (*INTEGRATORS["omelyan"][:2], np.full(n, 0.15), 4, 4)
    s = hmc.action(couplings, x)
    for _ in range(25):
        x, s, streams, _, _ = hmc.trajectories(couplings, x, s, streams, *run)
        x, streams, _ = instanton(x, streams, *couplings, 4)
        s = hmc.action(couplings, x)
    return x, s, streams


@pytest.mark.parametrize("action", THEORIES[:2], ids=["positive", "negative"])
def test_mean_of_exp_minus_delta_h_is_one(action, seed):
    """Creutz's equality. The chains are independent: errors are plain."""
    x, s, streams = equilibrium(action, (6, 6), 2000, seed)
    couplings, run = action.loop_couplings, (*INTEGRATORS["leapfrog"][:2], np.full(len(x), 0.1), 5, 1)
    end, after, _, accepted, delta_h = hmc.trajectories(couplings, x, s, streams, *run)
    assert 0.2 < accepted.mean() < 0.99  # the test is not empty
    assert abs(pull_from_one(np.exp(-delta_h))) < 4.5
    np.testing.assert_allclose(after, hmc.action(couplings, end), rtol=1e-12, atol=1e-12)
    wrong = hmc.trajectories(couplings, x, 1.01 * s, streams, *run)[
        4
    ]  # a planted error: the old action one per cent off
    assert abs(pull_from_one(np.exp(-wrong))) > 4.5


def pull_from_one(w):
    return (w.mean() - 1.0) * len(w) ** 0.5 / w.std()


def test_without_rectangles_all_bits_are_those_of_the_wilson_kernels(seed):
    x, streams = begin((5, 6), 4, seed)
    s = hmc.action(Wilson(2.0), x)
    run = (*INTEGRATORS["omelyan"][:2], np.full(4, 0.2), 5, 6)
    one = hmc.trajectories(LoopCouplings(2.0, 0.0), x, s, streams, *run)
    other = hmc.trajectories(Wilson(2.0), x, s, streams, *run)
    for part, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, same)


def flux_field(shape):
    """The field of one unit of uniform flux, written out."""
    l0, l1 = shape
    field = np.zeros((2, l0, l1))
    field[1] = 2.0 * np.pi * np.arange(l0)[:, None] / (l0 * l1)
    field[0, -1] = -2.0 * np.pi * np.arange(l1) / l1
    return field


@pytest.mark.parametrize("action", THEORIES[:2], ids=["positive", "negative"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (4, 6), (8, 5)], ids=str)
def test_every_hop_is_decided_as_the_whole_action_asks(action, shape, seed):
    """With the same two uniform deviates: the first chooses the sign, the second decides."""
    x, streams = begin(shape, 20_000, seed, beta=1.0)
    y, later, fraction = instanton(x, streams, *action.loop_couplings, 1)
    deviates, after = uniforms(streams, 2)
    np.testing.assert_array_equal(later, after)
    sign = np.where(deviates[:, 0] < 0.5, 1.0, -1.0)[:, None, None, None]
    new = x + sign * flux_field(shape)

    def wrong_decisions(plain, rectangle):
        couplings = LoopCouplings(plain, rectangle)
        rise = hmc.action(couplings, new) - hmc.action(couplings, x)
        margin = np.log(deviates[:, 1]) + rise
        return ((margin < 0) != (fraction == 1.0)) & (np.abs(margin) > 1e-9)

    assert 0.0 < fraction.mean() < 1.0
    plain, rectangle = action.loop_couplings
    assert not wrong_decisions(plain, rectangle).any()
    assert wrong_decisions(plain, 1.02 * rectangle).any()  # planted errors
    assert wrong_decisions(1.02 * plain, rectangle).any()
    hopped = fraction == 1.0
    np.testing.assert_allclose(np.exp(1j * y[hopped]), np.exp(1j * new[hopped]), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(y[~hopped], x[~hopped])


@pytest.mark.parametrize("shape", [(4, 6), (2, 2), (5, 3)], ids=str)
def test_hops_at_once_are_hops_one_by_one(shape, seed):
    x, streams = begin(shape, 50, seed, beta=1.0)
    whole, whole_streams, fraction = instanton(x, streams, 0.5, 0.1, 40)
    y, accepted = x, 0.0
    for _ in range(40):
        y, streams, one = instanton(y, streams, 0.5, 0.1, 1)
        accepted += one
    np.testing.assert_array_equal(whole_streams, streams)
    np.testing.assert_allclose(40 * fraction, accepted, rtol=0, atol=1e-9)
    assert accepted.max() > 3
    np.testing.assert_allclose(np.exp(1j * whole), np.exp(1j * y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (5, 3)], ids=str)
def test_same_bits_for_any_threads_and_grouping_and_arguments_left_alone(shape, seed):
    couplings = THEORIES[1].loop_couplings
    settings = (*INTEGRATORS["omelyan"][:2], np.full(5, 0.2))
    x, streams = begin(shape, 5, seed)
    s = hmc.action(couplings, x)
    before = x.copy(), s.copy(), streams.copy()

    def run(part):
        drifts, kicks, steps = settings
        chains = x[part], s[part], streams[part]
        y, action, stream, *_ = hmc.trajectories(couplings, *chains, drifts, kicks, steps[part], 3, 4)
        return *instanton(y, stream, *couplings, 7), action

    whole = run(slice(None))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded = run(slice(None))
    apart = [np.concatenate(parts) for parts in zip(*(run(slice(k, k + 1)) for k in range(5)), strict=True)]
    for result in (threaded, apart):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    for part, was in zip((x, s, streams), before, strict=True):
        np.testing.assert_array_equal(part, was)
