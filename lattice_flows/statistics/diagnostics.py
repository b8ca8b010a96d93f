"""Diagnostics of chains: whether they agree, whether they move, and whether results agree with known values."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, ndtri

from lattice_flows.statistics.gamma import gamma_method
from lattice_flows.statistics.pooled import Pooled
from lattice_flows.statistics.replicas import (
    MIN_LENGTH,
    Array,
    LazyReplicas,
    Series,
    as_replicas,
    mapped,
    require_equal_lengths,
    require_plain,
    sizes_of,
)
from lattice_flows.statistics.shares import fluctuations, of_replicas

MIN_CHANGES = 20  # of an integer charge, or crossings of any series: with fewer no error is to be trusted
_EDGES = (0.05, 0.95)  # quantiles that stand for the range of a series
_MANY = 2_000_000  # values; of more, ranks and quantiles come from counts in bins


class ChiSquared(NamedTuple):
    """chi^2 and the probability p of a larger one."""

    chi2: float
    p: float


def r_hat(series: ArrayLike | Sequence[np.ndarray]) -> float:
    """Rank-normalised split R-hat (Vehtari et al., arXiv:1903.08008, section 4); 1 when chains agree.

    series: (n_configs, n_chains) or a list of chains of equal lengths, finite, n_configs >= 4; ValueError otherwise.
    Each chain is cut into halves (of an odd number of values the middle one is left out), and the larger of the R-hat
    of the values and of their distance from the median is returned. nan for one chain and where all values are equal;
    inf where each half is frozen but not all at one value. Above 1.01 the chains do not agree. Beyond two million
    values ranks are accurate to a few parts in a million, and R-hat to about 1e-9 (see `pooled`).
    """
    require_plain(series)
    if isinstance(series, (list, LazyReplicas)) and len(series) > 1 and np.ndim(series[0]) == 1:
        return _r_hat_of_chains(series)
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < MIN_LENGTH or not np.isfinite(values).all():
        raise ValueError(
            f"r_hat needs finite values (n_configs >= {MIN_LENGTH}, n_chains), got the shape {values.shape}"
        )
    if values.shape[1] < 2:
        return math.nan
    half = values.shape[0] // 2
    halves = np.concatenate([values[:half], values[-half:]], axis=1)  # (half, 2 * n_chains)
    folded = np.abs(halves - np.median(halves))
    return float(np.fmax(_plain_r_hat(_rank_normalised(halves)), _plain_r_hat(_rank_normalised(folded))))


def _r_hat_of_chains(chains: Sequence[np.ndarray]) -> float:
    n = sizes_of(chains)[0]
    if sum(sizes_of(chains)) <= _MANY or n < MIN_LENGTH:
        return r_hat(np.stack([np.asarray(chain) for chain in chains], axis=1))
    every = as_replicas(chains)
    if len(set(sizes_of(every))) > 1:
        raise ValueError(f"r_hat needs chains of equal lengths, got {sorted(set(sizes_of(every)))}")
    half = n // 2
    if n % 2:  # the middle value belongs to neither half
        odd = every
        every = LazyReplicas([2 * half] * len(odd), lambda k: np.delete(odd[k], half))
    pooled = Pooled(every)
    return _r_hat_of_many(every, pooled, *pooled.quantiles([0.5]))


def _r_hat_of_many(every: Sequence[Array], pooled: Pooled, median: float) -> float:
    """R-hat of chains of an even number of values each."""
    folded = mapped(lambda chain: np.abs(chain - median), every)
    return float(np.fmax(_r_hat_of_halves(every, pooled), _r_hat_of_halves(folded, Pooled(folded))))


def r_hat_and_crossings(chains: Sequence[np.ndarray]) -> tuple[float, int]:
    """`r_hat` and `count_crossings` of chains of equal lengths; if there are many values, in fewer passes over them."""
    sizes = sizes_of(chains)
    if sum(sizes) <= _MANY or min(sizes) < MIN_LENGTH or sizes[0] % 2 or len(set(sizes)) > 1 or len(sizes) == 1:
        return r_hat(chains) if len(sizes) > 1 else math.nan, count_crossings(chains)
    every = as_replicas(chains)
    pooled = Pooled(every)
    bottom, median, top = pooled.quantiles([_EDGES[0], 0.5, _EDGES[1]])
    if bottom == top:
        bottom, top = pooled.low, pooled.high
    return _r_hat_of_many(every, pooled, median), _crossings(every, bottom, top)


def _r_hat_of_halves(chains: Sequence[Array], pooled: Pooled) -> float:
    if not pooled.is_fine:
        halves = [half for chain in chains for half in chain.reshape(2, -1)]
        return _plain_r_hat(_rank_normalised(np.stack(halves, axis=1)))
    scores = pooled.normal_scores()

    def of_rows(rows: Array) -> Array:
        z = scores(rows).reshape(len(rows), 2, -1)  # the halves
        return np.stack([z.mean(axis=2), z.var(axis=2, ddof=1), z.min(axis=2), z.max(axis=2)], axis=1)

    figures = of_replicas(of_rows, chains)  # (n_chains, 4, 2)
    return _r_hat_of_moments(sizes_of(chains)[0] // 2, *np.moveaxis(figures, 1, 0).reshape(4, -1))


def count_changes(charge: ArrayLike) -> int:
    """The number of times that the charge, rounded to an integer, differs from the previous one, over all chains.

    charge: (n_configs, n_chains) or (n_configs,), finite. Fewer than MIN_CHANGES (20): frozen.
    """
    require_plain(charge)
    charges = np.asarray(charge, dtype=np.float64)
    if not np.isfinite(charges).all():
        raise ValueError("the charge is not finite")
    return int(np.count_nonzero(np.diff(np.rint(charges), axis=0)))


def count_crossings(series: Series, odd: bool = False) -> int:
    """The number of passages of chains from the low to the high end of a series or back: an alarm for slow modes.

    series: as for gamma_method, finite; ValueError otherwise.
    odd: the series changes its sign under a symmetry of the target (the magnetisation of a scalar field, a topological
        charge), so it has both ends although the chains may have seen one: the range is then plus and minus the 95 %
        quantile of its modulus.

    The range from the 5 % to the 95 % quantile of all values of all chains is cut into three equal parts. A crossing
    leads from the lowest part (or below) to the highest (or above), or back, however long it dwells between: noise
    about one end does not count. Equal parts of the range, not of the values, so that the band lies between the two
    clusters of a bistable series (the sign of a magnetisation, say) unless one of them holds less than 5 % of the
    values. Where both quantiles agree, as of rare events, the passages are those between that value and all others on
    one side of it; a constant series has no crossing.

    A Gaussian series with an exponential autocorrelation makes 0.5 (at 20) to 0.7 (at large tau_int) crossings in
    tau_int configurations. With fewer than MIN_CHANGES (20) in all chains its tau_int, and so its error, rest on fewer
    than ten visits of either end and deserve no trust; with none the chains may each sit in one place for ever.
    Chains that never leave one end cannot be told from those that know no other, unless the series is odd: start them
    in different places.
    """
    replicas = as_replicas(series)
    return _crossings(replicas, *_range_of(replicas, odd))


def _crossings(replicas: Sequence[Array], bottom: float, top: float) -> int:
    """The number of crossings between the outer thirds of this range."""
    if bottom == top:
        return 0
    low, high = bottom + (top - bottom) / 3, top - (top - bottom) / 3

    def of_rows(rows: Array) -> np.ndarray:
        return np.array([_passages(values, low, high) for values in rows])

    return int(of_replicas(of_rows, replicas).sum())


def _range_of(replicas: Sequence[Array], odd: bool) -> tuple[float, float]:
    """The low and the high end of the values of all chains, see `count_crossings`."""
    if sum(sizes_of(replicas)) > _MANY:
        pooled = Pooled(mapped(np.abs, replicas) if odd else replicas)
        bottom, top = pooled.quantiles(_EDGES)
    else:
        values = np.concatenate(replicas)
        bottom, top = np.quantile(np.abs(values) if odd else values, _EDGES)
    if odd:
        bottom = -top
    if bottom == top:
        return _common_and_other(replicas, float(top))
    return float(bottom), float(top)


def _common_and_other(replicas: Sequence[Array], common: float) -> tuple[float, float]:
    """The value that nearly all have and the nearest other one, in ascending order; twice the same if there is none."""
    above = min((float(replica[replica > common].min(initial=math.inf)) for replica in replicas), default=math.inf)
    if above < math.inf:
        return common, above
    below = max((float(replica[replica < common].max(initial=-math.inf)) for replica in replicas), default=-math.inf)
    return (below, common) if below > -math.inf else (common, common)


def covariance_of_means(
    series: Sequence[Series], s_tau: float = 1.5, tau_exp: float | None = None, n_sigma: float = 1.0
) -> Array:
    """Covariance (n, n) of the means of n series measured on the same configurations, for a correlated chi^2.

    The correlation at equal time, over all chains, scaled by the Gamma-method errors: positive semi-definite. It takes
    tau_int of a pair as the geometric mean of both, as pyerrors does. Rows of frozen series hold their squared error on
    the diagonal alone, 0 where it is not known. The other arguments are those of gamma_method. Raises what gamma_method
    raises, and ValueError if the series differ in shape.
    """
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    estimates = [gamma_method(replicas, s_tau, tau_exp, n_sigma) for replicas in several]
    errors = np.nan_to_num([estimate.error for estimate in estimates])
    deltas = np.array([np.concatenate(fluctuations(replicas)) for replicas in several])  # (n, all configurations)
    deltas[[math.isnan(estimate.tau_int) for estimate in estimates]] = 0.0  # only rounding is left of a frozen series
    norms = np.sqrt(np.einsum("ni,ni->n", deltas, deltas))
    unit = deltas / np.where(norms > 0, norms, 1.0)[:, None]
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1.0)
    return errors[:, None] * correlation * errors


def pull(value: float, error: float, exact: float) -> float:
    """(value - exact) / error; nan unless the error is positive."""
    return (value - exact) / error if error > 0 else math.nan


def chi_squared(differences: ArrayLike, covariance: ArrayLike) -> ChiSquared:
    """chi^2 = d^T C^-1 d of differences d (n,) with covariance C (n, n), n degrees of freedom.

    Raises ValueError if C is not positive definite: a frozen series, or figures that determine one another.
    """
    d, c = np.asarray(differences, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if d.ndim != 1 or c.shape != (d.size, d.size):
        raise ValueError(f"differences (n,) and covariance (n, n) do not fit: {d.shape}, {c.shape}")
    errors = np.sqrt(np.maximum(np.diag(c), 0.0))
    if not np.isfinite(d).all() or not np.isfinite(c).all() or not (errors > 0).all():
        raise ValueError("chi_squared needs finite differences with positive errors")
    eigenvalues, vectors = np.linalg.eigh(c / np.outer(errors, errors))
    if eigenvalues[0] < 1e-12 * d.size:
        raise ValueError("the covariance is not positive definite: some of the figures determine one another")
    chi2 = float(np.sum((vectors.T @ (d / errors)) ** 2 / eigenvalues))
    return ChiSquared(chi2, float(chdtrc(d.size, chi2)))


def _passages(values: Array, low: float, high: float) -> int:
    """Changes between at most `low` and at least `high`, values between left out."""
    ends = (values >= high).astype(np.int8) - (values <= low)
    return int(np.count_nonzero(np.diff(ends[ends != 0])))


def _rank_normalised(values: Array) -> Array:
    """Normal scores of the pooled ranks, ties sharing their mean rank (arXiv:1903.08008, eq. 14)."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - 0.5 * (counts - 1)
    return ndtri((ranks[inverse] - 0.375) / (values.size + 0.25)).reshape(values.shape)


def _plain_r_hat(z: Array) -> float:
    """sqrt(var+ / W) of columns z (n, m), arXiv:1903.08008, eqs. 1 to 4."""
    return _r_hat_of_moments(len(z), z.mean(axis=0), z.var(axis=0, ddof=1), z.min(axis=0), z.max(axis=0))


def _r_hat_of_moments(n: int, means: Array, variances: Array, lowest: Array, highest: Array) -> float:
    """R-hat from the moments, each (m,), of m columns of n scores."""
    # Rounding alone: equal values have equal scores.
    if (lowest == highest).all():
        return math.nan if (lowest == lowest[0]).all() else math.inf
    return math.sqrt((n - 1) / n + float(means.var(ddof=1)) / float(variances.mean()))
