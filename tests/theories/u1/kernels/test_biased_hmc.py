"""HMC under a bias of the smooth charge: force, accept step, reweighting to the closed forms, and the bias itself."""

import numba
import numpy as np
import pytest

from lattice_flows.kernels import hmc
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.grid_bias import bias_at, deposit
from lattice_flows.kernels.random import make_streams, normals, uniforms
from lattice_flows.samplers.integrators import INTEGRATORS
from lattice_flows.statistics import reweighted
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import biased_hmc as biased
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.biased_hmc import BiasedWilson
from lattice_flows.theories.u1.kernels.dynamics import Wilson

Q_MAX = 0.6  # about 1.5 standard deviations of Q_s at beta = 2 on 4x4: the edges are visited
GRID = np.linspace(-Q_MAX, Q_MAX, 13)


def some_bias(n_chains):
    """V = 3 - 3 (q / q_max)^2 on the grid, which widens the distribution of Q_s; scaled from chain to chain."""
    return (3.0 - 3.0 * (GRID / Q_MAX) ** 2) * np.linspace(0.8, 1.2, n_chains)[:, None]


def begin(beta, shape, n_chains, seed):
    x, streams = sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains)))
    return x, hmc.action(Wilson(beta), x), biased.smooth_charge(x), streams


def test_smooth_charge(rng):
    links = rng.uniform(-np.pi, np.pi, (4, 2, 5, 6))
    t0, t1 = links[:, 0], links[:, 1]
    p = t0 + np.roll(t1, -1, axis=1) - np.roll(t0, -1, axis=2) - t1
    np.testing.assert_allclose(biased.smooth_charge(links), np.sin(p).sum((1, 2)) / (2 * np.pi), rtol=0, atol=1e-13)


def test_the_bias_is_linear_inside_and_constant_outside(rng):
    bias = rng.normal(size=(200, 13))
    q = rng.uniform(-2 * Q_MAX, 2 * Q_MAX, 200)
    q[:4] = [-Q_MAX, Q_MAX, 0.0, GRID[5]]
    expected = [np.interp(one, GRID, values) for one, values in zip(q, bias, strict=True)]  # constant outside, too
    np.testing.assert_allclose(bias_at(bias, Q_MAX, q), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 2)], ids=str)
def test_the_force_is_minus_the_gradient(shape, seed, rng):
    """S + V is differentiated numerically."""
    x, *_ = begin(1.0, shape, 6, seed)
    bias = rng.normal(size=(6, 4))  # coarse: finite differences must not meet a kink
    force = hmc.force(BiasedWilson(1.3, bias, Q_MAX), x)
    without = hmc.force(BiasedWilson(1.3, 0.0 * bias, Q_MAX), x)

    def energy(x):
        return hmc.action(Wilson(1.3), x) + bias_at(bias, Q_MAX, biased.smooth_charge(x))

    h = 1e-5
    for index in [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, shape[0] - 1, shape[1] - 1)]:
        step = np.zeros_like(x)
        step[(slice(None), *index)] = h
        slope = (energy(x + step) - energy(x - step)) / (2 * h)
        np.testing.assert_allclose(force[(slice(None), *index)], -slope, rtol=0, atol=1e-8)
    np.testing.assert_allclose(without, hmc.force(Wilson(1.3), x), rtol=0, atol=1e-14)
    inside = abs(biased.smooth_charge(x)) < Q_MAX
    assert (abs(force - without).max((1, 2, 3)) > 1e-3)[inside].all()
    np.testing.assert_array_equal(force[~inside], without[~inside])


def test_a_flat_bias_is_none(seed):
    x, s, q, streams = begin(2.0, (6, 4), 3, seed)
    drifts, kicks, _ = INTEGRATORS["omelyan"]
    run = (drifts, kicks, np.full(3, 0.2), 5, 4)
    found = hmc.biased_trajectories(BiasedWilson(2.0, np.full((3, 5), 7.0), 1.0), x, s, q, streams, *run)
    expected = hmc.trajectories(Wilson(2.0), x, s, streams, *run)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found[3], expected[2])
    np.testing.assert_array_equal(found[4], expected[3])


@pytest.mark.parametrize("name", INTEGRATORS)
def test_there_and_back(name, seed):
    x, _, _, streams = begin(2.0, (6, 4), 4, seed)
    momenta = normals(streams, x[0].size)[0].reshape(x.shape)
    couplings, run = BiasedWilson(2.0, some_bias(4), Q_MAX), (*INTEGRATORS[name][:2], np.full(4, 0.1), 6)
    end, p = hmc.integrate(couplings, x, momenta, *run)
    back, minus_p = hmc.integrate(couplings, end, -p, *run)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(minus_p, -momenta, rtol=0, atol=1e-11)


N, DRIFTS, KICKS = 4, *INTEGRATORS["leapfrog"][:2]


def trajectories(state, bias, n_updates=1):
    steps = np.full(len(bias), 1.0 / N)
    return hmc.biased_trajectories(BiasedWilson(2.0, bias, Q_MAX), *state, DRIFTS, KICKS, steps, N, n_updates)


def plain(x, s, q, streams, bias, accept_bias):
    """One trajectory by the definition; with accept_bias != bias the accept step tests another potential."""
    momenta, streams = normals(streams, x[0].size)
    u, streams = uniforms(streams, 1)
    p = momenta.reshape(x.shape)
    end, p = hmc.integrate(BiasedWilson(2.0, bias, Q_MAX), x, p, DRIFTS, KICKS, np.full(len(x), 1.0 / N), N)
    action, charge = hmc.action(Wilson(2.0), end), biased.smooth_charge(end)
    kinetic = 0.5 * (np.square(p).sum((1, 2, 3)) - np.square(momenta).sum(1))
    potential = bias_at(accept_bias, Q_MAX, charge) - bias_at(accept_bias, Q_MAX, q)
    delta_h = action - s + kinetic + potential
    accept = np.array([fast_log(one) for one in u[:, 0]]) < -delta_h
    x = np.where(accept[:, None, None, None], end, x)
    return x, np.where(accept, action, s), np.where(accept, charge, q), streams, accept, delta_h


def test_against_the_definition(seed):
    bias, state = some_bias(8), begin(2.0, (4, 4), 8, seed)
    other = state
    for _ in range(10):
        *state, accepted, delta_h = trajectories(state, bias)
        *other, expected_accepted, expected_delta_h = plain(*other, bias, bias)
        np.testing.assert_allclose(np.exp(1j * state[0]), np.exp(1j * other[0]), rtol=0, atol=1e-10)
        for one, two in zip((*state[1:3], delta_h), (*other[1:3], expected_delta_h), strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(accepted, expected_accepted)
    np.testing.assert_allclose(state[2], biased.smooth_charge(state[0]), rtol=0, atol=1e-13)


def pulls(step, state, bias, n_configs):
    """Of averages with the weights exp(+V), after some thermalisation under the bias."""
    exact, series = ExactU1(2.0, 16), {"plaquette": [], "charge squared": [], "log_w": []}
    for k in range(n_configs + 10):
        state = step(state)
        if k >= 10:
            series["plaquette"].append(u1.mean_plaquette(state[0]))
            series["charge squared"].append(u1.topological_charge(state[0]) ** 2)
            series["log_w"].append(bias_at(bias, Q_MAX, state[2]))
    log_w = np.array(series.pop("log_w"))
    found = {name: reweighted(np.array(values), log_w) for name, values in series.items()}
    truth = {"plaquette": exact.plaquette, "charge squared": exact.charge_squared}
    return {name: (estimate.value - truth[name]) / estimate.error for name, estimate in found.items()}


def test_reweighting_gives_the_closed_forms(seed):
    bias, state = some_bias(40), begin(2.0, (4, 4), 40, seed)

    def step(state):
        return trajectories(state, bias, 3)[:4]

    found = pulls(step, state, bias, 1000)
    assert max(map(abs, found.values())) < 4.5, found


def test_an_accept_step_without_the_bias_is_caught(seed):
    bias, state = some_bias(200), begin(2.0, (4, 4), 200, seed)
    right = pulls(lambda state: plain(*state, bias, bias)[:4], state, bias, 200)
    wrong = pulls(lambda state: plain(*state, bias, 0.0 * bias)[:4], state, bias, 200)
    assert max(map(abs, right.values())) < 4.5, right
    assert max(map(abs, wrong.values())) > 4.5, wrong


def test_mean_of_exp_minus_delta_h_is_one(seed):
    """From direct starts, which the weights exp(-V) turn into equilibrium under the bias: no thermalisation needed."""
    bias, state = some_bias(60_000), begin(2.0, (4, 4), 60_000, seed)
    *_, accepted, delta_h = trajectories(state, bias)
    w = np.exp(-bias_at(bias, Q_MAX, state[2]))
    difference = w * (np.exp(-delta_h) - 1.0)
    assert abs(difference.mean()) < 4.5 * difference.std() / len(w) ** 0.5
    unweighted = np.exp(-delta_h) - 1.0  # the wrong ensemble, as a planted error
    assert abs(unweighted.mean()) > 4.5 * unweighted.std() / len(w) ** 0.5
    assert 0.3 < accepted.mean() < 0.999


def test_deposit():
    bias, q = some_bias(3), np.array([0.2, -0.35, 0.9])  # the last one is outside
    new = deposit(bias, Q_MAX, [q, -q], 0.5, 0.1, 6.0)
    np.testing.assert_array_equal(bias, some_bias(3))
    np.testing.assert_array_equal(new[2], bias[2])
    for b in range(2):
        height = 0.5 * np.exp(-np.interp(q[b], GRID, bias[b]) / 5.0)
        hills = sum(np.exp(-0.5 * ((GRID - centre) / 0.1) ** 2) for centre in (q[b], -q[b]))
        np.testing.assert_allclose(new[b] - bias[b], height * hills, rtol=0, atol=1e-14)
    np.testing.assert_allclose(new, new[:, ::-1], rtol=0, atol=1e-14)
    plain_metadynamics = deposit(bias, Q_MAX, [q, -q], 0.5, 0.1, np.inf) - bias
    assert plain_metadynamics[0].max() > (new - bias)[0].max()


def test_metadynamics_raises_the_valley_it_sits_in(seed):
    """Well-tempered deposits from a frozen chain flatten the distribution: Q_s wanders further than without."""
    run = (*INTEGRATORS["omelyan"][:2], np.full(20, 0.25), 4, 1)
    state = begin(8.0, (8, 8), 20, seed)
    bias, farthest = np.zeros((20, 61)), {}
    for height in (0.0, 0.1):
        chains, visited = state, []
        for _ in range(300):
            *chains, _, _ = hmc.biased_trajectories(BiasedWilson(8.0, bias, 2.0), *chains, *run)
            bias = deposit(bias, 2.0, [chains[2], -chains[2]], height, 0.1, 10.0)
            visited.append(chains[2])
        farthest[height] = np.abs(visited).max(axis=0).mean()
    assert farthest[0.1] > farthest[0.0] + 0.2


def test_arguments_are_left_alone_and_bits_do_not_depend_on_threads_or_grouping(seed):
    state, bias = begin(2.0, (5, 4), 5, seed), some_bias(5)
    was = [part.copy() for part in (*state, bias)]

    def run(part):
        return trajectories([array[part] for array in state], bias[part], 10)

    whole = run(slice(None))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    apart = [np.concatenate(parts) for parts in zip(*(run(slice(k, k + 1)) for k in range(5)), strict=True)]
    for result in (run(slice(None)), apart):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    for part, before in zip((*state, bias), was, strict=True):
        np.testing.assert_array_equal(part, before)
