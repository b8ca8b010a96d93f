"""The instanton hop: its flux, its acceptance against the action itself, and invariance."""

import numba
import numpy as np
import pytest

from lattice_flows.kernels import hmc
from lattice_flows.kernels.elementary import wrap
from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1.kernels.instanton import instanton

wrapped = numba.vectorize(["float64(float64)"])(lambda x: wrap(x))

SHAPES = [(4, 4), (3, 5), (2, 2), (6, 10), (2, 7), (1, 4), (7, 1)]


def plaquettes(x):
    t0, t1 = x[:, 0], x[:, 1]
    return t0 + np.roll(t1, -1, 1) - np.roll(t0, -1, 2) - t1


def flux_field(shape):
    """The field of one unit of uniform flux, written out."""
    l0, l1 = shape
    field = np.zeros((2, l0, l1))
    field[1] = 2.0 * np.pi * np.arange(l0)[:, None] / (l0 * l1)
    field[0, -1] = -2.0 * np.pi * np.arange(l1) / l1
    return field


def direct(beta, shape, n, seed):
    return sample_u1(beta, *shape, make_streams(seed, "test", range(n)))


def pull(values, truth):
    error = values.std() / np.sqrt(values.size)
    return 0.0 if error < 1e-12 else (values.mean() - truth) / error


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_hop_shifts_every_plaquette_by_the_same_flux(shape, rng, seed):
    v = shape[0] * shape[1]
    x = rng.uniform(-np.pi, np.pi, (300, 2, *shape))
    y, _, fraction = instanton(x, make_streams(seed, "test", range(300)), 0.01, 0.0, 1)
    assert (y >= -np.pi).all()
    assert (y < np.pi).all()
    shift = wrapped(plaquettes(y) - plaquettes(x)).reshape(300, v)
    step = np.where(fraction[:, None] > 0, 2.0 * np.pi / v, 0.0)
    up = np.abs(wrapped(shift - step)).max(1) < 1e-13
    down = np.abs(wrapped(shift + step)).max(1) < 1e-13
    assert (up | down).all()
    np.testing.assert_array_equal(x[fraction == 0], y[fraction == 0])
    for hopped, sign in ((up, 1), (down, -1)):
        hopped = hopped & (fraction > 0)
        assert hopped.sum() > 100
        np.testing.assert_allclose(wrapped(x + sign * flux_field(shape) - y)[hopped], 0.0, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("shape", "beta"), [((4, 4), 1.5), ((3, 5), 2.0), ((2, 2), 1.0), ((6, 10), 3.0), ((2, 7), 1.5)]
)
@pytest.mark.parametrize("n_updates", [1, 7])
def test_invariance_from_direct_starts(shape, beta, n_updates, seed):
    x, streams = direct(beta, shape, 8000, seed)
    y, _, fraction = instanton(x, streams, beta, 0.0, n_updates)
    assert 0.0 < fraction.mean() < 1.0
    exact = ExactU1(beta, shape[0] * shape[1])
    pulls = {
        "plaquette": pull(u1.mean_plaquette(y), exact.plaquette),
        "charge_squared": pull(np.rint(u1.topological_charge(y)) ** 2, exact.charge_squared),
        "charge": pull(np.rint(u1.topological_charge(y)), 0.0),
        "wilson_loop_1x2": pull(u1.mean_wilson_loop(y, 1, 2), exact.wilson_loop(2)),
    }
    assert max(map(abs, pulls.values())) < 4.5, pulls


@pytest.mark.parametrize(("shape", "beta"), [((2, 2), 1.5), ((3, 2), 2.0), ((4, 6), 2.0), ((8, 5), 5.0)])
def test_every_decision_is_the_one_the_action_asks_for(shape, beta, seed):
    """With the same two uniform deviates: the first chooses the sign, the second decides."""
    x, streams = direct(beta, shape, 20_000, seed)
    _, later, fraction = instanton(x, streams, beta, 0.0, 1)
    deviates, after = uniforms(streams, 2)
    np.testing.assert_array_equal(later, after)
    sign = np.where(deviates[:, 0] < 0.5, 1.0, -1.0)[:, None, None, None]
    new = x + sign * flux_field(shape)

    def wrong_decisions(beta):
        margin = np.log(deviates[:, 1]) + hmc.action(Wilson(beta), new) - hmc.action(Wilson(beta), x)
        return ((margin < 0) != (fraction == 1.0)) & (np.abs(margin) > 1e-9)

    assert 0.0 < fraction.mean() < 1.0
    assert not wrong_decisions(beta).any()
    assert wrong_decisions(1.01 * beta).any()  # a planted error


@pytest.mark.parametrize("shape", [(4, 6), (2, 2), (5, 3)], ids=str)
def test_hops_at_once_are_hops_one_by_one(shape, seed):
    x, streams = direct(1.0, shape, 50, seed)
    whole, whole_streams, fraction = instanton(x, streams, 1.0, 0.0, 40)
    y, accepted = x, 0.0
    for _ in range(40):
        y, streams, one = instanton(y, streams, 1.0, 0.0, 1)
        accepted += one
    np.testing.assert_array_equal(whole_streams, streams)
    np.testing.assert_allclose(40 * fraction, accepted, rtol=0, atol=1e-9)
    assert accepted.max() > 3
    np.testing.assert_allclose(wrapped(whole - y), 0.0, rtol=0, atol=1e-12)


def test_bits_do_not_depend_on_threads_or_grouping(seed):
    x, streams = direct(2.0, (6, 5), 5, seed)
    was = x.copy(), streams.copy()
    whole = instanton(x, streams, 2.0, 0.0, 11)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded = instanton(x, streams, 2.0, 0.0, 11)
    apart = [np.concatenate(part) for part in zip(*(instanton(x[[k]], streams[[k]], 2.0, 0.0, 11) for k in range(5)))]
    for result in (threaded, apart):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    for part, before in zip((x, streams), was, strict=True):
        np.testing.assert_array_equal(part, before)
