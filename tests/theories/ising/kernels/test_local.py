"""Sweeps of single flips: classes, probabilities to the last bit, and that every configuration is reached."""

import math

import numpy as np
import pytest
from ising_enumeration import EnumeratedIsing

from lattice_flows.kernels.random import make_streams
from lattice_flows.theories.ising.kernels import local
from lattice_flows.theories.ising.kernels.local import classes, heatbath_thresholds, metropolis_thresholds, sweeps

BETAS = (0.0, 0.3, 0.44, 1.0, 4.0, 100.0, 1e4)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 3), (4, 6), (5, 4), (7, 9)], ids=str)
def test_no_class_holds_neighbours(shape):
    number = classes(shape).reshape(shape)
    assert set(np.unique(number)) == set(range(3 if any(extent % 2 for extent in shape) else 2))
    for axis in (0, 1):
        assert (number != np.roll(number, 1, axis)).all()


@pytest.mark.parametrize("beta", BETAS)
def test_probabilities_are_in_detailed_balance(beta):
    """p(g) / p(-g) = exp(-2 beta g), to the 2^-64 of a probability."""
    for thresholds in (metropolis_thresholds(beta), heatbath_thresholds(beta)):
        p = [int(word) for word in thresholds]
        assert p[2] >= 2**63 - 1
        for against, along, g in ((p[4], p[0], 4), (p[3], p[1], 2)):
            assert abs(against - along * math.exp(-2.0 * beta * g)) <= 1.0 + 2e-15 * against


def test_each_spin_flips_with_its_probability(rng):
    """The first class of one sweep, whose neighbours are those of the start: pulls for every g."""
    x = EnumeratedIsing(0.0, (4, 4)).spins
    streams = np.stack([rng.integers(2**63, size=len(x), dtype=np.uint64), np.zeros(len(x), dtype=np.uint64)], axis=1)
    first = classes((4, 4)).reshape(4, 4) == 0
    g = x * sum(np.roll(x, step, axis) for axis in (1, 2) for step in (-1, 1))
    for thresholds in (metropolis_thresholds(0.3), heatbath_thresholds(0.3)):
        new, _, _ = sweeps(x, streams, thresholds, 1)
        flipped = (new != x)[:, first]
        pulls = []
        for k, value in enumerate((-4, -2, 0, 2, 4)):
            tried = flipped[g[:, first] == value]
            p = float(thresholds[k]) / 2.0**64
            pulls.append((tried.mean() - p) / math.sqrt(p * (1.0 - p) / tried.size))
        assert np.abs(pulls).max() < 4.5, pulls


@pytest.mark.parametrize("upper", [0, 1])
def test_the_lower_bits_decide_where_the_upper_ones_are_equal(upper, seed):
    """A probability halfway between two multiples of 2^-16; either of these is 10 sigma off."""
    lower = 2**47
    thresholds = np.full(5, upper * 2**48 + lower, dtype=np.uint64)
    x = np.ones((64, 256, 256), dtype=np.int8)
    fraction = sweeps(x, make_streams(seed, "test", range(64)), thresholds, 25)[2].mean()
    p = (upper + 0.5) / 2**16
    error = math.sqrt(p * (1.0 - p) / (25 * x.size))
    assert abs(fraction - p) < 4.5 * error
    assert min(abs(fraction - other / 2**16) for other in (upper, upper + 1)) > 9.0 * error


def test_with_certain_flips_some_configurations_are_out_of_reach(seed):
    """Metropolis sweeps that try every spin never leave, on 2x2, the configurations of energy zero; ours do."""
    x = np.tile(np.array([[1, 1], [-1, -1]], dtype=np.int8), (500, 1, 1))
    x[::2] = x[::2].transpose(0, 2, 1)
    x = np.where(np.arange(500)[:, None, None] % 4 < 2, x, -x).astype(np.int8)
    streams, one_off = make_streams(seed, "test", range(500)), metropolis_thresholds(0.3)
    certain = np.array([min(2**64 - 1, int(word) * 16 // 15) for word in one_off], dtype=np.uint64)
    for thresholds, stays in ((certain, True), (one_off, False)):
        new, _, _ = sweeps(x, streams, thresholds, 50)
        assert (new.sum((1, 2)) == 0).all() == stays


def test_a_spin_that_never_flips_and_one_that_always_does(seed):
    x = EnumeratedIsing(0.0, (3, 4)).spins
    streams = make_streams(seed, "test", range(len(x)))
    for word, sign, share in ((0, 1, 0.0), (2**64 - 1, -1, 1.0)):
        new, _, fraction = sweeps(x, streams, np.full(5, word, dtype=np.uint64), 1)
        np.testing.assert_array_equal(new, sign * x)
        assert (fraction == share).all()


def test_arguments_stay_as_they_are(seed):
    x, streams = np.ones((3, 5, 6), dtype=np.int8), make_streams(seed, "test", range(3))
    kept = x.copy(), streams.copy()
    new, _, _ = sweeps(x, streams, heatbath_thresholds(0.2), 2)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(streams, kept[1])
    assert new.dtype == np.int8
    assert not heatbath_thresholds(0.2).flags.writeable
    assert local.heatbath_thresholds(0.2) is heatbath_thresholds(0.2)
