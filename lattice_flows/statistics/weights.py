"""Weighted independent samples, log_w = -S - log q: effective sample size, log Z, weighted means and the weights' tail.

Every log_w here is (n_samples,), of independent samples, n_samples >= 2. It may lack any constant (log_partition alone
depends on it); -inf is a weight of zero. nan, +inf, another shape or all weights zero raise ValueError.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lattice_flows.statistics.replicas import Array
from lattice_flows.statistics.tails import pareto_shape

MIN_EFFECTIVE_SAMPLES = 200
MAX_PARETO_K_OF_MEAN = 0.5  # above it weights have no variance; the 0.7 of arXiv:1507.02646 is for smoothed weights
MAX_PARETO_K_OF_ESS = 0.3  # near the 1/4 above which their squares have none
MAX_SHARE_OF_SQUARES = 0.25  # of one weight in sum w^2, by which the ESS is taken


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
    """The shape k-hat of a generalised Pareto tail of the weights, see `pareto_shape`.

    -inf for equal weights, as of a perfect flow; +inf where fewer than 5 weights stand out.
    """
    return pareto_shape([_checked(log_w)])


class Reliability(NamedTuple):
    """What weights can carry: a mean or log Z with its error, and an ESS with its error."""

    log_z: bool
    ess: bool


def reliability(log_w: ArrayLike, tau_int: float = 0.5, fewest: int = MIN_EFFECTIVE_SAMPLES) -> Reliability:
    """Whether there are enough effective samples, ESS * N / (2 tau_int), and a tail light enough for a variance: of the
    weights (k-hat <= 0.5), and about of their squares (k-hat <= 0.3).

    Beyond, the mean of the weights or of their squares hangs on values that are not among the samples yet: log Z is at
    least what they say, and the ESS at most.
    """
    log_weights = _checked(log_w)
    if _ess(log_weights) * log_weights.size / (2.0 * tau_int) < fewest:
        return Reliability(False, False)
    k = pareto_k(log_weights)
    return Reliability(k <= MAX_PARETO_K_OF_MEAN, k <= MAX_PARETO_K_OF_ESS)


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
