"""The tail of a sample of positive values: the shape k-hat of a generalised Pareto distribution.

Moments of the values exist below order 1/k: a mean has an error, the square root of the variance over N, for k < 1/2.
"""

import math
from collections.abc import Sequence

import numpy as np

from lattice_flows.statistics.replicas import Array, sizes_of

_FEWEST = 5  # values that stand out, for a fit
_HEAVIER = 0.2  # a larger difference is no chance: both fits see the same configurations


def pareto_shape(log_values: Sequence[Array]) -> float:
    """k-hat of all values of all replicas, from their logarithms; -inf is a value of zero (Vehtari et al.,
    arXiv:1507.02646).

    Fitted to the excess of the min(N/5, 3 sqrt N) largest values over the next one, with that paper's weak prior
    towards 1/2. Its deviation is about (1 + k) over the root of the number fitted.

    -inf: no tail at all (the largest values are equal to rounding). +inf: fewer than 5 values stand out, too few to
    fit, so that nothing vouches for the tail.
    """
    top = _top(log_values)
    cutoff, tail = float(top[0]), top[1:]
    if tail[-1] == -np.inf:
        return -math.inf
    rounding = 1e-12 * max(1.0, float(np.abs(top[np.isfinite(top)]).max()))
    tail = tail[tail > cutoff + rounding] if cutoff > -np.inf else tail[tail > -np.inf]
    if tail.size < _FEWEST:
        return math.inf if tail.size else -math.inf
    log_excess = tail + np.log(-np.expm1(cutoff - tail))
    shape = _fitted(np.exp(np.maximum(log_excess - log_excess[-1], -600.0)))  # no underflow in the widest tails
    return (tail.size * shape + 10 * 0.5) / (tail.size + 10)  # arXiv:1507.02646, appendix: the weight of ten at k = 1/2


def made_by_weights(log_fluctuations: Sequence[Array], log_weighted: Sequence[Array]) -> float:
    """The k-hat of weighted fluctuations |w g| where the weights make their tail heavier than that of |g|, else -inf.

    It is -inf, too, where the largest |g| are a few values that many share, as those of an integer are: they are
    bounded, and the tail is that of the weights themselves.
    """
    top = _top(log_fluctuations)
    if 2 * np.unique(top).size < top.size:
        return -math.inf
    weighted = pareto_shape(log_weighted)
    return weighted if weighted > pareto_shape(log_fluctuations) + _HEAVIER else -math.inf


def _top(log_values: Sequence[Array]) -> Array:
    """The values that a tail is fitted to, and the next one, in ascending order."""
    n = sum(sizes_of(log_values))
    n_tail = math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))
    return np.sort(np.concatenate([_largest(replica, n_tail + 1) for replica in log_values]))[-(n_tail + 1) :]


def _largest(values: Array, n: int) -> Array:
    return values if values.size <= n else np.partition(values, values.size - n)[-n:]


def _fitted(excess: Array) -> float:
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
