"""The number of configurations to discard at the start of a Markov chain."""

import math
from collections.abc import Sequence

import numpy as np

from lattice_flows.statistics.gamma import gamma_method
from lattice_flows.statistics.replicas import MIN_LENGTH, Array, Series, as_replicas, require_equal_lengths

_CUT_RATIO = 1.5  # of neighbouring cuts
_CLEAR = 3.0  # errors between what is dropped and what is left


def find_thermalisation(series: Sequence[Series]) -> int:
    """The number of configurations to drop from the head of every chain.

    For each series it is the cut that leaves the most independent configurations, n_eff = N / (2 tau_int): a chain that
    still drifts to equilibrium has a large tau_int, and one that is cut too much a small N (J. D. Chodera, J. Chem.
    Theory Comput. 12 (2016) 1799, doi:10.1021/acs.jctc.5b00784). Cuts are 0 and half the shortest chain divided by
    powers of 1.5, up to most_dropped. The result is the largest over the series.

    A drift that all chains share grows as the square root of their number in units of the error, while the noise of
    each hides it. So the average over the chains is examined too: its cut counts if it is larger and the mean of what
    it drops in addition is three errors off the rest. The cut weighs variance against bias, and still leaves a bias of
    the order of the error in the mean: half of it to all of it where 32 chains of 500 configurations, with tau_int of 5
    to 20, start 5 standard deviations away. Where that matters, drop twice as many.

    series: several observables on the same configurations, each as for gamma_method. One that never moves says
        nothing: if none does, the result is 0. A series that drifts to its very end is cut to about half, near
        most_dropped, which only shows that it is too short.

    Raises ValueError without a series, for values that are not finite, and for series that differ in shape.
    """
    if not series:
        raise ValueError("find_thermalisation needs at least one series")
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    cuts = _cuts(min(replica.size for replica in several[0]))
    return max(_common_cut(replicas, cuts, _best_cut(replicas, cuts)) for replicas in several)


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


def _best_cut(replicas: Sequence[Array], cuts: list[int]) -> int:
    """The cut that leaves the most independent configurations; 0 for a frozen series."""
    left = [gamma_method([replica[cut:] for replica in replicas]).n_eff for cut in cuts]
    return cuts[int(np.argmax(np.nan_to_num(left, nan=0.0)))]


def _common_cut(replicas: Sequence[Array], cuts: list[int], own: int) -> int:
    """The cut of the average over the chains, if it is larger than `own` and drops what is clearly off the rest."""
    shortest = min(replica.size for replica in replicas)
    average = np.mean([replica[:shortest] for replica in replicas], axis=0)
    cut = _best_cut([average], cuts)
    if len(replicas) == 1 or cut <= own:
        return own
    left = [replica[cut:] for replica in replicas]
    rest = gamma_method(left)
    n_rest, n_dropped = sum(replica.size for replica in left), len(replicas) * (cut - own)
    error = rest.error * math.sqrt(1.0 + n_rest / n_dropped)  # of the difference, as if both had the same tau_int
    return cut if abs(float(average[own:cut].mean()) - rest.value) > _CLEAR * error else own
