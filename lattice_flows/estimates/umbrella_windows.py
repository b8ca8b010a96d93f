"""Estimates for umbrella sampling and any other sampler that holds chains in windows, which are joined by MBAR."""

from collections.abc import Callable, Sequence

import numpy as np

from lattice_flows.card.build import action_of
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.samplers import Coordinate, Windows, windows_of
from lattice_flows.statistics import N_BLOCKS, Estimate, JoinedWindows, gamma_method
from lattice_flows.theories.observable import Quantity

Chains = Sequence[np.ndarray]

_BLOCK_IN_TAU = 10


def joined_estimator(
    group: Replicas, most_potentials: int = 4_000_000
) -> Callable[[Quantity, list[Chains]], Estimate] | None:
    """The estimator for averages over chains in windows, called with a quantity and its terms; None without windows.

    A series that is measured every n-th configuration is joined on these configurations. If there are more than
    most_potentials / n_windows of them over all chains, only every k-th counts, with the smallest sufficient k: MBAR
    is solved 21 times, which takes half a minute at the limit. The windows are joined once for all series that are
    measured equally often.

    The estimator raises ValueError if the windows cannot be joined.
    """
    if (windows := windows_of(group.sampler)) is None:
        return None
    n_windows, series = group.sampler[windows.count], _coordinate(group, windows).series
    known: dict[tuple[int, int], JoinedWindows] = {}

    def estimate(quantity: Quantity, terms: list[Chains]) -> Estimate:
        coordinates = group.series_like(series, quantity.terms[0].series)
        rows = group.rows(quantity.terms[0].series)
        stride = -(-sum(map(len, rows)) * n_windows // most_potentials)
        key = max((len(row), int(row[1]) if len(row) > 1 else 0) for row in rows)
        if key not in known:
            known[key] = joined_windows(group, windows, _thinned(coordinates, stride))
        return known[key].estimate(*[_thinned(term, stride) for term in terms], function=quantity.function)

    return estimate


def joined_windows(group: Replicas, windows: Windows, coordinates: Sequence[np.ndarray]) -> JoinedWindows:
    """The windows joined by MBAR, from the values of their coordinate on every chain.

    Raises ValueError if a window has no chain or MBAR cannot join the windows.
    """
    n_windows, own = group.sampler[windows.count], [int(chain[0]) for chain in group.series("window")]
    if empty := set(range(n_windows)) - set(own):
        raise ValueError(f"{len(empty)} of the {n_windows} windows have no chain")
    try:
        return JoinedWindows([windows.potentials(group.sampler, chain) for chain in coordinates], own)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def block_doubt(group: Replicas) -> str:
    """A warning if the jackknife's blocks are too short for the slowest window's tau_int of its coordinate, else "".

    Without windows it is "" too.
    """
    if (windows := windows_of(group.sampler)) is None:
        return ""
    coordinate = _coordinate(group, windows)
    chains = group.series(coordinate.series)
    if min(map(len, chains)) < N_BLOCKS:
        return ""
    slowest = max(np.nan_to_num(gamma_method(chain).tau_int, nan=np.inf) for chain in chains)
    if min(map(len, chains)) / N_BLOCKS > _BLOCK_IN_TAU * slowest:
        return ""
    return (
        f"jackknife blocks shorter than {_BLOCK_IN_TAU} tau_int of {coordinate.symbol} in some window, "
        "so the error is too small"
    )


def _coordinate(group: Replicas, windows: Windows) -> Coordinate:
    return windows.coordinate(action_of(group.sampled_theory), group.sampler)


def _thinned(term: Chains, stride: int) -> list[np.ndarray]:
    return [chain[::stride] for chain in term]
