"""Wolff's clusters, with a theory of the tests' own: the Ising model, whose 2^V configurations can be counted."""

from typing import NamedTuple

import numpy as np
import pytest

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.random import make_streams
from lattice_flows.kernels.wolff import bond, flip, projection, wolff
from lattice_flows.statistics import gamma_method


class Ising(NamedTuple):
    beta: float


@implements(bond, Ising)
def _bond(couplings, x, site, other, mirror):
    return 2.0 * couplings.beta * x[site] * x[other]


@implements(flip, Ising)
def _flip(couplings, x, site, mirror):
    x[site] = -x[site]


@implements(projection, Ising)
def _projection(couplings, x, site, mirror):
    return x[site]


SHAPE = (4, 3)
BETA = 0.35


def energy_and_square(x):
    """The mean over the links of s s', and V M^2."""
    links = sum((x * np.roll(x, -1, mu)).mean((1, 2)) for mu in (1, 2)) / 2
    return links, x[0].size * x.mean((1, 2)) ** 2


def exact():
    bits = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    values = energy_and_square((2.0 * bits - 1.0).reshape(-1, *SHAPE))
    weights = np.exp(BETA * 2 * 12 * values[0])
    return [float(weights @ one / weights.sum()) for one in values]


def pulls(beta, seed):
    """Of the link energy, of V M^2, and of its improved estimator, of clusters made at this beta."""
    x, streams = np.ones((100, *SHAPE)), make_streams(seed, "test", range(100))
    found = []
    for k in range(320):
        x, streams, _, square = wolff(Ising(beta), x, streams, 3)
        if k >= 20:
            found.append([*energy_and_square(x), square])
    estimates = [gamma_method(series) for series in np.moveaxis(np.array(found), 1, 0)]
    truth = exact()
    return [
        (one.value - value) / one.error for one, value in zip(estimates, [*truth, truth[1]], strict=True)
    ], estimates


def test_it_samples_the_ising_model_and_the_improved_estimator_agrees(seed):
    found, estimates = pulls(BETA, seed)
    assert max(map(abs, found)) < 4.5, found
    assert estimates[2].error < estimates[1].error


def test_two_per_cent_of_beta_are_caught(seed):
    found, _ = pulls(1.02 * BETA, seed)
    assert min(map(abs, found)) > 4.5, found


def test_arguments_stay_and_sizes_count_what_was_flipped(seed):
    x, streams = np.ones((5, *SHAPE)), make_streams(seed, "test", range(5))
    new, later, size, _ = wolff(Ising(BETA), x, streams, 1)
    assert (x == 1.0).all()
    assert (streams[:, 1] == 0).all()
    assert (later[:, 1] > 0).all()
    np.testing.assert_allclose(size, (new != x).mean((1, 2)))


def test_an_extent_of_one_is_refused(seed):
    with pytest.raises(ValueError, match="extent"):
        wolff(Ising(BETA), np.ones((1, 4, 1)), make_streams(seed, "test", range(1)), 1)
