"""Values that chains have in common: independent chains of real numbers have none."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_START = 1  # value that chains may share: they may all begin cold


def shared_values(chains: Sequence[NDArray[np.float64]]) -> tuple[int, int] | None:
    """The numbers of two chains with more different values in common than a start, to the bit; or None.

    chains: a series of real numbers each. Of integers, or of what hardly moves, common values say nothing.
    """
    distinct = [np.unique(chain) for chain in chains]
    values = np.concatenate(distinct)
    owners = np.repeat(np.arange(len(chains)), [len(one) for one in distinct])
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    equal = np.flatnonzero(values[1:] == values[:-1])
    pairs = Counter(zip(owners[equal].tolist(), owners[equal + 1].tolist()))
    found = [pair for pair, count in pairs.items() if count > _START]
    return min(found) if found else None
