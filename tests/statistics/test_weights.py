"""Weights of independent samples: log-normal and Pareto weights, of which everything is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lattice_flows.statistics import (
    effective_sample_size,
    largest_weight_share,
    log_partition,
    pareto_k,
    reliability,
    weighted_mean,
)

pytestmark = pytest.mark.quick

SIGMA = 0.5  # log-normal weights: ESS = exp(-sigma^2), log mean w = mu + sigma^2 / 2
N_REPEATS = 400

log_weights = arrays(np.float64, st.integers(2, 60), elements=st.floats(-50, 50).map(lambda x: round(x, 6)))
hypothesis_settings = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def log_normal(rng, n=5000):
    return 1.7 + SIGMA * rng.normal(size=(N_REPEATS, n))


def test_ess_of_log_normal_weights(rng, misfit):
    figures = [effective_sample_size(log_w) for log_w in log_normal(rng)]
    assert misfit(np.array([(f.value - math.exp(-(SIGMA**2))) / f.error for f in figures])) < 4.5
    assert misfit(np.array([(f.value - 1.01 * math.exp(-(SIGMA**2))) / f.error for f in figures])) > 5
    assert misfit(np.array([(f.value - math.exp(-(SIGMA**2))) / (0.75 * f.error) for f in figures])) > 5


def test_log_partition_of_log_normal_weights(rng, misfit):
    figures = [log_partition(log_w) for log_w in log_normal(rng, n=1000)]
    exact = 1.7 + SIGMA**2 / 2
    assert misfit(np.array([(f.value - exact) / f.error for f in figures])) < 4.5
    assert misfit(np.array([(f.value - exact - 0.01) / f.error for f in figures])) > 5
    assert misfit(np.array([(f.value - exact) / (0.75 * f.error) for f in figures])) > 5


def test_weighted_mean_of_a_shifted_gaussian(rng, misfit):
    x = rng.normal(size=(N_REPEATS, 1000))
    figures = [weighted_mean(row, SIGMA * row) for row in x]
    assert misfit(np.array([(f.value - SIGMA) / f.error for f in figures])) < 4.5
    assert misfit(np.array([(f.value - 1.06 * SIGMA) / f.error for f in figures])) > 5
    assert misfit(np.array([(f.value - SIGMA) / (0.75 * f.error) for f in figures])) > 5


def test_weighted_mean_with_equal_weights_is_the_mean(rng):
    x = rng.normal(size=50)
    figure = weighted_mean(x, np.full(50, -1e4))
    assert figure == pytest.approx((x.mean(), x.std(ddof=1) / math.sqrt(50)))


def test_jackknife_is_the_plain_one(rng):
    log_w = rng.normal(size=40)
    without = [effective_sample_size(np.delete(log_w, i)).value for i in range(40)]
    expected = math.sqrt(39 * np.var(without))
    assert effective_sample_size(log_w).error == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("gap", [30.0, 800.0])
def test_one_dominant_weight_makes_the_ess_worthless(gap):
    figure = effective_sample_size(np.append(np.zeros(500), gap))
    assert figure.value == pytest.approx(1 / 501)
    assert figure.error > 0.9
    assert effective_sample_size([0.0, -np.inf, -np.inf]).value == pytest.approx(1 / 3)


@hypothesis_settings
@given(log_w=log_weights, shift=st.integers(-1000, 1000))
def test_bounds_and_a_constant_in_log_w(log_w, shift):
    n = log_w.size
    ess = effective_sample_size(log_w)
    share = largest_weight_share(log_w)
    assert 1 / n * (1 - 1e-12) <= ess.value <= 1.0
    assert ess.error >= 0
    assert 1 / n * (1 - 1e-12) <= share <= 1.0
    assert share**2 <= 1 / (n * ess.value) * (1 + 1e-9)  # the largest term of sum w^2 / (sum w)^2
    shifted = log_w + shift
    assert effective_sample_size(shifted) == pytest.approx(ess, rel=1e-8, abs=1e-10)
    assert largest_weight_share(shifted) == pytest.approx(share, rel=1e-9)
    assert weighted_mean(np.arange(n), shifted) == pytest.approx(weighted_mean(np.arange(n), log_w), rel=1e-8, abs=1e-9)
    log_z = log_partition(log_w)
    assert log_partition(shifted) == pytest.approx((log_z.value + shift, log_z.error), rel=1e-8, abs=1e-6)
    assert log_w.min() - 1e-9 <= log_z.value <= log_w.max() + 1e-9
    assert pareto_k(shifted) == pytest.approx(pareto_k(log_w), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 0.9])
def test_pareto_k_of_pareto_weights(k, rng):
    n, n_tail = 10_000, 300
    fits = np.array([pareto_k(rng.exponential(size=n) * k) for _ in range(60)])  # w = exp(k E) is Pareto with shape k
    error = fits.std(ddof=1) / math.sqrt(fits.size)

    def with_prior(shape):
        return (n_tail * shape + 5) / (n_tail + 10)

    assert abs(fits.mean() - with_prior(k)) < 4.5 * error
    assert abs(fits.mean() - with_prior(k + 0.15)) > 5 * error
    # Maximum likelihood has the standard deviation (1 + k) / sqrt(n_tail); the prior and the posterior mean shrink it.
    assert 0.7 < fits.std(ddof=1) * math.sqrt(n_tail) / (1 + k) < 1.3


def test_pareto_k_of_few_samples_is_drawn_to_one_half(rng):
    fits = [pareto_k(rng.exponential(size=50) * 1e-3) for _ in range(300)]  # k = 0, a tail of 10: (0 + 5) / (10 + 10)
    assert 0.15 < np.mean(fits) < 0.35


def test_pareto_k_of_bounded_weights_is_negative(rng):
    assert pareto_k(np.log(rng.uniform(size=10_000))) < -0.5  # the excess over the cutoff is uniform: k = -1


def test_pareto_k_without_a_tail(rng):
    assert pareto_k(np.full(1000, -7.0)) == -math.inf
    assert pareto_k(5000.0 + 1e-12 * rng.normal(size=1000)) == -math.inf
    assert pareto_k(np.append(np.zeros(1000), [2.0, 3.0])) == math.inf
    assert pareto_k(np.append(np.full(1000, -np.inf), np.zeros(2))) == math.inf


def test_pareto_k_of_weights_beyond_the_range_of_floats(rng):
    log_w = np.sort(rng.normal(size=1000))
    for sigma in (40, 4000):
        assert 5 < pareto_k(sigma * log_w) < 700


def test_reliability(rng):
    log_w = SIGMA * rng.normal(size=2000)
    assert reliability(log_w) == (True, True)
    assert reliability(log_w[:200]) == (False, False)  # ESS * N near 160
    assert reliability(log_w, tau_int=10.0) == (False, False)
    heavy = -0.85 * np.log((np.arange(200_000) + 0.5) / 200_000)  # quantiles of a Pareto tail with k = 0.85
    assert effective_sample_size(heavy).value * heavy.size > 200
    assert reliability(heavy) == (False, False)
    between = -0.4 * np.log((np.arange(200_000) + 0.5) / 200_000)
    assert reliability(between) == (True, False)


@pytest.mark.parametrize(
    "function", [effective_sample_size, log_partition, pareto_k, largest_weight_share, reliability]
)
def test_bad_weights_are_refused(function):
    for bad in ([0.0, np.nan, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3):
        with pytest.raises(ValueError, match="finite or -inf"):
            function(bad)
    for shape in ((1,), (3, 3), ()):
        with pytest.raises(ValueError, match="n_samples"):
            function(np.zeros(shape))


def test_values_must_fit_their_weights():
    for bad in ([1.0, 2.0], [1.0, np.nan, 2.0]):
        with pytest.raises(ValueError, match="values must be finite"):
            weighted_mean(bad, np.zeros(3))
