"""The window up to which the autocorrelation function is summed, and the tau_int that results.

Two rules: the automatic window of U. Wolff (hep-lat/0306017, section 3.3), and the window with an exponential tail of
Schaefer, Sommer and Virotta (arXiv:1009.5228), for series that couple to a slow mode which their own autocorrelation
function is too noisy to show.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lattice_flows.statistics.lagged import lagged_products
from lattice_flows.statistics.replicas import Array, n_pairs, sizes_of

_FIRST_LAGS = 256  # most windows are shorter; more lags are computed only when this is not enough
_LAG_GROWTH = 16
_FEWEST_LAGS_FOR_TAIL = 4


@dataclass(frozen=True)
class WindowRule:
    """The rule of a window; ValueError unless every number given is positive.

    s_tau: assumed ratio of the exponential to the integrated autocorrelation time, 1 to 2; unused with tau_exp.
    tau_exp: decay time of the slowest mode, in stored configurations; None: no tail.
    n_sigma: with tau_exp, the sum ends and the tail starts where rho is below this many of its errors.
    """

    s_tau: float = 1.5
    tau_exp: float | None = None
    n_sigma: float = 1.0

    def __post_init__(self) -> None:
        for name in ("s_tau", "tau_exp", "n_sigma"):
            number = getattr(self, name)
            if number is not None and not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{name} must be positive, got {number}")


class IntegratedTime(NamedTuple):
    """tau_int with its error and the number of lags summed."""

    tau_int: float
    tau_int_error: float
    window: int


def integrated_time(deltas: Sequence[Array], rule: WindowRule) -> tuple[float, IntegratedTime]:
    """The variance of fluctuations, one array per replica, and their tau_int.

    ValueError if a tail is wanted and the longest replica has fewer than 8 values.
    """
    n_lags = most_lags(deltas) if rule.tau_exp is not None else min(_FIRST_LAGS, most_lags(deltas))
    gamma = autocovariance(deltas, n_lags)
    n_total = sum(sizes_of(deltas))
    return float(gamma[0]), (_automatic if rule.tau_exp is None else _with_tail)(gamma, deltas, n_total, rule)


def most_lags(deltas: Sequence[Array]) -> int:
    """Lags 0 .. most_lags - 1 are used: half the longest replica."""
    return max(sizes_of(deltas)) // 2


def autocovariance(deltas: Sequence[Array], n_lags: int) -> Array:
    """Gamma(t) at t = 0 .. n_lags - 1, averaged over all pairs of all replicas (hep-lat/0306017, section 3)."""
    return lagged_products(deltas, n_lags) / n_pairs(sizes_of(deltas), n_lags)


def rho_error(rho: Array, lag: int, n_total: int) -> float:
    """The error of rho(t), hep-lat/0409106, eq. E.11; its square is the sum over all known lags k of
    [rho(k+t) + rho(|k-t|) - 2 rho(k) rho(t)]^2 / N.
    """
    n = rho.size
    mirrored = np.concatenate([rho[:0:-1], rho])  # rho(|k|), k = -(n - 1) .. n - 1
    behind = mirrored[n - lag : 2 * (n - lag) - 1]  # rho(|k - t|), k = 1 .. n - t - 1
    return float(np.linalg.norm(rho[lag + 1 :] + behind - 2 * rho[lag] * rho[1 : n - lag])) / math.sqrt(n_total)


def window_of(rho: Array, n_total: int, rule: WindowRule) -> int:
    """The window by this rule, from rho(t) at all lags t = 0 .. most_lags - 1."""
    if rule.tau_exp is not None:
        return _tail_window(rho, n_total, rule.n_sigma)
    return _automatic_window(_tau_profile(rho), n_total, rule.s_tau) or rho.size - 1


def _automatic(gamma: Array, deltas: Sequence[Array], n_total: int, rule: WindowRule) -> IntegratedTime:
    """tau_int from no more lags than the window needs; gamma(t) is given at the first of them."""
    while True:
        n_lags = gamma.size
        tau = _tau_profile(gamma / gamma[0])
        window = _automatic_window(tau, n_total, rule.s_tau)
        if window is None and n_lags == most_lags(deltas):
            window = n_lags - 1
        if window is not None:
            return _summed(float(tau[window]), window, n_total)
        gamma = autocovariance(deltas, min(_LAG_GROWTH * n_lags, most_lags(deltas)))


def _with_tail(gamma: Array, deltas: Sequence[Array], n_total: int, rule: WindowRule) -> IntegratedTime:
    """tau_int in which all that lies beyond the window W is taken as tau_exp |rho(W+1)|, an upper bound if tau_exp is
    one (arXiv:1009.5228). The error of tau_exp itself is left out. All lags are needed: they enter the errors of rho.
    """
    assert rule.tau_exp is not None
    rho = gamma / gamma[0]
    window = _tail_window(rho, n_total, rule.n_sigma)
    summed = _summed(float(_tau_profile(rho)[window]), window, n_total)
    tail = rule.tau_exp * abs(float(rho[window + 1]))
    tail_error = rule.tau_exp * rho_error(rho, window + 1, n_total)
    return IntegratedTime(summed.tau_int + tail, math.hypot(summed.tau_int_error, tail_error), window)


def _summed(tau: float, window: int, n_total: int) -> IntegratedTime:
    tau_int = tau * (1 + (2 * window + 1) / n_total) / (1 + 1 / n_total)  # hep-lat/0306017, eq. 49
    return IntegratedTime(tau_int, 2 * tau * math.sqrt(abs(window + 0.5 - tau) / n_total), window)  # eq. 42


def _tau_profile(rho: Array) -> Array:
    """tau_int(W) for W = 0 .. len - 1, kept above 1/2 as in pyerrors."""
    tau = np.cumsum(rho) - 0.5
    return np.where(tau <= 0.5, 0.5 + np.finfo(np.float64).eps, tau)


def _automatic_window(tau: Array, n_total: int, s_tau: float) -> int | None:
    """The first W >= 1 where the gain from a longer sum falls below its noise (section 3.3); None if not reached."""
    lags = np.arange(1, tau.size)
    decay = s_tau / np.log((2 * tau[1:] + 1) / (2 * tau[1:] - 1))
    settled = np.flatnonzero(np.exp(-lags / decay) < decay / np.sqrt(lags * n_total))
    return int(lags[settled[0]]) if settled.size else None


def _tail_window(rho: Array, n_total: int, n_sigma: float) -> int:
    """The first W >= 1 with rho(W) < n_sigma errors; at most a quarter of the longest replica, as in pyerrors."""
    if rho.size < _FEWEST_LAGS_FOR_TAIL:
        raise ValueError("tau_exp needs at least 8 configurations in the longest chain")
    last = max(rho.size // 2 - 2, 1)
    return next((lag for lag in range(1, last) if rho[lag] < n_sigma * rho_error(rho, lag, n_total)), last)
