"""Weighted independent samples, log_w = -S - log q: effective sample size, log Z, weighted means and the weights' tail.

Every log_w here is (n_samples,), of independent samples, n_samples >= 2. It may lack any constant (log_partition alone
depends on it); -inf is a weight of zero. nan, +inf, another shape or all weights zero raise ValueError.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lattice_flows.statistics.replicas import Array

MIN_EFFECTIVE_SAMPLES = 200
MAX_PARETO_K = 0.7  # arXiv:1507.02646: above it the error of a weighted mean cannot be trusted
MAX_SHARE_OF_SQUARES = 0.25  # of one weight in sum w^2, by which the ESS is taken
_MIN_TAIL = 5


class ValueWithError(NamedTuple):
    """A figure and its standard deviation."""

    value: float
    error: float


def effective_sample_size(log_w: ArrayLike) -> ValueWithError:
    """ESS = (sum w)^2 / (N sum w^2) in (0, 1], with its jackknife error.

    The jackknife, unlike linear propagation, sees that a single dominant weight makes the figure worthless.
    """
    log_weights = _checked(log_w)
    n = log_weights.size
    w = np.exp(log_weights - log_weights.max())
    sum_w, sum_w2 = w.sum(), (w**2).sum()
    top = int(np.argmax(w))
    rest = np.delete(log_weights, top)
    without = np.empty(n)  # ESS of the other n - 1 samples
    others = np.arange(n) != top
    without[others] = (sum_w - w[others]) ** 2 / ((n - 1) * (sum_w2 - w[others] ** 2))
    without[top] = _ess(rest) if rest.max() > -np.inf else 1.0 / n  # apart: the differences above would cancel
    error = math.sqrt((n - 1) * float(np.var(without)))
    return ValueWithError(_ess(log_weights), error)


def log_partition(log_w: ArrayLike) -> ValueWithError:
    """log Z = log mean w with its error by linear propagation, sqrt((1/ESS - 1) / (N - 1)); bias about -error^2 / 2."""
    log_weights = _checked(log_w)
    largest = float(log_weights.max())
    value = largest + math.log(float(np.exp(log_weights - largest).mean()))
    return ValueWithError(value, math.sqrt(max(1.0 / _ess(log_weights) - 1.0, 0.0) / (log_weights.size - 1)))


def weighted_mean(values: ArrayLike, log_w: ArrayLike) -> ValueWithError:
    """sum w v / sum w with its error by linear propagation; values (n_samples,), finite."""
    log_weights, v = _checked(log_w), np.asarray(values, dtype=np.float64)
    if v.shape != log_weights.shape or not np.isfinite(v).all():
        raise ValueError(f"values must be finite and of the shape of log_w, {log_weights.shape}, got {v.shape}")
    w = np.exp(log_weights - log_weights.max())
    w /= w.sum()
    mean = float(w @ v)
    n = v.size
    return ValueWithError(mean, math.sqrt(float(np.sum((w * (v - mean)) ** 2)) * n / (n - 1)))


def largest_weight_share(log_w: ArrayLike) -> float:
    """The largest weight over the sum of all, in [1/N, 1]."""
    log_weights = _checked(log_w)
    return 1.0 / float(np.exp(log_weights - log_weights.max()).sum())


def pareto_k(log_w: ArrayLike) -> float:
    """The shape k-hat of a generalised Pareto tail of the weights (Vehtari et al., arXiv:1507.02646).

    Fitted to the excess of the min(N/5, 3 sqrt N) largest weights over the next one, with that paper's weak prior
    towards 1/2. Moments of the weights exist below order 1/k: the variance is finite for k < 1/2.

    -inf: no tail at all (the largest weights equal to rounding, as with a perfect flow). +inf: fewer than 5 weights
    stand out, too few to fit, so that nothing vouches for the tail.
    """
    ordered = np.sort(_checked(log_w))
    n_tail = math.ceil(min(0.2 * ordered.size, 3.0 * math.sqrt(ordered.size)))
    tail, cutoff = ordered[-n_tail:], float(ordered[-n_tail - 1])
    rounding = 1e-12 * max(1.0, float(np.abs(ordered[np.isfinite(ordered)]).max()))
    tail = tail[tail > cutoff + rounding] if cutoff > -np.inf else tail[tail > -np.inf]
    if tail.size < _MIN_TAIL:
        return math.inf if tail.size else -math.inf
    log_excess = tail + np.log(-np.expm1(cutoff - tail))
    shape = _pareto_shape(np.exp(np.maximum(log_excess - log_excess[-1], -600.0)))  # no underflow in the widest tails
    return (tail.size * shape + 10 * 0.5) / (tail.size + 10)  # arXiv:1507.02646, appendix: the weight of ten at k = 1/2


def is_reliable(log_w: ArrayLike) -> bool:
    """Whether estimates from these weights deserve trust: ESS * N >= 200 and k-hat <= 0.7."""
    log_weights = _checked(log_w)
    enough = _ess(log_weights) * log_weights.size >= MIN_EFFECTIVE_SAMPLES
    return enough and pareto_k(log_weights) <= MAX_PARETO_K


def is_dominated(ess: float, n_samples: float, share: float) -> bool:
    """Whether the largest weight, of this share in sum w, has more than a quarter of sum w^2 = (sum w)^2 / (N ESS).

    The ESS then hangs on one sample, and so does its error.
    """
    return share_of_squares(ess, n_samples, share) > MAX_SHARE_OF_SQUARES


def share_of_squares(ess: float, n_samples: float, share: float) -> float:
    """The share in sum w^2 of a weight with this share in sum w, for sum w^2 = (sum w)^2 / (N ESS)."""
    return share**2 * n_samples * ess


def _checked(log_w: ArrayLike) -> Array:
    log_weights = np.asarray(log_w, dtype=np.float64)
    if log_weights.ndim != 1 or log_weights.size < 2:
        raise ValueError(f"log_w must be (n_samples,) with at least 2 samples, got the shape {log_weights.shape}")
    if not math.isfinite(log_weights.max()):  # the maximum is nan if any is
        raise ValueError("log weights must be finite or -inf, and not all -inf")
    return log_weights


def _ess(log_weights: Array) -> float:
    w = np.exp(log_weights - log_weights.max())
    return min(1.0, float(w.sum() ** 2 / (w.size * (w @ w))))


def _pareto_shape(excess: Array) -> float:
    """Shape k of the generalised Pareto distribution of `excess` (ascending, positive): J. Zhang and M. A. Stephens,
    Technometrics 51 (2009) 316. The posterior mean of b = -k / sigma over a grid of prior quantiles, then k at that b.
    """
    n = excess.size
    n_grid = 30 + math.isqrt(n)
    quartile = excess[int(n / 4 + 0.5) - 1]
    b = 1.0 / excess[-1] + (1.0 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))) / (3.0 * quartile)
    b = b[b != 0.0]  # k = 0 there, where the likelihood below is 0/0
    k = np.log1p(-b[:, None] * excess).mean(axis=1)  # (grid,)
    log_likelihood = n * (np.log(-b / k) - k - 1.0)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    return float(np.log1p(-(b @ posterior) / posterior.sum() * excess).mean())
