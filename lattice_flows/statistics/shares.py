"""Work on replicas by several threads, whose results do not depend on the number of threads.

Blocks are equally long replicas that lie next to each other. A share is a run of consecutive blocks. The division into
blocks and shares depends on the lengths of the replicas alone.
"""

import contextvars
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from typing import TypeVar

import numpy as np

from lattice_flows.statistics.replicas import Array, LazyReplicas, mapped, rows_of, sizes_of

T = TypeVar("T")

_LONG = 2**14  # a replica of more values is a block of its own
_ROWS = 4  # they fill the vector units
_BLOCK = 2**17  # values of shorter replicas: fewer calls, between which threads wait for one another
_N_SHARES = 16
_FEW = 2**18  # values that are not worth a second thread
_MOST_THREADS = 2  # more would wait for the interpreter, and each takes some memory

np.empty(2**22, np.uint8)  # glibc gives back what is freed, to be cleared anew, unless something as large was before


def blocks_of(sizes: Sequence[int]) -> list[range]:
    """The numbers of the replicas in each block."""
    blocks = []
    for n, group in groupby(range(len(sizes)), key=lambda k: sizes[k]):
        members = list(group)
        at_once = 1 if n > _LONG else max(_ROWS, _BLOCK // max(n, 1))
        for first in range(members[0], members[-1] + 1, at_once):
            blocks.append(range(first, min(first + at_once, members[-1] + 1)))
    return blocks


def in_shares(function: Callable[[list[range]], T], replicas: Sequence[np.ndarray]) -> list[T]:
    """function(blocks) of every share of the replicas, in their order."""
    sizes = sizes_of(replicas)
    blocks = blocks_of(sizes)
    cuts = [k * len(blocks) // _N_SHARES for k in range(_N_SHARES + 1)]
    shares = [blocks[first:last] for first, last in pairwise(cuts) if first < last]
    n_threads = min(_n_threads(), len(shares)) if sum(sizes) > _FEW else 1
    if n_threads == 1:
        return [function(share) for share in shares]
    with ThreadPoolExecutor(n_threads) as pool:  # each in the context of the caller, of which np.errstate is part
        futures = [pool.submit(contextvars.copy_context().run, function, share) for share in shares]
        return [future.result() for future in futures]


def of_replicas(function: Callable[[Array], Array], replicas: Sequence[Array]) -> Array:
    """The function's values for all replicas, (n_replicas, ...): it takes rows (m, n) of some and returns (m, ...)."""

    def of_share(blocks: list[range]) -> Array:
        return np.concatenate([function(rows_of(replicas, block)) for block in blocks])

    return np.concatenate(in_shares(of_share, replicas))


def pooled_mean(replicas: Sequence[Array]) -> float:
    """The mean over all values of all replicas."""
    return float(sum(of_replicas(lambda rows: rows.sum(axis=-1), replicas)) / sum(sizes_of(replicas)))


def largest(replicas: Sequence[Array]) -> float:
    """The largest absolute value."""
    return float(of_replicas(lambda rows: np.maximum(rows.max(axis=-1), -rows.min(axis=-1)), replicas).max())


def fluctuations(replicas: Sequence[Array], n_kinds: int = 1) -> LazyReplicas:
    """All values minus their common mean (hep-lat/0306017, eq. 29); of several kinds of replicas, that of their kind.

    Replica k is of the kind k mod n_kinds.
    """
    sizes = np.array(sizes_of(replicas))
    sums = of_replicas(lambda rows: rows.sum(axis=-1), replicas)
    means = [float(sums[k::n_kinds].sum() / sizes[k::n_kinds].sum()) for k in range(min(n_kinds, sizes.size))]
    if len(means) == 1:
        return mapped(lambda rows: rows - means[0], replicas)
    own = LazyReplicas(sizes_of(replicas), lambda k: np.broadcast_to(np.float64(means[k % n_kinds]), int(sizes[k])))
    return mapped(np.subtract, replicas, own)


def widest(replicas: Sequence[Array]) -> float:
    """The largest difference between two values of the same replica."""
    return float(of_replicas(lambda rows: rows.max(axis=-1) - rows.min(axis=-1), replicas).max())


def _n_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(allowed) if allowed.isdigit() else cores, _MOST_THREADS))
