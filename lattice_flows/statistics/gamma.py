"""The Gamma method: errors of Markov chain means with their autocorrelation (U. Wolff, hep-lat/0306017).

Conventions: tau_int = 1/2 + sum_{t>=1} rho(t), in units of stored configurations, 1/2 for independent samples. Value,
error, tau_int and window are those of pyerrors' Obs.gamma_method(S=s_tau) on the same replicas, and of
Obs.gamma_method(tau_exp=tau_exp, N_sigma=n_sigma) with tau_exp.

As there, fluctuations are taken about each replica's own mean, so the error reflects only the spread within chains. It
is too small where chains disagree (r_hat well above 1) and, by a fraction of about window / n_configs, for many short
chains: with tau_int = 4.5 the true deviation of 20 chains of 100 configurations is 1.23 times the error, and that of 20
chains of 1000 is 1.03 times.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.statistics.replicas import Array, Series, as_replicas, sizes_of
from lattice_flows.statistics.shares import fluctuations, largest, of_replicas, pooled_mean
from lattice_flows.statistics.windows import (
    WindowRule,
    autocovariance,
    integrated_time,
    most_lags,
    rho_error,
    window_of,
)

_ROUNDING = 1e-12  # a standard deviation below this fraction of the largest value is rounding, not fluctuation


class Estimate(NamedTuple):
    """A figure with its error. A frozen series (no chain fluctuates) has tau_int = tau_int_error = n_eff = nan."""

    value: float
    error: float  # one standard deviation
    tau_int: float  # in stored configurations
    tau_int_error: float
    window: int  # lags summed
    n_eff: float  # N / (2 tau_int), N the number of values of all chains; of weighted estimates variance / error^2


class AutocorrelationFunction(NamedTuple):
    """Normalised autocorrelation rho(t), t = 0 .. len - 1, with its error and the window at which tau_int is summed."""

    rho: Array
    rho_error: Array
    window: int


def gamma_method(series: Series, s_tau: float = 1.5, tau_exp: float | None = None, n_sigma: float = 1.0) -> Estimate:
    """The mean of a series and its error with autocorrelation, automatic window (hep-lat/0306017, section 3.3).

    series: (n_configs,), (n_configs, n_chains), or a list of 1-D arrays, one per replica, of any lengths.
    s_tau: assumed ratio of the exponential to the integrated autocorrelation time, 1 to 2; unused with tau_exp.
    tau_exp: decay time, in stored configurations, of the slowest mode the series may couple to. Given, the sum ends
        where rho is below n_sigma of its errors, and tau_exp rho(window + 1) stands for the tail beyond: a safer error
        for series whose own autocorrelation function does not show that mode (arXiv:1009.5228). All lags are computed.

    A frozen series says nothing about its error, and its tau_int and n_eff are nan: flag it. Its error is 0 if all
    replicas hold the same value, and otherwise comes from the spread of the replicas. Round a topological charge first:
    its rounding noise about zero would pass for a fluctuation.

    Raises ValueError for values that are not finite, for fewer than 4 configurations in a chain (with tau_exp 8 in the
    longest), and for s_tau, tau_exp or n_sigma that are not positive.
    """
    rule = WindowRule(s_tau, tau_exp, n_sigma)
    replicas = as_replicas(series)
    return estimate_mean(replicas, largest(replicas), rule)


def autocorrelation(
    series: Series, max_lag: int, s_tau: float = 1.5, tau_exp: float | None = None, n_sigma: float = 1.0
) -> AutocorrelationFunction:
    """rho(t) for t = 0 .. max_lag with its error (Madras and Sokal; M. Luescher, hep-lat/0409106, eq. E.11).

    max_lag is cut to half the longest replica; the window may lie beyond it. The sum in the error runs over all lags
    known, as in pyerrors. A frozen series has rho = rho_error = nan and window 0. The other arguments, and what is
    raised, as for gamma_method.
    """
    rule = WindowRule(s_tau, tau_exp, n_sigma)
    replicas = as_replicas(series)
    deltas = fluctuations(replicas)
    n_total = sum(sizes_of(replicas))
    n_lags = most_lags(deltas)
    shown = min(max_lag, n_lags - 1) + 1
    gamma = autocovariance(deltas, n_lags)
    if _is_frozen(gamma[0], largest(replicas)):
        return AutocorrelationFunction(np.full(shown, np.nan), np.full(shown, np.nan), 0)
    rho = gamma / gamma[0]
    errors = np.array([rho_error(rho, lag, n_total) for lag in range(shown)])
    return AutocorrelationFunction(rho[:shown], errors, window_of(rho, n_total, rule))


def estimate_mean(replicas: Sequence[Array], scale: float, rule: WindowRule, value: float | None = None) -> Estimate:
    """The Gamma method for the mean of all values; fluctuations of the size of `scale` times rounding count as none.

    value: the mean to return, if it is known already.
    """
    value = pooled_mean(replicas) if value is None else value
    n_total = sum(sizes_of(replicas))
    variance, time = integrated_time(fluctuations(replicas), rule, _ROUNDING * scale)
    if time is None:
        return Estimate(value, _error_between_replicas(replicas), math.nan, math.nan, 0, math.nan)
    tau_int, tau_int_error, window = time
    error = math.sqrt(2 * tau_int * variance * (1 + 1 / n_total) / n_total)
    return Estimate(value, error, tau_int, tau_int_error, window, n_total / (2 * tau_int))


def _is_frozen(variance: float, scale: float) -> bool:
    return math.sqrt(max(variance, 0.0)) <= _ROUNDING * scale


def _error_between_replicas(replicas: Sequence[Array]) -> float:
    """The error of the mean from the replicas' own means, zero for one replica or equal ones."""
    if len(replicas) == 1:
        return 0.0
    sizes = np.array(sizes_of(replicas))
    means = of_replicas(lambda rows: rows.mean(axis=-1), replicas)
    spread = means - float(sizes @ means / sizes.sum())
    return math.sqrt(float(sizes @ spread**2) / float(sizes.sum()) / (len(replicas) - 1))
