"""Wolff's single-cluster update of the signs of phi^4 theory, on a batch of chains (B, *lattice_shape).

At fixed |phi| the signs are an Ising model with the couplings 2 hop |phi phi'| (Brower and Tamayo, Phys. Rev. Lett. 62
(1989) 1087), of which one cluster is flipped (Wolff, Phys. Rev. Lett. 62 (1989) 361).
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.random import fill_uniforms, uniform_pair
from lattice_flows.theories.phi4.kernels.local import neighbour_table

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]
Sites = NDArray[np.int32]

_CHUNK = 64  # uniform deviates made at a time


@njit(fastmath={"contract"})
def _refill(stream: Streams, logs: Array) -> None:
    fill_uniforms(stream, logs)
    for k in range(logs.size):
        logs[k] = fast_log(logs[k])


@njit(fastmath={"contract"})
def _flip_cluster(
    x: Array, table: Sites, stream: Streams, hop: float, stamps: Sites, stamp: int, members: Sites, logs: Array
) -> int:
    """Grow one cluster from a random site and flip it; returns its size.

    x (V,) changes in place. A site of the cluster has stamps[site] == stamp. members (V,) and logs are scratch.
    """
    seed = min(int(uniform_pair(stream)[0] * x.size), x.size - 1)
    used = logs.size
    members[0] = seed
    stamps[seed] = stamp
    done, size = 0, 1
    while done < size:
        site = members[done]
        done += 1
        coupling = 4.0 * hop * x[site]
        for j in range(table.shape[1]):
            other = table[site, j]
            if stamps[other] == stamp:
                continue
            if used == logs.size:
                _refill(stream, logs)
                used = 0
            # The bond is set with probability 1 - exp(-4 hop phi phi') where that is positive.
            if logs[used] > -coupling * x[other]:
                stamps[other] = stamp
                members[size] = other
                size += 1
            used += 1
    for site in members[:size]:
        x[site] = -x[site]
    return size


@kernel(parallel=True)
def _clusters(fields: Array, table: Sites, streams: Streams, hop: float, n_updates: int) -> Array:
    n, v = fields.shape
    flipped = np.zeros(n)
    for c in prange(n):
        stamps, members, logs = np.full(v, -1, dtype=np.int32), np.empty(v, dtype=np.int32), np.empty(_CHUNK)
        total = 0
        for update in range(n_updates):
            total += _flip_cluster(fields[c], table, streams[c], hop, stamps, update, members, logs)
        flipped[c] = total / (n_updates * v)
    return flipped


def cluster(
    phi: Array, streams: Streams, hop: float, quad: float, quart: float, n_updates: int
) -> tuple[Array, Streams, Array]:
    """n_updates cluster flips of every chain. Alone they are not ergodic, for they leave |phi| (and so the terms of
    quad and quart) as it is: mix them with a local update.

    phi (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones and the mean fraction of the
    sites that an update flips (B,). Raises ValueError for an extent below 2.
    """
    fields = np.array(phi, dtype=np.float64, order="C").reshape(len(phi), -1)  # (B, V)
    streams = streams.copy()
    flipped = _clusters(fields, neighbour_table(phi.shape[1:]), streams, float(hop), n_updates)
    return fields.reshape(phi.shape), streams, flipped
