"""Agreement of chains, mobility, and chi^2 of correlated figures."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtri
from scipy.stats import kstest, rankdata

from lattice_flows.statistics import (
    MIN_CHANGES,
    chi_squared,
    count_changes,
    count_crossings,
    covariance_of_means,
    gamma_method,
    pull,
    r_hat,
)

pytestmark = pytest.mark.quick

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports scipy.odr, which is deprecated
    import pyerrors

N_REPEATS = 300


def literal_r_hat(x):
    """arXiv:1903.08008, eqs. 1 to 4 and 14, term by term."""
    n, m = x.shape
    z = ndtri((rankdata(x).reshape(n, m) - 3 / 8) / (n * m + 1 / 4))
    between = n / (m - 1) * sum((z[:, j].mean() - z.mean()) ** 2 for j in range(m))
    within = sum(((z[:, j] - z[:, j].mean()) ** 2).sum() / (n - 1) for j in range(m)) / m
    return math.sqrt(((n - 1) / n * within + between / n) / within)


@pytest.mark.parametrize("n", [10, 11, 400])
def test_r_hat_is_the_published_formula(n, rng):
    x = np.round(rng.normal([0.0, 0.1, 0.3], size=(n, 3)), 1)  # with ties
    halves = np.hstack([x[: n // 2], x[-(n // 2) :]])
    folded = np.abs(halves - np.median(halves))
    assert r_hat(x) == pytest.approx(max(literal_r_hat(halves), literal_r_hat(folded)), rel=1e-12)


def test_r_hat_sees_what_chains_can_do_wrong(rng):
    x = rng.normal(size=(2000, 4))
    assert r_hat(x) < 1.01
    assert r_hat(x + np.array([0.6, 0, 0, 0])) > 1.01  # one chain elsewhere
    assert r_hat(x * np.array([2.0, 1, 1, 1])) > 1.01  # one chain too wide: only the folded ranks see it
    assert r_hat(x + np.linspace(0, 1.2, 2000)[:, None]) > 1.01  # all drift alike: only the halves see it
    assert r_hat(np.exp(3 * x)) < 1.01  # and heavy tails do no harm


def test_r_hat_where_it_is_undefined():
    assert math.isnan(r_hat(np.arange(10.0)[:, None]))
    assert math.isnan(r_hat(np.full((10, 4), 0.1)))
    assert r_hat(np.ones((10, 1)) * [0.0, 1.0]) == math.inf
    for bad in (np.zeros(10), np.zeros((3, 2)), np.full((10, 2), np.nan)):
        with pytest.raises(ValueError, match="r_hat needs"):
            r_hat(bad)


def test_count_changes_rounds_and_keeps_chains_apart():
    charge = np.array([[0.0, 5.0], [1e-9, 5.0], [1.0, 5.0 - 1e-9], [-1.0, 5.0], [-1.0, 4.0]])
    assert count_changes(charge) == 3
    assert count_changes(charge[:, 0]) == 2
    assert count_changes(np.ones((7, 1)) * [0, 1, 2]) == 0
    with pytest.raises(ValueError, match="not finite"):
        count_changes([0.0, np.nan])


def test_rare_events_are_passages(rng):
    """As vortices: 3 % of the values are not zero, and one of them is four times as large as the others."""
    rare = (rng.random((4000, 4)) < 0.03).astype(float)
    rare[17, 2] = 4.0
    assert count_crossings(rare) > 500
    assert count_crossings(-rare) > 500
    assert count_crossings(np.zeros((100, 2))) == 0
    once = np.zeros((100, 2))
    once[50:52, 1] = 1.0
    assert count_crossings(once) == 2


def test_count_crossings_counts_full_passages():
    assert count_crossings([0, 1, 2, 3, 4, 5, 6, 5, 4, 5, 6, 1, 0, 1, 0]) == 2
    assert count_crossings([0.0, 3, 0, 3, 0, 6, 3, 6, 3, 6]) == 1  # from the middle and back is no passage
    assert count_crossings([-1, 1, 1, -1]) == 2
    assert count_crossings(np.array([[-1, 1], [-1, 1], [-1, 1], [-1, 1]])) == 0  # never from one chain to the next
    assert count_crossings([np.array([-1.0, -1, 1, -1]), np.array([1.0, 1, 1, 1, -1])]) == 3
    assert count_crossings([0.0] * 99 + [1.0]) == 1  # both quantiles are zero
    assert count_crossings(np.full(50, 0.1)) == 0
    with pytest.raises(ValueError, match="infinite or not a number"):
        count_crossings([0.0, 1.0, 2.0, np.nan])


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(data_seed=st.integers(0, 2**32 - 1), exponent=st.integers(-20, 20), sign=st.sampled_from([-1, 1]))
def test_count_crossings_knows_no_scale_no_sign_and_no_direction_of_time(data_seed, exponent, sign):
    x = np.cumsum(np.random.default_rng(data_seed).normal(size=(400, 3)), axis=0)
    assert count_crossings(sign * 2.0**exponent * x) == count_crossings(x) == count_crossings(x[::-1, ::-1])


@pytest.mark.parametrize("tau_exp", [5.0, 40.0])
def test_crossings_of_known_chains(tau_exp, ar1):
    """The passage from -b to b of an Ornstein-Uhlenbeck process takes sqrt(2 pi) int_0^b exp(z^2/2) dz decay times;
    discrete steps shift each level outward by 0.5826 of a step (D. Siegmund, Adv. Appl. Prob. 11 (1979) 701)."""
    b = ndtri(0.95) / 3 + 0.5826 * math.sqrt(2 / tau_exp)
    passage = tau_exp * math.sqrt(2 * math.pi) * quad(lambda z: math.exp(z**2 / 2), 0, b)[0]
    parts = ar1(20_000, math.exp(-1 / tau_exp), 60)
    counts = np.array([count_crossings(part) for part in np.split(parts, 20, axis=1)])  # three chains each
    error = counts.std(ddof=1) / math.sqrt(counts.size)
    assert abs(counts.mean() - 60_000 / passage) < 4.5 * error
    assert abs(counts.mean() - 1.1 * 60_000 / passage) > 5 * error


def test_crossings_tell_a_frozen_mode_from_a_free_one(ar1, rng):
    noise = 0.2 * rng.normal(size=(5000, 4))
    signs = np.array([1.0, 1.0, 1.0, -1.0])
    assert count_crossings(noise + signs) == 0  # each chain in its place, three of four in the same
    assert count_crossings(noise + signs * np.where(np.arange(5000) < 2000, 1, -1)[:, None]) == 4  # one hop each
    assert count_crossings(noise + np.sign(ar1(5000, 0.98, 4))) > MIN_CHANGES
    assert count_crossings(noise) > 100 * MIN_CHANGES


def correlated(ar1, n):
    common = ar1(n, 0.8, 2)
    return [weight * common + 0.3 * ar1(n, 0.8, 2) for weight in (1.0, -1.0, 0.8, 1.2)]


@pytest.mark.parametrize(("ours", "theirs"), [({}, {"S": 1.5}), ({"tau_exp": 9.0}, {"tau_exp": 9.0})])
def test_covariance_agrees_with_pyerrors(ours, theirs, ar1):
    series = [x[:, 0] for x in correlated(ar1, 3000)]
    observables = [pyerrors.Obs([x], ["e"]) for x in series]
    for obs in observables:
        obs.gamma_method(**theirs)
    assert covariance_of_means(series, **ours) == pytest.approx(pyerrors.covariance(observables), rel=1e-10)


def test_covariance_has_the_errors_on_its_diagonal(ar1):
    series = [*correlated(ar1, 200), np.full((200, 2), 0.1)]  # the last one is frozen
    covariance = covariance_of_means(series)
    assert np.diag(covariance) == pytest.approx([*(gamma_method(x).error ** 2 for x in series[:-1]), 0.0])
    assert covariance[-1] == pytest.approx(np.zeros(5))
    assert np.linalg.eigvalsh(covariance).min() > -1e-15
    with pytest.raises(ValueError, match="positive errors"):
        chi_squared(np.zeros(5), covariance)


def test_chi_squared_of_correlated_means_is_distributed_as_it_should(ar1):
    def p_values(errors_scale, keep_correlation):
        ps = []
        for series in repeats:
            covariance = covariance_of_means(series) * errors_scale**2
            if not keep_correlation:
                covariance = np.diag(np.diag(covariance))
            ps.append(chi_squared([x.mean() for x in series], covariance).p)
        return kstest(ps, "uniform").pvalue

    repeats = [correlated(ar1, 2000) for _ in range(N_REPEATS)]
    assert p_values(1.0, True) > 1e-5
    assert p_values(0.8, True) < 1e-6
    assert p_values(1.0, False) < 1e-6


def test_chi_squared_of_independent_figures():
    chi2, p = chi_squared([1.0, -4.0], np.diag([1.0, 4.0]))
    assert chi2 == pytest.approx(5.0)
    assert p == pytest.approx(math.exp(-2.5))  # two degrees of freedom


def test_figures_that_determine_one_another_are_refused(rng):
    x = rng.normal(size=100)
    with pytest.raises(ValueError, match="determine one another"):
        chi_squared([0.1, 0.1], covariance_of_means([x, 2 * x]))
    with pytest.raises(ValueError, match="do not fit"):
        chi_squared([0.1, 0.1], np.eye(3))
    with pytest.raises(ValueError, match="finite differences"):
        chi_squared([0.1, np.nan], np.eye(2))


def test_pull_needs_an_error():
    assert pull(3.0, 0.5, 2.0) == 2.0
    assert math.isnan(pull(3.0, 0.0, 3.0))
    assert math.isnan(pull(3.0, math.nan, 3.0))


def test_crossings_of_an_odd_series_know_the_end_that_no_chain_has_seen(rng):
    one_sign = 0.5 + 0.05 * rng.standard_normal((4, 1000))
    assert count_crossings(list(one_sign)) > 100, "noise passes for motion where the symmetry is not known"
    assert count_crossings(list(one_sign), odd=True) == 0
    assert count_crossings(list(np.where(np.arange(1000) % 100 < 50, one_sign, -one_sign)), odd=True) == 4 * 19
