"""Von Mises deviates in bulk against the numerically integrated density and its moments."""

import numpy as np
import pytest
from numba import njit, vectorize
from scipy import stats
from scipy.special import ive

from lattice_flows.kernels.elementary import fast_atan2
from lattice_flows.kernels.random import make_streams
from lattice_flows.kernels.von_mises import fill_von_mises

pytestmark = pytest.mark.quick

N = 500_000

atan2 = vectorize(["float64(float64, float64)"])(lambda y, x: fast_atan2(y, x))


@njit
def _fill(kappa, stream, out):
    fill_von_mises(kappa, stream, out, np.empty(3 * out.size), np.empty(out.size, np.int64))


def von_mises(kappa, seed, name="test"):
    out, stream = np.empty(len(kappa)), make_streams(seed, name, range(1))[0]
    _fill(np.asarray(kappa, dtype=float), stream, out)
    return out, stream


def cumulative(x, kappa):
    """The distribution function by Gauss-Legendre quadrature from 0 to x, for concentrations up to 500."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    density = np.exp(-2.0 * kappa[:, None] * np.sin(0.25 * np.outer(x, nodes + 1.0)) ** 2)
    return 0.5 + 0.5 * x * (density @ weights) / (2.0 * np.pi * ive(0, kappa))


def pull(values, truth):
    return (values.mean() - truth) * np.sqrt(values.size) / values.std()


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 1e-3, 0.3, 1.0, 4.0, 30.0, 1e4, 1e6, 2e6])
def test_moments_at_one_concentration(kappa, seed):
    x, _ = von_mises(np.full(N, kappa), seed)
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= np.pi
    scale = max(kappa, 1.0)
    first, second = 1.0 - ive(1, kappa) / ive(0, kappa), 1.0 - ive(2, kappa) / ive(0, kappa)
    pulls = {
        "1 - cos x": pull(2.0 * scale * np.sin(0.5 * x) ** 2, scale * first),
        "1 - cos 2x": pull(2.0 * scale * np.sin(x) ** 2, scale * second),
        "sin x": pull(np.sin(x), 0.0),
    }
    assert max(map(abs, pulls.values())) < 4.5, pulls
    if kappa >= 1.0:  # a planted error
        wrong = 1.03 * kappa
        assert abs(pull(2.0 * scale * np.sin(0.5 * x) ** 2, scale * (1.0 - ive(1, wrong) / ive(0, wrong)))) > 4.5


def test_every_deviate_has_its_own_concentration(seed, rng):
    kappa = np.where(rng.random(40_000) < 0.1, 0.0, rng.exponential(5.0, 40_000))
    x, _ = von_mises(kappa, seed)
    assert stats.kstest(cumulative(x, kappa), "uniform").pvalue > 1e-4
    assert stats.kstest(cumulative(x, 1.2 * kappa), "uniform").pvalue < 1e-4  # planted errors
    assert stats.kstest(cumulative(x, np.roll(kappa, 1)), "uniform").pvalue < 1e-4


@pytest.mark.parametrize(("low", "high"), [(0.0, 50.0), (1.0, 1e4)])
def test_second_proposals_keep_the_concentration_of_the_first(low, high, seed, rng):
    """Low concentrations are rarely rejected, so that the arrays of later rounds look unlike the first."""
    kappa = np.where(rng.random(N) < 0.5, low, high)
    x, _ = von_mises(kappa, seed)
    for value in (low, high):
        found, scale = x[kappa == value], max(value, 1.0)
        truth = 1.0 - ive(1, value) / ive(0, value)
        assert abs(pull(2.0 * scale * np.sin(0.5 * found) ** 2, scale * truth)) < 4.5
    assert abs(pull(2.0 * high * np.sin(0.5 * found) ** 2, 1.02 * high * truth)) > 4.5  # a planted error


def test_neighbours_are_independent(seed):
    x, _ = von_mises(np.full(N, 3.0), seed)
    for lag in (1, 2, 7, N // 2):
        assert abs(pull(np.sin(x[lag:]) * np.sin(x[:-lag]), 0.0)) < 4.5


@pytest.mark.parametrize("n", [0, 1, 2, 7, 33])
def test_short_arrays_are_filled_whole(n, seed):
    many = []
    for k in range(200):
        x, stream = von_mises(np.full(n, 2.0), seed, f"test {k}")
        assert stream[1] >= n  # two uniform deviates each
        many.append(x)
    x = np.concatenate(many)
    assert len(np.unique(x)) == 200 * n
    if n > 0:
        assert stats.kstest(cumulative(x, np.full(x.size, 2.0)), "uniform").pvalue > 1e-4


def test_not_a_number_comes_out_and_does_not_hang(seed):
    x, _ = von_mises([1.0, np.nan, 2.0], seed)
    np.testing.assert_array_equal(np.isnan(x), [False, True, False])


def test_arctangent(rng):
    angle = np.concatenate([rng.uniform(-np.pi, np.pi, 100_000), np.arange(-16, 17) * (np.pi / 16)])
    radius = 10.0 ** rng.uniform(-100, 100, angle.size)
    y, x = radius * np.sin(angle), radius * np.cos(angle)
    np.testing.assert_allclose(atan2(y, x), np.arctan2(y, x), rtol=5e-16, atol=0)
    slight = 10.0 ** rng.uniform(-300, 0, 10_000)
    np.testing.assert_allclose(atan2(slight, 1.0), np.arctan(slight), rtol=5e-16, atol=0)
    np.testing.assert_allclose(atan2(-slight, 1.0), -np.arctan(slight), rtol=5e-16, atol=0)
    np.testing.assert_array_equal(
        atan2([0.0, 1.0, 0.0, -1.0], [1.0, 0.0, -1.0, 0.0]), np.array([0, 1, 2, -1]) * np.pi / 2
    )
