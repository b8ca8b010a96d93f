"""Cluster updates on a batch of chains (B, L0, L1) of int8, parallel over the chains, with improved estimators.

Neighbours of equal sign are bound with probability 1 - exp(-2 beta) (Fortuin and Kasteleyn, Physica 57 (1972) 536).
Given the bonds, the signs of the clusters are independent: of clusters of the sizes c

    <V M^2> = <sum c^2> / V,    <M^4> = <3 (sum c^2)^2 - 2 sum c^4> / V^4

have smaller errors than the powers of M itself (Sweeny, Phys. Rev. B 27 (1983) 4445). A random site is in a cluster of
the mean size <sum c^2> / V, so that <V M^2> is also the mean size of Wolff's clusters (Phys. Rev. Lett. 62 (1989) 361).
"""

import math
from functools import cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.random import fill_words, uniform_pair

Spins = NDArray[np.int8]
Marks = NDArray[np.uint8]
Words = NDArray[np.uint64]
Streams = NDArray[np.uint64]
Sites = NDArray[np.int32]
Array = NDArray[np.float64]

_CHUNK = 64  # random words made at a time
_HALF, _MASK = 16, 2**16 - 1  # two coordinates in one number
_ONE = 2**64
_63 = np.uint64(63)


@cache
def _bond_threshold(beta: float) -> np.uint64:
    """1 - exp(-2 beta) as a 64-bit integer."""
    return np.uint64(min(_ONE - 1, _ONE - int(_ONE * math.exp(-2.0 * beta))))


@njit(forceinline=True)
def _try(x: Spins, i: int, j: int, old: np.int8, bound: bool, waiting: Sites, n: int) -> int:
    """Flip the spin at (i, j) if it is `old` and bound, and let it wait for its turn; returns how many wait.

    Without a branch, which no processor would foresee.
    """
    joins = (x[i, j] == old) & bound
    x[i, j] = np.int8(-old) if joins else x[i, j]
    waiting[n] = i << _HALF | j
    return n + joins


@njit
def _flip_cluster(x: Spins, stream: Streams, bond: np.uint64, waiting: Sites, words: Words) -> int:
    """Grow a cluster from a random site and flip it; returns its size.

    x (L0, L1) changes in place. waiting (V + 4,) and words are scratch.
    """
    l0, l1 = x.shape
    first = min(int(uniform_pair(stream)[0] * x.size), x.size - 1)
    old = x[first // l1, first % l1]
    n, size, used = _try(x, first // l1, first % l1, old, True, waiting, 0), 0, words.size
    while n > 0:
        if used == words.size:
            fill_words(stream, words)
            used = 0
        n -= 1
        size += 1
        i, j = waiting[n] >> _HALF, waiting[n] & _MASK
        n = _try(x, i - 1 if i > 0 else l0 - 1, j, old, words[used] < bond, waiting, n)
        n = _try(x, i + 1 if i + 1 < l0 else 0, j, old, words[used + 1] < bond, waiting, n)
        n = _try(x, i, j - 1 if j > 0 else l1 - 1, old, words[used + 2] < bond, waiting, n)
        n = _try(x, i, j + 1 if j + 1 < l1 else 0, old, words[used + 3] < bond, waiting, n)
        used += 4
    return size


@kernel(parallel=True)
def _wolff(x: Spins, streams: Streams, bond: np.uint64, n_updates: int) -> Array:
    n, l0, l1 = x.shape
    sizes = np.zeros(n)
    for b in prange(n):
        waiting, words = np.empty(l0 * l1 + 4, dtype=np.int32), np.empty(_CHUNK, dtype=np.uint64)
        total = 0
        for _ in range(n_updates):
            total += _flip_cluster(x[b], streams[b], bond, waiting, words)
        sizes[b] = total / n_updates
    return sizes


def wolff(x: Spins, streams: Streams, beta: float, n_updates: int) -> tuple[Spins, Streams, Array]:
    """n_updates clusters of every chain flipped, each grown from a random site.

    x (B, L0, L1) and streams (B, 2) are left as they are. Returns the new ones and the mean size of the clusters (B,).
    """
    new, streams = np.array(x, dtype=np.int8, order="C"), streams.copy()
    sizes = _wolff(new, streams, _bond_threshold(beta), n_updates)
    return new, streams, sizes


@njit(forceinline=True)
def _root(parent: Sites, site: int) -> int:
    """The first site of its cluster; the way there becomes shorter."""
    while parent[site] != site:
        parent[site] = parent[parent[site]]
        site = parent[site]
    return site


@njit(forceinline=True)
def _join(parent: Sites, one: int, other: int) -> None:
    one, other = _root(parent, one), _root(parent, other)
    parent[max(one, other)] = min(one, other)


@njit
def _bind(x: Spins, stream: Streams, bond: np.uint64, parent: Sites, down: Marks, words: Words) -> None:
    """Divide the lattice x (L0, L1) into clusters.

    down (V,) and words (2 L1,) are scratch.
    """
    l0, l1 = x.shape
    for i in range(l0):
        fill_words(stream, words)
        row, below, start = x[i], x[i + 1 if i + 1 < l0 else 0], i * l1
        for j in range(l1):
            down[start + j] = (row[j] == below[j]) & (words[l1 + j] < bond)
        head = start  # of the piece of the row that holds together
        parent[start] = start
        for j in range(1, l1):
            head = head if (row[j] == row[j - 1]) & (words[j] < bond) else start + j
            parent[start + j] = head
        if row[0] == row[l1 - 1] and words[0] < bond:
            _join(parent, start, start + l1 - 1)
    v = l0 * l1
    for site in range(v):
        if down[site]:
            _join(parent, site, site + l1 if site + l1 < v else site + l1 - v)


@njit
def _turn(x: Spins, stream: Streams, parent: Sites, sizes: Sites, words: Words) -> tuple[float, float]:
    """Flip each cluster with probability 1/2; returns the sums of c^2 and c^4 over their sizes c.

    sizes (V,) and words (V bits) are scratch.
    """
    fill_words(stream, words)
    sizes[:] = 0
    for site in range(x.size):
        root = parent[parent[site]]  # the parent came earlier, and its own is a root
        parent[site] = root
        sizes[root] += 1
        bit = words[root >> 6] >> (np.uint64(root) & _63) & np.uint64(1)
        x[site] = np.int8(-x[site]) if bit else x[site]
    squares, fourth_powers = 0.0, 0.0
    for size in sizes:
        square = float(size) * float(size)
        squares += square
        fourth_powers += square * square
    return squares, fourth_powers


@kernel(parallel=True)
def _swendsen_wang(x: Spins, streams: Streams, bond: np.uint64, n_updates: int) -> tuple[Array, Array]:
    n, l0, l1 = x.shape
    v = l0 * l1
    second, fourth = np.zeros(n), np.zeros(n)
    for b in prange(n):
        parent, sizes, down = np.empty(v, dtype=np.int32), np.empty(v, dtype=np.int32), np.empty(v, dtype=np.uint8)
        row, bits = np.empty(2 * l1, dtype=np.uint64), np.empty(2 * ((v + 127) // 128), dtype=np.uint64)
        for _ in range(n_updates):
            _bind(x[b], streams[b], bond, parent, down, row)
            squares, fourth_powers = _turn(x[b].reshape(v), streams[b], parent, sizes, bits)
            second[b] += squares / n_updates
            fourth[b] += (3.0 * squares * squares - 2.0 * fourth_powers) / n_updates
    return second, fourth


def swendsen_wang(x: Spins, streams: Streams, beta: float, n_updates: int) -> tuple[Spins, Streams, Array, Array]:
    """n_updates of every chain, in each of which the lattice is divided into clusters that flip with probability 1/2.

    x (B, L0, L1) and streams (B, 2) are left as they are. Returns the new ones and the means of sum c^2 / V^2, whose
    expectation value is <M^2>, and of (3 (sum c^2)^2 - 2 sum c^4) / V^4, that is <M^4>, each (B,).
    """
    new, streams = np.array(x, dtype=np.int8, order="C"), streams.copy()
    second, fourth = _swendsen_wang(new, streams, _bond_threshold(beta), n_updates)
    volume = float(math.prod(x.shape[1:]))
    return new, streams, second / volume**2, fourth / volume**4
