"""Free energy profiles of a standard normal variable, F(s) = s^2/2 + log(2 pi)/2 averaged over bins."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import t as student_t

from lattice_flows.statistics import (
    JoinedWindows,
    by_weights,
    by_windows,
    inside,
    profile,
    region_difference,
)

pytestmark = pytest.mark.quick

EDGES = np.linspace(-2.0, 2.0, 9)
EXACT = -np.log(np.diff(ndtr(EDGES)) / np.diff(EDGES))
FAR = -np.log(ndtr(-1.0) / (ndtr(1.0) - ndtr(-1.0)))  # F of s < -1 less that of |s| < 1
N_REPEATS, N, A, N_BLOCKS = 40, 1000, 0.6, 10
CENTRES, STIFFNESS = np.array([-1.5, 0.0, 1.5]), 2.0


def plain(ar1, rng):
    return [ar1(N, A)[:, 0] for _ in range(2)], None


def weighted(ar1, rng):
    """Samples of a normal density twice as wide."""
    x = 1.5 * rng.normal(size=2 * N)
    return [x], by_weights(x**2 / (2 * 1.5**2) - x**2 / 2)


def windows(ar1, rng):
    precision = 1.0 + STIFFNESS
    chains = [STIFFNESS * c / precision + ar1(N, A)[:, 0] / math.sqrt(precision) for c in CENTRES]
    biases = [0.5 * STIFFNESS * (x - CENTRES[:, None]) ** 2 for x in chains]
    return chains, by_windows(JoinedWindows(biases, range(3), N_BLOCKS))


@pytest.mark.parametrize("kind", [plain, weighted, windows])
def test_errors_cover_every_bin_and_the_difference_of_regions(kind, ar1, rng, misfit):
    pulls, differences = [], []
    for _ in range(N_REPEATS if kind is not windows else 24):
        chains, estimator = kind(ar1, rng)
        options = () if estimator is None else (estimator,)
        found = profile(chains, EDGES, *options)
        pulls.append((found.values - EXACT) / found.errors)
        far, near = inside(chains, -np.inf, -1.0), inside(chains, -1.0, 1.0)
        value, error = region_difference(near, far, *options)
        differences.append((value - FAR) / error)
    assert found.centres == pytest.approx(0.5 * (EDGES[1:] + EDGES[:-1]))

    def normal(values):
        return ndtri(student_t.cdf(values, N_BLOCKS - 1)) if kind is windows else values

    every = [misfit(normal(column)) for column in np.array(pulls).T]
    assert max(every) < 4.5
    assert misfit(normal(np.array(differences))) < 4.5
    assert misfit(normal(2.2 * np.array(differences))) > 4.5
    assert misfit(normal(np.array(pulls)[:, 3] + 1.4)) > 4.5


def test_a_planted_per_cent_is_seen(rng):
    """Of a million independent values s, all of them 1 % too large."""
    x = rng.normal(size=1_000_000)
    for scale, seen in ((1.0, False), (1.01, True)):
        found = profile(scale * x, EDGES)
        assert (np.abs((found.values - EXACT) / found.errors).max() > 5) == seen


def test_bins_without_samples_are_not_numbers(rng):
    found = profile(rng.uniform(size=1000), [-2.0, -1.0, 0.0, 0.5, 1.0])
    assert np.isnan(found.values).tolist() == np.isnan(found.errors).tolist() == [True, True, False, False]
    assert found.values[2:] == pytest.approx([0.0, 0.0], abs=0.3)


def test_samples_beyond_the_edges_count(rng):
    """A profile of a part is a part of the profile."""
    x = rng.normal(size=5000)
    assert profile(x, EDGES[3:6]).values == pytest.approx(profile(x, EDGES).values[3:5], rel=1e-12)


def test_what_makes_no_sense_is_refused(rng):
    x = rng.normal(size=100)
    with pytest.raises(ValueError, match="ascending numbers, got 1"):
        profile(x, [0.0])
    with pytest.raises(ValueError, match="ascending"):
        profile(x, [0.0, 0.0])
    with pytest.raises(ValueError, match="region 2 has no samples"):
        region_difference(inside(x, -1.0, 1.0), inside(x, 50.0, 60.0))
