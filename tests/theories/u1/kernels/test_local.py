"""Local updates of 2D U(1): each against its exact density or reflection, and all against the closed forms."""

import numba
import numpy as np
import pytest
from scipy import stats
from scipy.special import ive

from lattice_flows.kernels import hmc
from lattice_flows.kernels.elementary import wrap
from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels import local as local_u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson

wrapped = numba.vectorize(["float64(float64)"])(lambda x: wrap(x))

SHAPES = [(4, 4), (3, 5), (2, 2), (6, 10), (2, 7), (9, 8)]
UPDATES = {
    "heatbath": lambda x, streams, beta, n: local_u1.heatbath(x, streams, beta, n),
    "metropolis": lambda x, streams, beta, n: local_u1.metropolis(x, streams, beta, 1.2, n)[:2],
    "overrelaxation": lambda x, streams, beta, n: (local_u1.overrelaxation(x, n), streams),
    "both": lambda x, streams, beta, n: local_u1.heatbath(local_u1.overrelaxation(x, n), streams, beta, n),
}


def plaquettes(x):
    """P(n) of links (B, 2, L0, L1), written with rolls."""
    t0, t1 = x[:, 0], x[:, 1]
    return t0 + np.roll(t1, -1, 1) - np.roll(t0, -1, 2) - t1


def centres(x, mu):
    """The angles a and b that the two plaquettes of every link along mu ask for, (B, L0, L1) each."""
    p, theta = plaquettes(x), x[:, mu]
    forward, backward = (p, np.roll(p, 1, 2)) if mu == 0 else (np.roll(p, 1, 1), p)
    return theta - forward, theta + backward


def classes(shape):
    """Index of every class in the order of a sweep: (mu, rows, columns)."""
    for mu in range(2):
        extent = shape[1 - mu]
        even = extent - extent % 2
        parts = [slice(0, even, 2), slice(1, even, 2)] + [slice(even, extent)] * (extent % 2)
        for part in parts:
            yield (mu, slice(None), part) if mu == 0 else (mu, part, slice(None))


def reflected(x, order):
    x = x.copy()
    for mu, rows, columns in order:
        a, b = centres(x, mu)
        site = (slice(None), rows, columns)
        x[(slice(None), mu, *site[1:])] = (a + b - x[:, mu])[site]
    return wrapped(x)


def direct(beta, shape, n, seed):
    return sample_u1(beta, *shape, make_streams(seed, "test", range(n)))


def pull(values, truth):
    error = values.std() / np.sqrt(values.size)
    return 0.0 if error < 1e-12 else (values.mean() - truth) / error


def pulls(x, beta, shape):
    exact = ExactU1(beta, shape[0] * shape[1])
    return {
        "plaquette": pull(u1.mean_plaquette(x), exact.plaquette),
        "charge_squared": pull(np.rint(u1.topological_charge(x)) ** 2, exact.charge_squared),
        "wilson_loop_1x2": pull(u1.mean_wilson_loop(x, 1, 2), exact.wilson_loop(2)),
        "polyakov": pull(u1.mean_polyakov_correlator(x, 0, 1), exact.wilson_loop(shape[0])),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", UPDATES)
def test_invariance_from_direct_starts(name, shape, seed):
    x, streams = direct(1.5, shape, 8000, seed)
    y, streams = UPDATES[name](x, streams, 1.5, 2)
    assert not np.allclose(x[:, 0], y[:, 0])
    assert not np.allclose(x[:, 1], y[:, 1])
    assert (y >= -np.pi).all()
    assert (y < np.pi).all()
    found = pulls(y, 1.5, shape)
    assert max(map(abs, found.values())) < 4.5, found


@pytest.mark.parametrize("name", ["heatbath", "metropolis"])
def test_a_wrong_coupling_is_caught(name, seed):
    x, streams = direct(2.0, (6, 10), 20_000, seed)
    right, _ = UPDATES[name](x, streams, 2.0, 10)
    wrong, _ = UPDATES[name](x, streams, 1.01 * 2.0, 10)
    assert max(map(abs, pulls(right, 2.0, (6, 10)).values())) < 4.5
    assert abs(pulls(wrong, 2.0, (6, 10))["plaquette"]) > 4.5


@pytest.mark.parametrize("name", UPDATES)
def test_distributions_on_two_by_two(name, seed):
    """The law of one plaquette and of a 1x2 loop, sum_n f(n)^(4-A) cos(n x) over the loop's own weight."""
    x, streams = direct(1.0, (2, 2), 100_000, seed)
    y, _ = UPDATES[name](x, streams, 1.0, 1)
    p = plaquettes(y)
    assert _chi2_pvalue(p[:, 0, 0], 1, 1.0) > 1e-4
    assert _chi2_pvalue(p[:, 0, 0] + p[:, 1, 0], 2, 1.0) > 1e-4
    assert _chi2_pvalue(p[:, 0, 0], 1, 1.1) < 1e-4  # planted errors
    assert _chi2_pvalue(p[:, 0, 0] + p[:, 1, 0], 2, 1.1) < 1e-4


def _chi2_pvalue(angles, area, beta):
    """Of the histogram of a loop's angle on four sites."""
    fine = np.linspace(-np.pi, np.pi, 40 * 32 + 1)
    middle, orders = 0.5 * (fine[1:] + fine[:-1]), np.arange(-30, 31)
    waves, f = np.cos(np.outer(middle, orders)), ive(np.abs(orders), beta)
    density = (waves @ f**area) * (waves @ f ** (4 - area))
    expected = density.reshape(40, 32).sum(1) / density.sum() * angles.size
    observed, _ = np.histogram(wrapped(angles), np.linspace(-np.pi, np.pi, 41))
    return stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), 39)


# heat bath


def cumulative(theta, a, b, beta):
    """int exp(beta [cos(t - a) + cos(t - b)]) dt / 2 pi up to theta, by Gauss-Legendre from the top of the density."""
    centre = np.angle(np.exp(1j * a) + np.exp(1j * b))
    kappa = beta * np.abs(np.exp(1j * a) + np.exp(1j * b))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    x = wrapped(theta - centre)
    t = centre[:, None] + 0.5 * np.outer(x, nodes + 1.0)
    density = np.exp(beta * (np.cos(t - a[:, None]) + np.cos(t - b[:, None])) - kappa[:, None])
    return 0.5 + 0.5 * x * (density @ weights) / (2.0 * np.pi * ive(0, kappa))


@pytest.mark.parametrize("beta", [0.0, 0.01, 1.0, 6.0, 60.0])
@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (2, 2)], ids=str)
def test_heat_bath_draws_from_the_exact_conditional_density(shape, beta, seed):
    """The first class of a sweep sees the links as they were, the last class as they are at the end."""
    n = 20_000 // (shape[0] * shape[1])
    x, streams = direct(0.5, shape, n, seed)
    y, _ = local_u1.heatbath(x, streams, beta, 1)
    order = list(classes(shape))
    for (mu, rows, columns), before in ((order[0], x), (order[-1], y)):
        site = (slice(None), rows, columns)
        a, b = (centre[site].ravel() for centre in centres(before, mu))
        theta = y[:, mu][site].ravel()
        assert stats.kstest(cumulative(theta, a, b, beta), "uniform").pvalue > 1e-4
        if beta >= 1.0 and theta.size > 5000:
            assert stats.kstest(cumulative(theta, a, b, 1.3 * beta), "uniform").pvalue < 1e-4  # planted errors
            assert stats.kstest(cumulative(theta, b, b, beta), "uniform").pvalue < 1e-4


def test_heat_bath_at_large_coupling(seed):
    """At beta = 1e6 the plaquettes of V sites are Gaussian: beta <1 - cos P> = (V - 1) / 2V."""
    beta, v = 1e6, 24
    x, streams = direct(beta, (4, 6), 4000, seed)
    y, _ = local_u1.heatbath(x, streams, beta, 3)
    assert np.isfinite(y).all()
    assert abs(pull(hmc.action(Wilson(beta), y) / v, 0.5 * (v - 1) / v)) < 4.5
    assert abs(pull(hmc.action(Wilson(1.03 * beta), y) / v, 0.5 * (v - 1) / v)) > 4.5  # a planted error
    # From a hot start half the links have their two plaquettes against each other; all must come out finite.
    hot = wrapped(np.random.default_rng(seed).uniform(-np.pi, np.pi, (50, 2, 5, 4)))
    cooled, _ = local_u1.heatbath(hot, make_streams(seed, "hot", range(50)), beta, 5)
    assert np.isfinite(cooled).all()
    assert (hmc.action(Wilson(beta), cooled) < hmc.action(Wilson(beta), hot)).all()


# Metropolis


def acceptance(p_own, p_behind, delta, beta, width):
    """The acceptance probability that the compiled update gives to a change, found by bisection of its uniform."""
    n = p_own.size
    low, high = np.full(n, 1e-300), np.ones(n)
    for _ in range(1100):
        middle = np.sqrt(low * high) if (high / low).max() > 2.0 else 0.5 * (low + high)
        own = p_own.copy()
        uniforms = np.concatenate([0.5 * (delta / width + 1.0), middle])
        n_accepted = local_u1._metropolis_changes(own, p_behind, uniforms, beta, width)
        accepted = own != 0.0
        assert n_accepted == accepted.sum()
        np.testing.assert_allclose(own[accepted], delta[accepted], rtol=0, atol=1e-15)
        low, high = np.where(accepted, middle, low), np.where(accepted, high, middle)
        if (high - low).max() < 1e-15:
            break
    return high


def test_metropolis_detailed_balance(rng):
    """p(x) A(x -> y) = p(y) A(y -> x) for moves between any two angles; proposals are symmetric."""
    beta, width, n = 2.0, 3.0, 4000
    a, b, start = rng.uniform(-np.pi, np.pi, (3, n))
    delta = rng.uniform(-width, width, n)
    end = start + delta

    def log_p(theta, beta):
        return beta * (np.cos(theta - a) + np.cos(theta - b))

    forward = acceptance(start - a, b - start, delta, beta, width)
    backward = acceptance(end - a, b - end, -delta, beta, width)
    balance = np.log(forward / backward)
    np.testing.assert_allclose(balance, log_p(end, beta) - log_p(start, beta), rtol=0, atol=1e-9)
    assert np.abs(balance - log_p(end, 1.01 * beta) + log_p(start, 1.01 * beta)).max() > 1e-3  # a planted error
    assert (np.maximum(forward, backward) > 1.0 - 1e-12).all()


def test_metropolis_accepts_as_often_as_the_formula(seed):
    """The first class of the sweep moves with the mean of min(1, exp(-dS)); the count is of links that moved."""
    beta, width, shape = 2.0, 1.5, (4, 4)
    x, streams = direct(beta, shape, 12_000, seed)
    y, _, fraction = local_u1.metropolis(x, streams, beta, width, 1)
    moved = x != y
    np.testing.assert_allclose(fraction, moved.mean((1, 2, 3)), rtol=0, atol=1e-15)
    site = (slice(None), slice(None), slice(0, None, 2))
    a, b = (centre[site] for centre in centres(x, 0))
    theta = x[:, 0][site]

    def expected(beta):
        nodes, weights = np.polynomial.legendre.leggauss(20)
        total = 0.0
        for node, weight in zip(np.concatenate([nodes - 1, nodes + 1]) / 2, np.tile(weights, 2) / 4, strict=True):
            new = theta + width * node
            gain = beta * (np.cos(new - a) + np.cos(new - b) - np.cos(theta - a) - np.cos(theta - b))
            total = total + weight * np.exp(np.minimum(gain, 0.0))
        return total

    difference = moved[:, 0][site] - expected(beta)
    assert abs(pull(difference.mean((1, 2)), 0.0)) < 4.5
    assert abs(pull((moved[:, 0][site] - expected(1.05 * beta)).mean((1, 2)), 0.0)) > 4.5  # a planted error


# overrelaxation


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_overrelaxation_is_the_reflection_of_each_link(shape, rng):
    x = rng.uniform(-np.pi, np.pi, (5, 2, *shape))
    y = local_u1.overrelaxation(x, 1)
    order = list(classes(shape))
    assert sum(x[0][site].size for site in order) == x[0].size
    assert np.abs(wrapped(y - reflected(x, order))).max() < 1e-13
    assert np.abs(wrapped(x - reflected(y, order[::-1]))).max() < 1e-13  # each class is its own inverse
    np.testing.assert_allclose(
        hmc.action(Wilson(1.0), local_u1.overrelaxation(x, 500)), hmc.action(Wilson(1.0), x), rtol=1e-12
    )


# all of them


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("shape", [(4, 6), (5, 3), (18, 21)], ids=str)
def test_bits_do_not_depend_on_threads_or_grouping(name, shape, seed):
    update = UPDATES[name]
    x, streams = direct(2.0, shape, 5, seed)
    was = x.copy(), streams.copy()
    whole = update(x, streams, 2.0, 4)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded = update(x, streams, 2.0, 4)
    apart = [
        np.concatenate(part) for part in zip(*(update(x[[k]], streams[[k]], 2.0, 4) for k in range(5)), strict=True)
    ]
    for result in (threaded, apart):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    for part, before in zip((x, streams), was, strict=True):
        np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize("name", ["heatbath", "metropolis", "overrelaxation"])
def test_sweeps_at_once_are_as_sweeps_one_by_one(name, seed):
    x, streams = direct(2.0, (5, 8), 3, seed)
    whole = UPDATES[name](x, streams, 2.0, 6)
    one_by_one = x, streams
    for _ in range(6):
        one_by_one = UPDATES[name](*one_by_one, 2.0, 1)
    for one, other in zip(one_by_one, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    fractions = [local_u1.metropolis(x, streams, 2.0, 1.2, n)[2] for n in (1, 6)]
    assert ((fractions[1] > 0.0) & (fractions[1] < 1.0)).all()
    assert not np.array_equal(*fractions)
