"""The Gamma method against pyerrors, against chains with a known tau_int, and against its own symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lattice_flows.statistics import autocorrelation, derived, gamma_method, r_hat, ratio, reweighted
from lattice_flows.statistics.lagged import lagged_products

pytestmark = pytest.mark.quick

LENGTHS = [(4000,), (1000, 777, 500), (300, 20, 5), (5, 9), (1000,) * 4]
N_SERIES = 400
TAU_09 = 9.5  # of AR(1) with 0.9


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_agrees_with_pyerrors(lengths, a, ar1, pyerrors_obs, assert_same):
    replicas = [ar1(n, a)[:, 0] + 3.0 for n in lengths]
    assert_same(gamma_method(replicas), pyerrors_obs(replicas))


def test_agrees_with_pyerrors_beyond_the_first_lags(ar1, pyerrors_obs, assert_same):
    replicas = list(ar1(40_000, 0.995, 2).T)
    estimate = gamma_method(replicas)
    assert estimate.window > 512
    assert_same(estimate, pyerrors_obs(replicas))


def test_autocorrelation_agrees_with_pyerrors(ar1, pyerrors_obs):
    replicas = [ar1(n, 0.9)[:, 0] for n in (2000, 1500)]
    obs = pyerrors_obs(replicas)
    obs.gamma_method(S=1.5, tau_exp=10.0, N_sigma=1.0)  # with tau_exp it keeps the errors of many lags
    known = np.flatnonzero(obs.e_drho["e"])
    assert known.size > 5
    shown = autocorrelation(replicas, max_lag=200)
    assert shown.rho == pytest.approx(obs.e_rho["e"][:201], abs=1e-12)
    assert shown.rho_error[known] == pytest.approx(obs.e_drho["e"][known], rel=1e-10)
    assert shown.rho_error[0] == 0.0
    assert shown.window == gamma_method(replicas).window
    assert autocorrelation(replicas, 0, tau_exp=10.0).window == obs.e_windowsize["e"]


@pytest.mark.parametrize(("tau_exp", "n_sigma"), [(30.0, 1.0), (7.5, 2.0), (200.0, 0.5)])
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.9, 0.99])
@pytest.mark.parametrize("lengths", [*LENGTHS, (8,), (11, 9)], ids=str)
def test_tail_agrees_with_pyerrors(lengths, a, tau_exp, n_sigma, ar1, pyerrors_obs, assert_same):
    replicas = [ar1(n, a)[:, 0] + 3.0 for n in lengths]
    estimate = gamma_method(replicas, tau_exp=tau_exp, n_sigma=n_sigma)
    assert_same(estimate, pyerrors_obs(replicas), tau_exp=tau_exp, N_sigma=n_sigma)


def test_tail_covers_a_slow_mode_that_the_window_misses(ar1, misfit):
    """A weak slow component, a = 0.99 with 3 % of the variance: tau_int = (0.97 * 0.5 + 0.03 * 99.5) = 3.47."""
    n, repeats, tau_exp = 4000, 200, -1 / math.log(0.99)
    series = math.sqrt(0.97) * ar1(n, 0.0, repeats) + math.sqrt(0.03) * ar1(n, 0.99, repeats)
    plain = [gamma_method(x) for x in series.T]
    tailed = [gamma_method(x, tau_exp=tau_exp) for x in series.T]
    assert misfit(np.array([e.value / e.error for e in plain])) > 5
    # The tail is an upper bound and noisy: its tau_int may be too large on average, not too small.
    tau = np.array([e.tau_int for e in tailed])
    assert (tau.mean() - 3.47) / (tau.std() / math.sqrt(repeats)) > -4.5
    assert (np.mean([e.tau_int for e in plain]) - 3.47) / (np.std([e.tau_int for e in plain]) / math.sqrt(repeats)) < -5


@pytest.mark.parametrize(
    ("lengths", "n_lags"),
    [
        *[((5,), 2), ((65,), 33), ((1000,), 500), ((9,), 9), ((50_000,), 7), ((99_000,), 100), ((33_000,), 2048)],
        *[((16_184,), 200), ((16_185,), 200), ((32_368,), 200), ((32_369,), 200)],  # around the length of segments
        *[((40_000, 40_000, 20_000, 300, 5), 150), ((7, 9, 9, 30), 15)],
    ],
)
def test_lagged_products_are_the_plain_sums(lengths, n_lags, rng):
    replicas = [rng.normal(size=n) for n in lengths]
    plain = [sum(x[: x.size - t] @ x[t:] for x in replicas if t < x.size) for t in range(n_lags)]
    assert lagged_products(replicas, n_lags) == pytest.approx(plain, abs=1e-13 * sum(lengths))


def test_errors_and_tau_int_of_known_chains(ar1, misfit):
    chains = ar1(10_000, 0.9, N_SERIES)
    estimates = [gamma_method(chain) for chain in chains.T]
    pulls = np.array([e.value / e.error for e in estimates])
    assert misfit(pulls) < 4.5
    within = np.mean(np.abs(pulls) < 1)
    assert abs(within - math.erf(math.sqrt(0.5))) < 4.5 * math.sqrt(0.683 * 0.317 / N_SERIES)
    assert misfit(pulls / 0.75) > 5  # errors 25 % too small are caught
    naive = np.array([e.value / (e.error / math.sqrt(2 * e.tau_int)) for e in estimates])
    assert misfit(naive) > 100  # and so is ignoring the autocorrelation
    assert np.mean(np.abs(naive) < 1) < 0.4

    def tau_deviation(tau):
        return abs(np.mean([(e.tau_int - tau) / e.tau_int_error for e in estimates])) * math.sqrt(N_SERIES)

    assert tau_deviation(TAU_09) < 4.5
    assert tau_deviation(TAU_09 + 0.5) > 5  # the other convention, tau_int = 1 for independent samples
    assert 0.8 < np.std([(e.tau_int - TAU_09) / e.tau_int_error for e in estimates]) < 1.2


def test_independent_samples_have_tau_int_one_half(rng):
    estimate = gamma_method(rng.normal(size=(5000, 4)))
    assert abs(estimate.tau_int - 0.5) < 4.5 * estimate.tau_int_error
    assert estimate.n_eff == pytest.approx(20_000 / (2 * estimate.tau_int))
    assert estimate.error == pytest.approx(math.sqrt(1 / estimate.n_eff), rel=0.03)


def test_layouts_of_the_same_chains_agree(ar1):
    chains = ar1(500, 0.7, 3)
    assert gamma_method(chains) == gamma_method(list(chains.T)) == gamma_method(np.asfortranarray(chains))
    assert gamma_method(chains[:, 0]) == gamma_method(chains[:, :1]) == gamma_method(chains[:, 0].tolist())
    assert gamma_method(np.arange(8)) == gamma_method(np.arange(8.0))


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    data_seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-20, 20),
    sign=st.sampled_from([-1, 1]),
    offset=st.integers(-100, 100),
    n_chains=st.integers(1, 4),
)
def test_affine_covariance_and_order_of_chains(data_seed, exponent, sign, offset, n_chains):
    x = np.cumsum(np.random.default_rng(data_seed).normal(size=(60, n_chains)), axis=0)
    scale = sign * 2.0**exponent
    before, after = gamma_method(x), gamma_method(scale * (x[:, ::-1] + offset))
    assert after.window == before.window
    assert after.value == pytest.approx(scale * (before.value + offset), abs=1e-10 * abs(scale))
    assert after.error == pytest.approx(abs(scale) * before.error, rel=1e-9)
    assert after.tau_int == pytest.approx(before.tau_int, rel=1e-9)
    assert after.n_eff == pytest.approx(before.n_eff, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e8])
def test_frozen_series_does_not_look_trustworthy(value):
    estimate = gamma_method(np.full((1000, 3), value))
    assert estimate.value == pytest.approx(value, rel=1e-14)
    assert math.isnan(estimate.error)
    assert math.isnan(estimate.tau_int)
    assert math.isnan(estimate.tau_int_error)
    assert math.isnan(estimate.n_eff)
    assert np.isnan(autocorrelation(np.full((1000, 3), value), 5).rho).all()


def test_chains_frozen_at_different_values_show_their_spread():
    estimate = gamma_method(np.array([0.0, 1.0, 2.0, 5.0]) * np.ones((100, 1)))
    assert estimate.value == 2.0
    assert estimate.error == pytest.approx(np.std([0, 1, 2, 5], ddof=1) / 2)
    assert math.isnan(estimate.tau_int)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    x = np.arange(20.0)
    x[7] = bad
    for estimate in (gamma_method, lambda s: derived(abs, s), lambda s: reweighted(s, np.zeros(20))):
        with pytest.raises(ValueError, match="infinite or not a number"):
            estimate(x)
    with pytest.raises(ValueError, match="log weights"):
        reweighted(np.arange(20.0), x)


def test_shapes_that_make_no_sense_are_refused():
    for short in (np.zeros(3), np.zeros((3, 100)), [np.arange(9.0), np.arange(3.0)], []):
        with pytest.raises(ValueError, match="at least 4 configurations"):
            gamma_method(short)
    with pytest.raises(ValueError, match="not of shape"):
        gamma_method(np.zeros((5, 5, 5)))
    with pytest.raises(ValueError, match="1-D"):
        gamma_method([np.zeros((5, 5)), np.zeros(5)])
    with pytest.raises(ValueError, match="equal lengths"):
        ratio(np.arange(10.0), np.arange(11.0))
    for option in ("s_tau", "tau_exp", "n_sigma"):
        with pytest.raises(ValueError, match=f"{option} must be positive"):
            gamma_method(np.arange(10.0), **{option: 0.0})
    with pytest.raises(ValueError, match="at least 8 configurations"):
        gamma_method(np.arange(7.0), tau_exp=1.0)
    with pytest.raises(ValueError, match="not finite at the means"):
        derived(lambda a: math.inf, np.arange(10.0))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x[:, 0], x[:, 1]]], ids=["array", "list"])
def test_masked_and_complex_series_are_refused(wrap, rng):
    values = rng.normal(size=(100, 2))
    for series, told in ((np.ma.masked_greater(values, 1.0), "masked"), (np.exp(1j * values), "complex")):
        for estimate in (gamma_method, lambda one: reweighted(one, np.zeros((100, 2))), r_hat):
            with pytest.raises(ValueError, match=f"a series is {told}"):
                estimate(wrap(series))


def test_fluctuations_whose_square_is_zero_are_none(rng: np.random.Generator) -> None:
    estimate = gamma_method(1e-200 * rng.normal(size=(100, 2)))
    assert math.isnan(estimate.tau_int)
    assert estimate.error < 1e-160 or math.isnan(estimate.error)
