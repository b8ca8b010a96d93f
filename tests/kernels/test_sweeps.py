"""Sweeps over sites, with theories of the tests' own: a free field's Metropolis, and updates that say what they saw."""

from typing import NamedTuple

import numba
import numpy as np
import pytest

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.kernels.sweeps import Metropolis, change, renew, sweeps
from lattice_flows.statistics import gamma_method

SHAPES = [(6,), (5,), (4, 2), (3, 5), (2, 3, 4)]


class Free(NamedTuple):
    """S = sum_x [ quad x^2 - x sum_mu x(+mu) ]."""

    quad: float


@implements(change, Free)
def _change(couplings, near, k, old, new):
    total = 0.0
    for j in range(near.shape[0]):
        total += near[j, k]
    return couplings.quad * (new * new - old * old) - total * (new - old)


class Mean(NamedTuple):
    """Every site becomes the mean of its neighbours."""


@implements(renew, Mean)
def _mean(update, couplings, x, near, stream):
    for k in range(x.size):
        x[k] = near[:, k].mean()
    return x.size


def begin(shape, n_chains, seed):
    x, streams = normals(make_streams(seed, "test", range(n_chains)), int(np.prod(shape)))
    return x.reshape(-1, *shape), streams


@pytest.mark.parametrize("shape", [(6,), (4, 2)], ids=str)
def test_where_all_extents_are_even_half_of_the_sites_follow_the_other_half(shape, seed):
    x, streams = begin(shape, 3, seed)
    new, _, accepted = sweeps(Mean(), Free(1.0), x, streams, 1)
    odd = np.indices(shape).sum(0) % 2 == 1

    def mean(x):
        return sum(np.roll(x, step, 1 + mu) for mu in range(len(shape)) for step in (1, -1)) / (2 * len(shape))

    half = np.where(odd, x, mean(x))
    np.testing.assert_allclose(new, np.where(odd, mean(half), half), atol=1e-15)
    assert (accepted == 1.0).all()


def covariance(shape, quad):
    """<x x'> of the free field, from the inverse of its matrix."""
    n = int(np.prod(shape))
    eye = np.eye(n).reshape(n, *shape)
    matrix = 2.0 * quad * eye - sum(np.roll(eye, step, 1 + mu) for mu in range(len(shape)) for step in (1, -1))
    return np.linalg.inv(matrix.reshape(n, n))


def pulls(shape, quad, true_quad, seed):
    """Of <x^2> and of the mean over the links of <x x'>, as far as they are those of true_quad."""
    x, streams = begin(shape, 100, seed)
    squares, links = [], []
    for k in range(250):
        x, streams, _ = sweeps(Metropolis(1.5), Free(quad), x, streams, 4)
        if k >= 50:
            squares.append((x**2).reshape(len(x), -1).mean(1))
            pairs = [(x * np.roll(x, 1, 1 + mu)).reshape(len(x), -1).mean(1) for mu in range(len(shape))]
            links.append(np.mean(pairs, axis=0))
    exact = covariance(shape, true_quad)
    first = np.arange(exact.shape[0]).reshape(shape)
    truth = [exact[0, 0], np.mean([exact[0, np.roll(first, -1, mu).flat[0]] for mu in range(len(shape))])]
    estimates = [gamma_method(np.array(series)) for series in (squares, links)]
    return [(one.value - value) / one.error for one, value in zip(estimates, truth, strict=True)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_metropolis_samples_the_free_field(shape, seed):
    quad = len(shape) + 0.5
    assert max(map(abs, pulls(shape, quad, quad, seed))) < 4.5


def test_three_per_cent_of_a_coupling_are_caught(seed):
    assert max(map(abs, pulls((3, 5), 1.03 * 2.5, 2.5, seed))) > 4.5


@pytest.mark.parametrize("shape", [(5,), (4, 6)], ids=str)
def test_bits_depend_on_neither_threads_nor_grouping_nor_calls(shape, seed):
    x, streams = begin(shape, 5, seed)
    given = x.copy(), streams.copy()
    whole = sweeps(Metropolis(1.0), Free(3.0), x, streams, 4)
    np.testing.assert_array_equal(x, given[0])
    np.testing.assert_array_equal(streams, given[1])
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    one_by_one = x, streams
    for _ in range(4):
        one_by_one = sweeps(Metropolis(1.0), Free(3.0), *one_by_one, 1)[:2]
    grouped = [sweeps(Metropolis(1.0), Free(3.0), x[part], streams[part], 4) for part in (slice(0, 2), slice(2, 5))]
    for k in range(2):
        np.testing.assert_array_equal(one_by_one[k], whole[k])
        np.testing.assert_array_equal(np.concatenate([part[k] for part in grouped]), whole[k])


def test_an_extent_of_one_is_refused(seed):
    with pytest.raises(ValueError, match="extent"):
        sweeps(Metropolis(1.0), Free(3.0), *begin((4, 1), 1, seed), 1)
