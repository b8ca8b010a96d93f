"""Free energy profiles along a stored series of ensembles."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lattice_flows.errors import InputError
from lattice_flows.estimates.observables import plain_estimator
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Theory
from lattice_flows.estimates.umbrella_windows import block_doubt, joined_estimator
from lattice_flows.statistics import Estimate, Estimator, Profile, profile, reliability
from lattice_flows.statistics.propagation import Function
from lattice_flows.statistics.replicas import Series, as_replicas
from lattice_flows.theories.observable import Quantity, Term

_MOST_BINS = 10_000


@dataclass(frozen=True)
class Profiles:
    """F(s) = -log p(s) of each ensemble by its name, in the same bins, and what to doubt in them."""

    theory: Theory
    series: str
    edges: np.ndarray  # (n_bins + 1,)
    profiles: Mapping[str, Profile]
    warnings: tuple[str, ...]


def profiles_of(
    groups: Sequence[Replicas], series: str, n_bins: int, limits: tuple[float, float] | None = None
) -> Profiles:
    """The profiles of each ensemble along the series: plain, weighted or joined from its windows, as it was made.

    n_bins: of equal width. limits: of the series; None: the least and the largest value of all ensembles.

    Raises InputError for a series that is not in every file, limits or a number of bins that make none, a series that
    does not move or is not finite, and for windows that cannot be joined.
    """
    if not 1 <= n_bins <= _MOST_BINS:
        raise InputError(f"--bins {n_bins}: must be between 1 and {_MOST_BINS}")
    if limits is not None and not (limits[0] < limits[1] and math.isfinite(limits[1] - limits[0])):
        raise InputError(f"--range {limits[0]:g} {limits[1]:g}: must be two finite ascending numbers")
    for group in groups:
        _require(group, series)
    low, high = limits or _visited(groups, series)
    edges = np.linspace(low, high, n_bins + 1)
    if not (np.diff(edges) > 0).all():
        raise InputError(f"--series {series}: {n_bins} bins do not fit between {low:g} and {high:g}; give --range")
    found, warnings = {}, []
    for group in groups:
        try:
            found[group.name] = profile(group.series(series), edges, _estimator(group, series))
        except ValueError as error:
            raise InputError(f"{group.name}: no profile along {series}: {error}") from None
        warnings += [f"{group.name}: {text}" for text in _doubts(group)]
    return Profiles(groups[0].theory, series, edges, found, tuple(warnings))


def _estimator(group: Replicas, series: str) -> Estimator:
    """That of averages over this ensemble."""
    estimate = joined_estimator(group) or plain_estimator(group)

    def of_means(function: Function, *terms: Series) -> Estimate:
        return estimate(Quantity(series, (Term(series),), function), [list(as_replicas(term)) for term in terms])

    return of_means


def _require(group: Replicas, series: str) -> None:
    """Raise InputError unless the series was measured in all files, and is finite."""
    if not group.has(series):
        if series in group.not_finite:
            raise InputError(f"--series {series}: holds values that are not finite: {group.not_finite[series]}")
        known = [name for name in group.files[0].series_names if group.has(name)]
        raise InputError(f"--series {series}: not measured in {group.name}; available: {', '.join(known)}")
    if not all(np.isfinite(chain).all() for chain in group.series(series)):
        raise InputError(f"--series {series}: holds values of {group.name} that are not finite")


def _visited(groups: Sequence[Replicas], series: str) -> tuple[float, float]:
    """The least value, and a number just above the largest one, which is in the last bin."""
    ends = [(chain.min(), chain.max()) for group in groups for chain in group.series(series)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return float(low), float(np.nextafter(high, np.inf)) if high > low else float(high)


def _doubts(group: Replicas) -> list[str]:
    doubts = [text] if (text := block_doubt(group)) else []
    if group.weighted and not reliability(np.concatenate(group.independent_log_w())).log_z:
        doubts.append("weights too uneven for the errors of a profile; sample nearer to the target")
    return doubts
