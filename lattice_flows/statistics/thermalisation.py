"""How many configurations to throw away at the start of a Markov chain."""

from collections.abc import Sequence

import numpy as np

from lattice_flows.statistics.gamma import gamma_method
from lattice_flows.statistics.replicas import MIN_LENGTH, Array, Series, as_replicas, require_equal_lengths

_CUT_RATIO = 1.5  # of neighbouring cuts


def find_thermalisation(series: Sequence[Series]) -> int:
    """The number of configurations to drop from the head of every chain.

    For each series the cut that leaves most independent configurations, n_eff = N / (2 tau_int): a chain that still
    drifts to equilibrium has a large tau_int, and one that is cut too much a small N (J. D. Chodera, J. Chem. Theory
    Comput. 12 (2016) 1799, doi:10.1021/acs.jctc.5b00784). Cuts are 0 and half the shortest chain divided by powers of
    1.5. The answer is the largest over the series. It weighs variance against bias, and so can leave a bias of up to
    about an error in the mean: where that matters, drop twice as many.

    series: several observables on the same configurations, each as for gamma_method. One that never moves says
        nothing: where none does, the answer is 0. A series that drifts to its very end is cut in half, which tells
        nothing but that it is too short.

    Raises ValueError without a series, for values that are not finite, and for series that differ in shape.
    """
    if not series:
        raise ValueError("thermalisation is found from at least one series")
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    cuts = _cuts(min(replica.size for replica in several[0]))
    return max(_best_cut(replicas, cuts) for replicas in several)


def _cuts(shortest: int) -> list[int]:
    """0 and shortest / 2 divided by powers of the ratio, as far as chains keep a length to estimate from."""
    largest = min(shortest // 2, shortest - MIN_LENGTH)
    cuts = {0}
    size = float(largest)
    while size >= 1.0:
        cuts.add(round(size))
        size /= _CUT_RATIO
    return sorted(cuts)


def _best_cut(replicas: list[Array], cuts: list[int]) -> int:
    """The cut that leaves most independent configurations; 0 for a frozen series."""
    left = [gamma_method([replica[cut:] for replica in replicas]).n_eff for cut in cuts]
    return cuts[int(np.argmax(np.nan_to_num(left, nan=0.0)))]
