"""Functions of means of plain and weighted chains, against pyerrors and closed forms."""

import math

import numpy as np
import pytest

from lattice_flows.statistics import (
    derived,
    derived_reweighted,
    gamma_method,
    jackknife_over_chains,
    ratio,
    reweighted,
)

N_SERIES = 400
SHIFT = 0.5  # log_w = SHIFT x takes N(0, 1) to N(SHIFT, 1)


def test_derived_agrees_with_pyerrors(ar1, pyerrors_obs, assert_same):
    a = [ar1(n, 0.8)[:, 0] + 5.0 for n in (3000, 2000)]
    b = [0.5 * x + ar1(x.size, 0.5)[:, 0] + 2.0 for x in a]
    obs_a, obs_b = pyerrors_obs(a), pyerrors_obs(b)
    assert_same(ratio(a, b), obs_a / obs_b)
    assert_same(derived(lambda x, y: x**2 * y, a, b, gradient=lambda x, y: (2 * x * y, x**2)), obs_a**2 * obs_b)
    assert_same(derived(lambda x, y: np.log(x) / y, a, b), np.log(obs_a) / obs_b)
    tail = {"tau_exp": 20.0, "n_sigma": 2.0}
    assert_same(ratio(a, b, **tail), obs_a / obs_b, tau_exp=20.0, N_sigma=2.0)
    assert_same(derived(lambda x, y: np.log(x) / y, a, b, **tail), np.log(obs_a) / obs_b, tau_exp=20.0, N_sigma=2.0)


def test_reweighted_agrees_with_pyerrors(ar1, pyerrors_obs, assert_same):
    x = [ar1(n, 0.8)[:, 0] for n in (3000, 2000)]
    expected = pyerrors_obs([np.exp(0.3 * r) * r for r in x]) / pyerrors_obs([np.exp(0.3 * r) for r in x])
    log_w = [0.3 * r + 800.0 for r in x]
    assert_same(reweighted(x, log_w), expected)
    assert_same(reweighted(x, log_w, tau_exp=9.0), expected, tau_exp=9.0)
    squared = pyerrors_obs([np.exp(0.3 * r) * r**2 for r in x]) / pyerrors_obs([np.exp(0.3 * r) for r in x])
    variance = derived_reweighted(lambda mean, square: square - mean**2, log_w, x, [r**2 for r in x])
    assert_same(variance, squared - expected**2)


def test_reweighting_a_gaussian_shifts_its_mean(ar1, misfit):
    shift = 0.5
    chains = ar1(4000, 0.8, N_SERIES)
    estimates = [reweighted(x, shift * x) for x in chains.T]
    assert misfit(np.array([(e.value - shift) / e.error for e in estimates])) < 4.5
    assert misfit(np.array([(e.value - 1.06 * shift) / e.error for e in estimates])) > 5
    assert (
        misfit(
            np.array([(reweighted(x, 1.06 * shift * x).value - shift) / e.error for x, e in zip(chains.T, estimates)])
        )
        > 5
    )


def test_derived_of_the_mean_itself(ar1):
    x = ar1(1000, 0.9, 2)
    assert derived(lambda mean: mean, x) == pytest.approx(gamma_method(x), rel=1e-9)
    assert derived(lambda mean: 3.0, x).error == 0.0


def test_ratio_of_proportional_series_is_frozen(rng):
    x = 1.0 + rng.uniform(size=200)
    estimate = ratio(0.3 * x, x)
    assert estimate.value == pytest.approx(0.3)
    assert estimate.error < 1e-15
    assert math.isnan(estimate.tau_int)


def test_a_weight_of_zero_drops_its_configuration(rng):
    x = rng.normal(size=100)
    log_w = np.where(np.arange(100) < 50, 0.0, -np.inf)
    assert reweighted(x, log_w).value == pytest.approx(x[:50].mean())
    with pytest.raises(ValueError, match="all -inf"):
        reweighted(x, np.full(100, -np.inf))


def test_n_eff_of_independent_weighted_samples(rng):
    """n_eff = N exp(-s^2) / (1 + s^2) for <x> of a Gaussian shifted by s, which is less than ESS * N."""
    n = 20_000
    x = rng.normal(size=(n, 50))
    fractions = np.array([reweighted(column, SHIFT * column).n_eff / n for column in x.T])
    exact = math.exp(-(SHIFT**2)) / (1 + SHIFT**2)
    error = fractions.std(ddof=1) / math.sqrt(fractions.size)
    assert abs(fractions.mean() - exact) < 4.5 * error
    assert abs(fractions.mean() - math.exp(-(SHIFT**2))) > 5 * error  # the ESS alone
    assert abs(fractions.mean() - 1.05 * exact) > 5 * error


def test_n_eff_says_how_many_configurations_of_the_target_give_the_error(ar1, misfit):
    chains = ar1(4000, 0.8, N_SERIES)
    estimates = [reweighted(x, SHIFT * x) for x in chains.T]
    deviations = np.array([e.value - SHIFT for e in estimates])  # the variance in the target is 1
    assert misfit(deviations * np.sqrt([e.n_eff for e in estimates])) < 4.5
    assert misfit(deviations * np.sqrt([x.size / (2 * e.tau_int) for x, e in zip(chains.T, estimates)])) > 5


def test_functions_of_weighted_means(ar1, misfit):
    """The variance of x stays 1 under the shift; that of its linearised fluctuation (x - SHIFT)^2 - 1 is 2."""
    chains = ar1(4000, 0.6, N_SERIES)

    def variance(mean, square):
        return square - mean**2

    estimates = [derived_reweighted(variance, SHIFT * x, x, x**2) for x in chains.T]
    deviations = np.array([e.value - 1 for e in estimates])
    assert misfit(deviations / np.array([e.error for e in estimates])) < 4.5
    assert misfit(deviations * np.sqrt([e.n_eff / 2 for e in estimates])) < 4.5
    assert misfit(deviations * np.sqrt([e.n_eff for e in estimates])) > 5  # the variance of x in place of that of f
    assert misfit((deviations - 0.02) / np.array([e.error for e in estimates])) > 5


def test_equal_weights_are_no_weights(ar1):
    a = ar1(1000, 0.7) + 2.0
    b = a**2
    weighted = derived_reweighted(lambda x, y: y / x, np.full(a.shape, -700.0), a, b)
    plain = derived(lambda x, y: y / x, a, b)
    assert weighted[:5] == pytest.approx(plain[:5], rel=1e-9)
    for estimate, expected in ((weighted, plain), (reweighted(a, np.zeros(a.shape)), gamma_method(a))):
        assert estimate.n_eff * (1 + 1 / 1000) == pytest.approx(expected.n_eff, rel=1e-9)


def test_a_constant_under_any_weights_is_frozen(rng):
    estimate = reweighted(np.full((50, 2), 0.1), 3 * rng.normal(size=(50, 2)))
    assert estimate.value == pytest.approx(0.1)
    assert math.isnan(estimate.tau_int)
    assert math.isnan(estimate.n_eff)


@pytest.mark.parametrize("distance", [10.0, 0.21, 0.19, 0.05, 0.005])
@pytest.mark.parametrize("root", [np.sqrt, math.sqrt])
def test_gradient_near_the_edge_of_a_function(distance, root, rng):
    """sqrt(a/b - 1) ends at `distance` naive errors from <a>."""
    noise = rng.normal(size=1000)
    noise = (noise - noise.mean()) / noise.std()
    b = 0.5 + 0.01 * np.roll(noise, 1)
    a = 0.5 + noise + distance / math.sqrt(1000)

    def gradient(x, y):
        slope = 0.5 / math.sqrt(x / y - 1)
        return slope / y, -slope * x / y**2

    by_differences = derived(lambda x, y: root(x / y - 1), a, b)
    exact = derived(lambda x, y: root(x / y - 1), a, b, gradient=gradient)
    assert by_differences == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("root", [np.sqrt, math.sqrt])
def test_a_function_not_defined_at_the_means_is_refused(root):
    ends_above = np.arange(10.0)
    with pytest.raises(ValueError, match=r"not finite at the means|math domain error|nonnegative"):
        derived(lambda x: root(x - 4.6), ends_above)
    with pytest.raises(ValueError, match="not finite at the means"):
        derived(lambda x: root(x - 4.5), ends_above)  # the edge itself: a value without a gradient
    with pytest.raises(ValueError, match="not finite at the means"):
        derived_reweighted(lambda x: root(x - 4.5), np.zeros(10), ends_above)


def test_functions_need_series():
    with pytest.raises(ValueError, match="at least one series"):
        derived(lambda: 0.0)
    with pytest.raises(ValueError, match="equal lengths"):
        derived_reweighted(lambda x: x, np.zeros(9), np.zeros(10))


def test_the_jackknife_over_chains_is_the_error_of_independent_chains(rng):
    """Pulls with it have unit variance, weighted and not; a spread of the chains that it does not see would show."""
    pulls = []
    for _ in range(400):
        log_w = 0.5 * rng.standard_normal((50, 40)) + 0.3 * rng.standard_normal(40)
        a = 1.0 + rng.standard_normal((50, 40)) + 0.5 * rng.standard_normal(40)
        estimate = derived_reweighted(lambda mean: mean**2, log_w, a)
        error = jackknife_over_chains(lambda mean: mean**2, log_w, a)
        pulls.append([(estimate.value - 1.0) / error, (estimate.value - 1.0) / estimate.error])
    own, gamma = np.var(pulls, axis=0)
    # The variance of 400 pulls is known to sqrt(2/400) = 7 %; a bias of order error^2 adds a few per cent.
    assert abs(own - 1.0) < 0.35
    assert gamma > 1.4, "the window of the Gamma method closes before the spread of the chains, a fifth of the variance"


def test_the_jackknife_over_chains_is_exact_for_plain_means(rng):
    a = rng.standard_normal((30, 7))
    means = a.mean(axis=0)
    error = jackknife_over_chains(lambda mean: mean, np.zeros_like(a), a)
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(7), rel=1e-12)
    with pytest.raises(ValueError, match="two of them"):
        jackknife_over_chains(lambda mean: mean, np.zeros(30), a[:, 0])
