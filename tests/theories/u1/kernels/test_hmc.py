"""Compiled HMC of 2D U(1): every integrator against torch, Creutz's equality, threads and grouping."""

import numba
import numpy as np
import pytest
import torch

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson

pytestmark = pytest.mark.quick


@pytest.fixture(params=INTEGRATORS)
def integrator(request):
    return INTEGRATORS[request.param]


def begin(beta, shape, n_chains, seed):
    x, streams = sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains)))
    return x, hmc.action(Wilson(beta), x), streams


@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (5, 3), (2, 2)], ids=str)
def test_against_torch(integrator, shape, seed):
    x, _, streams = begin(2.0, shape, 3, seed)
    momenta = normals(streams, x[0].size)[0].reshape(x.shape)
    expected = integrate(WilsonU1(2.0), torch.from_numpy(x), torch.from_numpy(momenta), integrator, 0.1, 6)
    found = hmc.integrate(Wilson(2.0), x, momenta, integrator.drifts, integrator.kicks, np.full(3, 0.1), 6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-12)


def test_mean_of_exp_minus_delta_h_is_one(integrator, seed):
    """Creutz's equality at ten forces a trajectory. Chains are independent draws in equilibrium: errors are plain."""
    n = 10 // len(integrator.kicks)
    x, s, streams = begin(2.0, (6, 6), 20_000, seed)
    run = (integrator.drifts, integrator.kicks, np.full(len(x), 1.0 / n), n, 1)
    end, action, _, accepted, delta_h = hmc.trajectories(Wilson(2.0), x, s, streams, *run)
    assert abs(pull_from_one(np.exp(-delta_h))) < 4.5
    assert 0.2 < accepted.mean() < 0.999  # the test is not empty
    np.testing.assert_allclose(action, hmc.action(Wilson(2.0), end), rtol=1e-12, atol=1e-12)
    wrong = hmc.trajectories(Wilson(2.0), x, 1.01 * s, streams, *run)[
        4
    ]  # a planted error: the old action one per cent off
    assert abs(pull_from_one(np.exp(-wrong))) > 4.5


def pull_from_one(w):
    return (w.mean() - 1.0) * len(w) ** 0.5 / w.std()


def test_the_arguments_are_left_alone(seed):
    arguments = begin(2.0, (4, 4), 2, seed)
    before = [part.copy() for part in arguments]
    drifts, kicks, _ = INTEGRATORS["omelyan"]
    hmc.trajectories(Wilson(2.0), *arguments, drifts, kicks, np.full(2, 0.2), 5, 3)
    for part, was in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(part, was)


@pytest.mark.parametrize("shape", [(8, 8), (5, 3)], ids=str)
def test_same_bits_for_any_threads_grouping_and_number_of_updates_a_call(shape, seed):
    drifts, kicks, _ = INTEGRATORS["omelyan4"]
    x, s, streams = begin(2.0, shape, 5, seed)
    steps = np.linspace(0.25, 0.35, 5)  # each chain has its own

    def run(part, n_updates):
        chains = x[part], s[part], streams[part]
        return hmc.trajectories(Wilson(2.0), *chains, drifts, kicks, steps[part], 3, n_updates)[:3]

    whole = run(slice(None), 6)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded = run(slice(None), 6)
    apart = [np.concatenate(parts) for parts in zip(*(run(slice(k, k + 1), 6) for k in range(5)), strict=True)]
    x, s, streams = run(slice(None), 2)
    for result in (threaded, apart, run(slice(None), 4)):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
