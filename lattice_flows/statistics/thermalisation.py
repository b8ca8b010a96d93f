"""The number of configurations to discard at the start of a Markov chain."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from lattice_flows.statistics.gamma import Estimate, estimate_mean
from lattice_flows.statistics.replicas import MIN_LENGTH, Array, Series, as_replicas, require_equal_lengths
from lattice_flows.statistics.shares import largest
from lattice_flows.statistics.windows import WindowRule

_CUT_RATIO = 1.5  # of neighbouring cuts
_FALSE_ALARMS = 0.003  # of a stationary series
_FORGETTING = 3.0  # tau_int, in which what is too small to be seen falls to a twentieth
_MOST_FORGETTING = 0.1  # of the chain; one that is so short has other troubles


def find_thermalisation(series: Sequence[Series], chains_per_set: int = 1) -> int:
    """The number of configurations to drop from the head of every chain.

    The pieces between neighbouring cuts are compared with the second half of the chains: the mean of each chain in a
    piece, and that of all chains together, which shows a drift that they share and the noise of each hides. What comes
    before the end of the last piece that is off is dropped, and 3 tau_int of what is left beyond that, for an approach
    that is too small to be seen still adds up to an error or more with many chains. A piece is off where noise would
    put any of the pieces of a series only in 3 of 1000 cases. Cuts are 0 and half the shortest chain divided by powers
    of 1.5, up to most_dropped. The result is the largest over the series.

    series: several observables on the same configurations, each as for gamma_method. One that never moves says
        nothing: if none does, the result is 0. A series that drifts to its very end is cut to about half, near
        most_dropped, which only shows that it is too short.
    chains_per_set: chains k and k + chains_per_set sample the same distribution; those between them may differ.

    Raises ValueError without a series, for values that are not finite, and for series that differ in shape.
    """
    if not series:
        raise ValueError("find_thermalisation needs at least one series")
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    cuts = _cuts(min(replica.size for replica in several[0]))
    return max(_cut(replicas, cuts, chains_per_set) for replicas in several)


def most_dropped(n_configs: int) -> int:
    """The largest cut that find_thermalisation tries, of chains of which the shortest has n_configs configurations.

    A result of more than half of it means that the chains still drift and are too short.
    """
    return max(0, min(n_configs // 2, n_configs - MIN_LENGTH))


def _cuts(shortest: int) -> list[int]:
    """0 and most_dropped divided by powers of the ratio, as far as chains keep a length to estimate from."""
    cuts = {0}
    size = float(most_dropped(shortest))
    while size >= 1.0:
        cuts.add(round(size))
        size /= _CUT_RATIO
    return sorted(cuts)


def _cut(replicas: Sequence[Array], cuts: list[int], n_kinds: int) -> int:
    """The cut of one series; 0 if it does not move in the second half."""
    last = cuts[-1]
    late = _estimated([replica[last:] for replica in replicas], n_kinds)
    if math.isnan(late.tau_int):
        return 0
    cut = _end_of_drift(replicas, cuts, n_kinds, late)
    left = late if cut == last else _estimated([replica[cut:] for replica in replicas], n_kinds)
    forgetting = min(_FORGETTING * (left.tau_int - 0.5), _MOST_FORGETTING * min(replica.size for replica in replicas))
    return min(cut + math.ceil(forgetting), last)


def _end_of_drift(replicas: Sequence[Array], cuts: list[int], n_kinds: int, late: Estimate) -> int:
    """The end of the last piece whose mean is off that of the second half, 0 if none is."""
    n_late = sum(replica.size - cuts[-1] for replica in replicas)
    variance = late.error**2 * n_late / (2.0 * late.tau_int)  # of a value
    sums = np.array([replica[cuts[-1] :].sum() for replica in replicas])
    sizes = np.array([replica.size - cuts[-1] for replica in replicas])
    kinds = np.arange(len(replicas)) % n_kinds
    means = (np.bincount(kinds, sums) / np.bincount(kinds, sizes))[kinds]  # of the second half, for each chain
    n_late_of_kind = np.bincount(kinds, sizes)[kinds]
    n_tests = (len(cuts) - 1) * (len(replicas) + 1)
    limit = -float(ndtri(0.5 * _FALSE_ALARMS / max(n_tests, 1)))
    for first, end in reversed(list(pairwise(cuts))):
        off = np.array([replica[first:end].mean() for replica in replicas]) - means
        in_piece = variance * min(1.0, 2.0 * late.tau_int / (end - first))  # of the mean of one chain
        alone = np.abs(off) / np.sqrt(in_piece + 2.0 * late.tau_int * variance / n_late_of_kind)
        together = abs(float(off.mean())) / math.sqrt(in_piece / off.size + late.error**2)
        if max(float(alone.max()), together) > limit:
            return end
    return 0


def _estimated(replicas: Sequence[Array], n_kinds: int) -> Estimate:
    return estimate_mean(replicas, largest(replicas), WindowRule(), n_kinds=n_kinds)
