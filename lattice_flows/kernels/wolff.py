"""Wolff's single-cluster update (Phys. Rev. Lett. 62 (1989) 361) of any numbers on sites, parallel over the chains.

A theory is the class of its couplings. It says what reflection a cluster undergoes (`flip`), and how much that costs
for one of two neighbours alone (`bond`). A reflection is named by a number `mirror`, uniform in (0, 1) and drawn anew
for each cluster, where there is more than one. With `projection` there are improved estimators.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.by_couplings import compiled_for, required, with_default
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Stream
from lattice_flows.kernels.random import fill_uniforms, uniform_pair
from lattice_flows.kernels.sites import Sites, neighbour_table

Streams = NDArray[np.uint64]

_CHUNK = 64  # uniform deviates made at a time


@required
def bond(couplings: Couplings, x: Array, site: int, other: int, mirror: float) -> float:
    """By how much S grows when one of two neighbours is reflected: the bond is set with probability 1 - exp(-bond)."""
    raise NotImplementedError


@required
def flip(couplings: Couplings, x: Array, site: int, mirror: float) -> None:
    """Reflect the site, in place."""
    raise NotImplementedError


@with_default()
def projection(couplings: Couplings, x: Array, site: int, mirror: float) -> float:
    """The component that changes its sign in the reflection."""
    return 0.0


def wolff(couplings: Couplings, x: Array, streams: Streams, n_updates: int) -> tuple[Array, Streams, Array, Array]:
    """n_updates clusters of every chain, each grown from a random site and flipped.

    x (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones; the mean fraction of the sites
    that an update flips (B,); and the mean over the clusters C of |sum_C projection|^2 / |C|, (B,), the improved
    estimator of (1/V) sum_xy <p_x p_y>, p the projections: the terms of different clusters average to zero.

    Raises ValueError for an extent below 2.
    """
    fields = np.array(x, dtype=np.float64, order="C").reshape(len(x), math.prod(x.shape[1:]))  # (B, V)
    streams = streams.copy()
    run = compiled_for(_clusters, type(couplings))
    size, square = run(couplings, fields, neighbour_table(x.shape[1:]), streams, n_updates)
    return fields.reshape(x.shape), streams, size, square


@njit(fastmath={"contract"})
def _refill(stream: Stream, logs: Array) -> None:
    fill_uniforms(stream, logs)
    for k in range(logs.size):
        logs[k] = fast_log(logs[k])


@njit(fastmath={"contract"})
def _flip_cluster(
    couplings: Couplings,
    x: Array,
    table: Sites,
    stream: Stream,
    stamps: Sites,
    stamp: int,
    members: Sites,
    logs: Array,
) -> tuple[int, float]:
    """Grow one cluster from a random site and flip it; returns its size and the sum of its projections.

    x (V,) changes in place. A site of the cluster has stamps[site] == stamp. members (V,) and logs are scratch.
    """
    place, mirror = uniform_pair(stream)
    seed = min(int(place * x.size), x.size - 1)
    used = logs.size
    members[0] = seed
    stamps[seed] = stamp
    done, size = 0, 1
    while done < size:
        site = members[done]
        done += 1
        for j in range(table.shape[1]):
            other = table[site, j]
            if stamps[other] == stamp:
                continue
            if used == logs.size:
                _refill(stream, logs)
                used = 0
            if logs[used] > -bond(couplings, x, site, other, mirror):
                stamps[other] = stamp
                members[size] = other
                size += 1
            used += 1
    total = 0.0
    for site in members[:size]:
        total += projection(couplings, x, site, mirror)
        flip(couplings, x, site, mirror)
    return size, total


def _clusters(couplings: Couplings, x: Array, table: Sites, streams: Streams, n_updates: int) -> tuple[Array, Array]:
    n, v = x.shape
    sizes, squares = np.zeros(n), np.zeros(n)
    for b in prange(n):
        stamps, members, logs = np.full(v, -1, dtype=np.int32), np.empty(v, dtype=np.int32), np.empty(_CHUNK)
        n_flipped, square = 0, 0.0
        for update in range(n_updates):
            size, total = _flip_cluster(couplings, x[b], table, streams[b], stamps, update, members, logs)
            n_flipped += size
            square += total * total / size
        sizes[b], squares[b] = n_flipped / (n_updates * v), square / n_updates
    return sizes, squares
