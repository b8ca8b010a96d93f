"""Free energies along a variable, F(s) = -log p(s), and of regions, in units of kT.

They are means of indicator functions, which any estimator of means can make, with its own error: `derived` of plain
chains (the Gamma method), `by_weights` of weighted samples, `by_windows` of umbrella windows.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from lattice_flows.statistics.gamma import Estimate
from lattice_flows.statistics.mbar import JoinedWindows
from lattice_flows.statistics.propagation import Function, derived, derived_reweighted
from lattice_flows.statistics.replicas import Array, Series, as_replicas
from lattice_flows.statistics.weights import ValueWithError


class Estimator(Protocol):
    """function(<a>, <b>, ...) of the means of series in the target."""

    def __call__(self, function: Function, *series: Series) -> Estimate: ...


class Profile(NamedTuple):
    """F(s) = -log p(s) in bins of a variable s: p is the normalised density, relative to ds, averaged over a bin.

    Where a bin has no samples values and errors are nan.
    """

    centres: Array  # (n_bins,)
    values: Array  # (n_bins,)
    errors: Array  # (n_bins,), one standard deviation of each


def by_weights(log_w: Series) -> Estimator:
    """The estimator of weighted samples or chains, `derived_reweighted` with these log_w."""
    return lambda function, *series: derived_reweighted(function, log_w, *series)


def by_windows(windows: JoinedWindows) -> Estimator:
    """The estimator of umbrella windows; its errors are those of their block jackknife."""
    return lambda function, *series: windows.estimate(*series, function=function)


def profile(series: Series, edges: ArrayLike, estimator: Estimator = derived) -> Profile:
    """The free energy profile of a series of s.

    series: of s along the chains, as for gamma_method.
    edges: (n_bins + 1,), ascending; a bin contains its lower edge. Samples beyond the edges count in the normalisation.
    estimator: of means over these chains.

    The errors are those of the bins' probabilities, propagated to first order: too small where a bin was visited less
    than about ten independent times. Values of a profile are correlated; a difference of two regions with its error is
    `region_difference`. Raises ValueError for edges that are not ascending, and what the estimator raises.
    """
    ends = np.asarray(edges, dtype=np.float64)
    if ends.ndim != 1 or ends.size < 2 or not np.isfinite(ends).all() or not (np.diff(ends) > 0).all():
        raise ValueError(f"edges must be two or more finite ascending numbers, got {ends.size} of them")
    replicas = as_replicas(series)
    found = [_of_bin(inside(replicas, low, high), high - low, estimator) for low, high in itertools.pairwise(ends)]
    values, errors = np.array(found).T
    return Profile(0.5 * (ends[1:] + ends[:-1]), values, errors)


def region_difference(first: Series, second: Series, estimator: Estimator = derived) -> ValueWithError:
    """F_2 - F_1 = log(P_1 / P_2) of two regions of one target, from the series of their indicator functions (0 or 1).

    `inside(series, low, high)` is that of an interval of s. Raises what the estimator raises, as ValueError where a
    region has no samples, or none in all blocks but one.
    """
    if missing := [k for k, one in ((1, first), (2, second)) if not any(part.any() for part in as_replicas(one))]:
        raise ValueError(f"region {missing[0]} has no samples, so its free energy is not known")
    found = estimator(_log_ratio, first, second)
    return ValueWithError(found.value, found.error)


def inside(series: Series, low: float, high: float) -> Sequence[Array]:
    """The indicator of low <= s < high along the chains, a list of arrays."""
    return [((low <= chain) & (chain < high)).astype(np.float64) for chain in as_replicas(series)]


def _of_bin(indicator: Sequence[Array], width: float, estimator: Estimator) -> tuple[float, float]:
    """F of a bin, and its error."""
    if not any(part.any() for part in indicator):
        return math.nan, math.nan
    p = estimator(_mean, indicator)
    if not p.value > 0.0:  # all of zero weight
        return math.nan, math.nan
    return -math.log(p.value / width), p.error / p.value


def _mean(p: float) -> float:
    return p


def _log_ratio(first: float, second: float) -> float:
    return math.log(first / second)
