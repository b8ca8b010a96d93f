"""The Gamma method: errors of Markov chain means with their autocorrelation (U. Wolff, hep-lat/0306017).

Conventions: tau_int = 1/2 + sum_{t>=1} rho(t), in units of stored configurations, 1/2 for independent samples. For one
replica value, error, tau_int and window are those of pyerrors' Obs.gamma_method(S=s_tau), and with tau_exp those of
Obs.gamma_method(tau_exp=tau_exp, N_sigma=n_sigma).

For several replicas fluctuations are taken about the common mean, as in the paper; pyerrors takes each replica's own.
With R replicas of N values together that loses (2 W + 1) R / N of the sum, where it is corrected for (2 W + 1) / N: of
100 chains of 26 tau_int each the true deviation is 1.25 times that error, and 0.98 times the one here. Replicas that
disagree lie within this error, too; r_hat tells.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

from lattice_flows.statistics.replicas import MIN_LENGTH, Array, Series, as_replicas, sizes_of
from lattice_flows.statistics.shares import fluctuations, largest, of_replicas, pooled_mean, widest
from lattice_flows.statistics.windows import (
    WindowRule,
    autocovariance,
    integrated_time,
    most_lags,
    rho_error,
    window_of,
)

_BLOCKS, _FEWEST_BLOCKS = 5, 20  # of each chain, and of all together, to look for slow modes
_ROUNDING = 1e-12  # a standard deviation below this fraction of the largest value is rounding, not fluctuation


class Estimate(NamedTuple):
    """A figure with its error. A frozen series (no chain fluctuates) has tau_int = tau_int_error = n_eff = nan.

    So is the error of its mean, unless chains are frozen in different places. A function of means that does not
    fluctuate, as the ratio of two proportional series, has the error 0.
    """

    value: float
    error: float  # one standard deviation
    tau_int: float  # in stored configurations
    tau_int_error: float
    window: int  # lags summed
    n_eff: float  # N / (2 tau_int), N the number of values of all chains; of weighted estimates variance / error^2
    block_error: float = math.nan  # from long blocks of the chains; nan where they are too short for that
    slow_mode: float = 1.0  # the probability of so large a block_error where tau_int is right; below 0.003 it is not
    pareto_k: float = -math.inf  # of weighted estimates: the tail that the weights give to fluctuations


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

    A frozen series says nothing about its error: error, tau_int and n_eff are nan. Only where replicas are frozen at
    different values the error is that of their spread. Round a topological charge first:
    its rounding noise about zero would pass for a fluctuation.

    Raises ValueError for values that are not finite, for fewer than 4 configurations in a chain (with tau_exp 8 in the
    longest), and for s_tau, tau_exp or n_sigma that are not positive.
    """
    rule = WindowRule(s_tau, tau_exp, n_sigma)
    replicas = as_replicas(series)
    scale = largest(replicas)
    estimate = estimate_mean(replicas, scale, rule)
    is_known = not math.isnan(estimate.tau_int) or estimate.error > _ROUNDING * scale
    return estimate if is_known else estimate._replace(error=math.nan)


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
    if _are_frozen(replicas, largest(replicas)):
        return AutocorrelationFunction(np.full(shown, np.nan), np.full(shown, np.nan), 0)
    gamma = autocovariance(deltas, n_lags)
    rho = gamma / gamma[0]
    errors = np.array([rho_error(rho, lag, n_total) for lag in range(shown)])
    return AutocorrelationFunction(rho[:shown], errors, window_of(rho, n_total, rule))


def estimate_mean(
    replicas: Sequence[Array], scale: float, rule: WindowRule, value: float | None = None, n_kinds: int = 1
) -> Estimate:
    """The Gamma method for the mean of all values; fluctuations of the size of `scale` times rounding count as none.

    A series that is frozen everywhere at one value has the error 0.

    value: the mean to return, if it is known already.
    n_kinds: replicas k and k + n_kinds are of one kind, which has a mean of its own.
    """
    value = pooled_mean(replicas) if value is None else value
    n_total = sum(sizes_of(replicas))
    if _are_frozen(replicas, scale):
        return Estimate(value, _error_between_replicas(replicas), math.nan, math.nan, 0, math.nan)
    deltas = fluctuations(replicas, n_kinds)
    variance, (tau_int, tau_int_error, window) = integrated_time(deltas, rule)
    error = math.sqrt(2 * tau_int * variance * (1 + 1 / n_total) / n_total)
    found = Estimate(value, error, tau_int, tau_int_error, window, n_total / (2 * tau_int))
    n_blocks = max(_BLOCKS, -(-_FEWEST_BLOCKS // len(replicas)))
    return found if min(sizes_of(replicas)) < n_blocks * MIN_LENGTH else _with_blocks(found, deltas, n_blocks)


def _with_blocks(estimate: Estimate, deltas: Sequence[Array], n_blocks: int) -> Estimate:
    """The estimate with the error that the means of n_blocks blocks of each chain show, and how likely that is.

    A mode with a small share of the variance that decays more slowly than the rest: the window closes before it, and
    nothing in rho(t) tells. The means of long blocks contain it. Their variance is chi^2-distributed, and so, about, is
    that of the Gamma method, with 2 (tau_int / its error)^2 degrees of freedom: the ratio has an F distribution.
    """
    sizes = np.array(sizes_of(deltas)) // n_blocks  # (n_chains,), of a block
    means = of_replicas(lambda rows: _block_means(rows, n_blocks), deltas)  # (n_chains, n_blocks)
    n = means.size - 1
    variance = float((sizes[:, None] * means**2).sum()) / n  # of the mean of m values, times m
    block_error = math.sqrt(variance / sum(sizes_of(deltas)))
    own = 2.0 * (estimate.tau_int / estimate.tau_int_error) ** 2 if estimate.tau_int_error > 0 else math.inf
    probability = float(fdtrc(n, min(own, 1e9), (block_error / estimate.error) ** 2))
    return estimate._replace(block_error=block_error, slow_mode=probability)


def _block_means(rows: Array, n_blocks: int) -> Array:
    """Rows (m, n) -> (m, n_blocks); what does not fill a block is left out."""
    size = rows.shape[1] // n_blocks
    return rows[:, : n_blocks * size].reshape(len(rows), n_blocks, size).mean(axis=2)


def _are_frozen(replicas: Sequence[Array], scale: float) -> bool:
    """Whether none of them moves, wherever each may be, by more than rounding or than numbers whose square is 0."""
    width = widest(replicas)
    return width <= _ROUNDING * scale or width * width == 0.0


def _error_between_replicas(replicas: Sequence[Array]) -> float:
    """The error of the mean from the replicas' own means, zero for one replica or equal ones."""
    if len(replicas) == 1:
        return 0.0
    sizes = np.array(sizes_of(replicas))
    means = of_replicas(lambda rows: rows.mean(axis=-1), replicas)
    spread = means - float(sizes @ means / sizes.sum())
    return math.sqrt(float(sizes @ spread**2) / float(sizes.sum()) / (len(replicas) - 1))
