"""The Gamma method: errors of Markov chain means with their autocorrelation (U. Wolff, hep-lat/0306017).

Conventions: tau_int = 1/2 + sum_{t>=1} rho(t), in units of stored configurations, 1/2 for independent samples. Value,
error, tau_int and window are those of pyerrors' Obs.gamma_method(S=s_tau) on the same replicas.

As there, fluctuations are taken about each replica's own mean, so the error knows the spread within chains alone. It
is too small where chains disagree (r_hat well above 1) and, by a fraction of about window / n_configs, for many short
chains: with tau_int = 4.5 the true deviation of 20 chains of 100 configurations is 1.23 of it, of 20 of 1000 1.03.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.statistics.replicas import (
    Array,
    Series,
    as_replicas,
    fluctuations,
    lagged_products,
    n_pairs,
    pooled_mean,
    require_equal_lengths,
    split_replicas,
)

_FIRST_LAGS = 512  # most windows are shorter; more lags are computed only when this is not enough
_LAG_GROWTH = 16
_ROUNDING = 1e-12  # a standard deviation below this fraction of the largest value is rounding, not fluctuation


class Estimate(NamedTuple):
    """A mean with its error. A frozen series (no chain fluctuates) has tau_int = tau_int_error = n_eff = nan."""

    value: float
    error: float  # one standard deviation
    tau_int: float  # in stored configurations
    tau_int_error: float
    window: int  # lags summed
    n_eff: float  # N / (2 tau_int), N the number of values of all chains


class AutocorrelationFunction(NamedTuple):
    """Normalised autocorrelation rho(t), t = 0 .. len - 1, with its error and the window at which tau_int is summed."""

    rho: Array
    rho_error: Array
    window: int


def gamma_method(series: Series, s_tau: float = 1.5) -> Estimate:
    """The mean of a series and its error with autocorrelation, automatic window (hep-lat/0306017, section 3.3).

    series: (n_configs,), (n_configs, n_chains), or a list of 1-D arrays, one per replica, of any lengths.
    s_tau: assumed ratio of the exponential to the integrated autocorrelation time, 1 to 2.

    A frozen series says nothing on its error, and its tau_int and n_eff are nan: flag it. Its error is 0 if all
    replicas hold the same value, and otherwise comes from the spread of the replicas. Round a topological charge first:
    its rounding noise about zero would pass for a fluctuation.

    Raises ValueError for values that are not finite, for fewer than 4 configurations in a chain and for s_tau <= 0.
    """
    replicas = as_replicas(series)
    return _estimate(replicas, _largest(replicas), s_tau)


def derived(
    function: Callable[..., float],
    *series: Series,
    gradient: Callable[..., Sequence[float]] | None = None,
    s_tau: float = 1.5,
) -> Estimate:
    """The Gamma method for function(<a>, <b>, ...) with linear error propagation (hep-lat/0306017).

    function: takes the means as floats and returns a float.
    series: one per argument, of equal shapes, as for gamma_method.
    gradient: takes the means, returns df/d<a>, df/d<b>, ...; differences on the scale of the errors if absent.

    Raises what gamma_method raises, and ValueError if series differ in shape or function or gradient are not finite at
    the means.
    """
    if not series:
        raise ValueError("derived needs at least one series")
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    means = [pooled_mean(replicas) for replicas in several]
    value = float(function(*means))
    slopes = gradient(*means) if gradient is not None else _differences(function, means, several)
    if not math.isfinite(value) or not np.isfinite(slopes).all():
        raise ValueError(f"the function or its gradient is not finite at the means {means}")
    projected = [
        np.sum([slope * (part - mean) for slope, mean, part in zip(slopes, means, parts)], axis=0)
        for parts in zip(*several)  # the parts of all series in one replica
    ]
    scale = sum(abs(slope) * _largest(replicas) for slope, replicas in zip(slopes, several))
    return _estimate(projected, scale, s_tau)._replace(value=value)


def ratio(numerator: Series, denominator: Series, s_tau: float = 1.5) -> Estimate:
    """<numerator> / <denominator> by `derived`; ZeroDivisionError if the denominator's mean is zero."""
    return derived(
        lambda a, b: a / b,
        numerator,
        denominator,
        gradient=lambda a, b: (1.0 / b, -a / b**2),
        s_tau=s_tau,
    )


def reweighted(series: Series, log_w: Series, s_tau: float = 1.5) -> Estimate:
    """<w O> / <w> along weighted chains: the series of O, and the log weights of the same configurations.

    Both shaped as for gamma_method. log_w may lack any constant, and -inf is a weight of zero. tau_int and n_eff are
    those of the ratio's fluctuation w (O - <O>): they do not tell how uneven the weights are, which
    effective_sample_size does. Raises what gamma_method raises, and ValueError if a log weight is nan or +inf, or if
    all are -inf.
    """
    values, log_weights = as_replicas(series), split_replicas(log_w)
    require_equal_lengths([values, log_weights])
    largest = float(np.max([replica.max() for replica in log_weights]))  # nan if any is nan
    if not math.isfinite(largest):
        raise ValueError("log weights must be finite or -inf, and not all -inf")
    weights = [np.exp(replica - largest) for replica in log_weights]
    return ratio([w * value for w, value in zip(weights, values)], weights, s_tau)


def autocorrelation(series: Series, max_lag: int, s_tau: float = 1.5) -> AutocorrelationFunction:
    """rho(t) for t = 0 .. max_lag with its error (Madras and Sokal; M. Luescher, hep-lat/0409106, eq. E.11).

    max_lag is cut to half the longest replica; the window may lie beyond it. The sum in the error runs over all lags
    known, as in pyerrors. A frozen series has rho = rho_error = nan and window 0. Raises what gamma_method raises.
    """
    replicas = as_replicas(series)
    deltas = fluctuations(replicas)
    n_total = sum(replica.size for replica in replicas)
    n_lags = _most_lags(deltas)
    shown = min(max_lag, n_lags - 1) + 1
    gamma = _gamma(deltas, n_lags)
    if _is_frozen(gamma[0], _largest(replicas)):
        return AutocorrelationFunction(np.full(shown, np.nan), np.full(shown, np.nan), 0)
    rho = gamma / gamma[0]
    errors = np.array([_rho_error(rho, lag, n_total) for lag in range(shown)])
    return AutocorrelationFunction(rho[:shown], errors, _window(_tau_profile(rho), n_total, s_tau) or n_lags - 1)


def _estimate(replicas: list[Array], scale: float, s_tau: float) -> Estimate:
    """The Gamma method for the mean of all values; fluctuations of the size of `scale` times rounding count as none."""
    value = pooled_mean(replicas)
    n_total = sum(replica.size for replica in replicas)
    deltas = fluctuations(replicas)
    variance = sum(float(delta @ delta) for delta in deltas) / n_total
    if _is_frozen(variance, scale):
        return Estimate(value, _error_between_replicas(replicas, value), math.nan, math.nan, 0, math.nan)
    tau, window = _windowed_sum(deltas, n_total, s_tau)
    tau_int = tau * (1 + (2 * window + 1) / n_total) / (1 + 1 / n_total)  # eq. 49
    tau_int_error = 2 * tau * math.sqrt(abs(window + 0.5 - tau) / n_total)  # eq. 42
    error = math.sqrt(2 * tau_int * variance * (1 + 1 / n_total) / n_total)
    return Estimate(value, error, tau_int, tau_int_error, window, n_total / (2 * tau_int))


def _windowed_sum(deltas: list[Array], n_total: int, s_tau: float) -> tuple[float, int]:
    """tau_int before its bias correction and the window it is summed to, from as few lags as needed."""
    n_lags = min(_FIRST_LAGS, _most_lags(deltas))
    while True:
        gamma = _gamma(deltas, n_lags)
        tau = _tau_profile(gamma / gamma[0])
        window = _window(tau, n_total, s_tau)
        if window is None and n_lags == _most_lags(deltas):
            window = n_lags - 1
        if window is not None:
            return float(tau[window]), window
        n_lags = min(_LAG_GROWTH * n_lags, _most_lags(deltas))


def _most_lags(deltas: list[Array]) -> int:
    return max(delta.size for delta in deltas) // 2


def _gamma(deltas: list[Array], n_lags: int) -> Array:
    """Autocovariance at lags 0 .. n_lags - 1, averaged over all pairs of all replicas (hep-lat/0306017, section 3)."""
    products = np.zeros(n_lags)
    for delta in deltas:
        products[: delta.size] += lagged_products(delta, min(n_lags, delta.size))
    return products / n_pairs([delta.size for delta in deltas], n_lags)


def _tau_profile(rho: Array) -> Array:
    """tau_int(W) for W = 0 .. len - 1, kept above 1/2 as in pyerrors."""
    tau = np.cumsum(rho) - 0.5
    return np.where(tau <= 0.5, 0.5 + np.finfo(np.float64).eps, tau)


def _window(tau: Array, n_total: int, s_tau: float) -> int | None:
    """The first W >= 1 where the gain from a longer sum falls below its noise (section 3.3); None if not reached."""
    if not s_tau > 0:
        raise ValueError(f"s_tau must be positive, got {s_tau}")
    lags = np.arange(1, tau.size)
    decay = s_tau / np.log((2 * tau[1:] + 1) / (2 * tau[1:] - 1))
    settled = np.flatnonzero(np.exp(-lags / decay) < decay / np.sqrt(lags * n_total))
    return int(lags[settled[0]]) if settled.size else None


def _rho_error(rho: Array, lag: int, n_total: int) -> float:
    """hep-lat/0409106, eq. E.11: the sum over k of [rho(k+t) + rho(|k-t|) - 2 rho(k) rho(t)]^2 / N."""
    k = np.arange(1, rho.size - lag)
    return float(np.linalg.norm(rho[k + lag] + rho[np.abs(k - lag)] - 2 * rho[k] * rho[lag]) / math.sqrt(n_total))


def _largest(replicas: list[Array]) -> float:
    return max(max(float(replica.max()), -float(replica.min())) for replica in replicas)


def _is_frozen(variance: float, scale: float) -> bool:
    return math.sqrt(max(variance, 0.0)) <= _ROUNDING * scale


def _error_between_replicas(replicas: list[Array], value: float) -> float:
    """The error of the mean from the replicas' own means, zero for one replica or equal ones."""
    if len(replicas) == 1:
        return 0.0
    sizes = np.array([replica.size for replica in replicas])
    spread = np.array([replica.mean() - value for replica in replicas])
    return math.sqrt(float(sizes @ spread**2) / float(sizes.sum()) / (len(replicas) - 1))


def _differences(function: Callable[..., float], means: list[float], several: list[list[Array]]) -> list[float]:
    """Gradient by five-point differences on a tenth of the naive error of each mean: there f must be smooth anyway."""
    slopes = []
    for i, replicas in enumerate(several):
        n_total = sum(replica.size for replica in replicas)
        variance = sum(float(np.sum((replica - means[i]) ** 2)) for replica in replicas) / n_total
        step = 0.1 * math.sqrt(variance / n_total)
        at = [function(*means[:i], means[i] + shift * step, *means[i + 1 :]) for shift in (-2, -1, 1, 2)]
        slopes.append(float(at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step) if step > 0 else 0.0)
    return slopes
