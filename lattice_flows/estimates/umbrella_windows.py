"""The estimates of umbrella sampling: the chains of all windows joined by MBAR."""

from collections.abc import Callable, Sequence

import numpy as np

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.samplers.umbrella import window_potentials
from lattice_flows.statistics import N_BLOCKS, Estimate, JoinedWindows, gamma_method
from lattice_flows.theories.observable import Quantity

Chains = Sequence[np.ndarray]

_BLOCK_IN_TAU = 10
_MOST_POTENTIALS = 500_000  # configurations of all chains times windows; MBAR is solved 21 times


def joined_estimator(group: Replicas) -> Callable[[Quantity, list[Chains]], Estimate] | None:
    """How averages of an umbrella ensemble are taken, from a quantity and its terms; None for another sampler.

    A series that is measured every n-th configuration is joined on these configurations. Where there are more than
    500,000 / n_windows of them over all chains, only every k-th counts, with the smallest k that leaves no more. The
    windows are joined once for all series that are measured equally often.

    The estimator raises ValueError where the windows cannot be joined.
    """
    if group.sampler["name"] != "umbrella":
        return None
    known: dict[tuple[int, int], JoinedWindows] = {}

    def estimate(quantity: Quantity, terms: list[Chains]) -> Estimate:
        charges = group.series_like("smooth_charge", quantity.terms[0].series)
        rows = group.rows(quantity.terms[0].series)
        stride = -(-sum(map(len, rows)) * group.sampler["n_windows"] // _MOST_POTENTIALS)
        key = max((len(row), int(row[1]) if len(row) > 1 else 0) for row in rows)
        if key not in known:
            known[key] = joined_windows(group, _thinned(charges, stride))
        return known[key].estimate(*[_thinned(term, stride) for term in terms], function=quantity.function)

    return estimate


def joined_windows(group: Replicas, charges: Sequence[np.ndarray]) -> JoinedWindows:
    """The chains with these smooth charges Q_s."""
    windows = [int(chain[0]) for chain in group.series("window")]
    if empty := set(range(group.sampler["n_windows"])) - set(windows):
        raise ValueError(f"{len(empty)} of the {group.sampler['n_windows']} windows have no chain")
    try:
        return JoinedWindows([window_potentials(group.sampler, charge) for charge in charges], windows)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def block_doubt(group: Replicas) -> str:
    """What makes the jackknife's blocks too short, or nothing: the slowest window's tau_int of Q_s."""
    chains = group.series("smooth_charge")
    if min(map(len, chains)) < N_BLOCKS:
        return ""
    slowest = max(np.nan_to_num(gamma_method(chain).tau_int, nan=np.inf) for chain in chains)
    if min(map(len, chains)) / N_BLOCKS > _BLOCK_IN_TAU * slowest:
        return ""
    return f"jackknife blocks shorter than {_BLOCK_IN_TAU} tau_int of Q_s in some window, so the error is too small"


def _thinned(term: Chains, stride: int) -> list[np.ndarray]:
    return [chain[::stride] for chain in term]
