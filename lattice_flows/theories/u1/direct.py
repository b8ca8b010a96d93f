"""Independent configurations of periodic 2D U(1), drawn directly.

V - 1 plaquettes are independent von Mises angles; the last one closes the torus, its angle minus the sum of the
others, which is accepted with probability exp(beta (cos(sum) - 1)). The acceptance exp(-beta) I_0(beta) does not
depend on the volume. Two uniform holonomies and a random gauge make a full Haar-distributed link field of it.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_cos, fast_log, wrap
from lattice_flows.kernels.random import uniform_pair
from lattice_flows.kernels.von_mises import fill_von_mises
from lattice_flows.theories.u1.kernels.random_links import fill_links

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@njit(fastmath={"contract"}, error_model="numpy")
def _closed_plaquettes(beta: float, stream: NDArray[np.uint64], p: Array) -> None:
    """Fill p with the V plaquette angles of one configuration."""
    last = p.size - 1
    kappa, scratch, pending = np.full(last, beta), np.empty(3 * last), np.empty(last, np.int64)
    while True:
        fill_von_mises(kappa, stream, p[:last], scratch, pending)
        total = 0.0
        for k in range(last):
            total += p[k]
        if fast_log(uniform_pair(stream)[0]) <= beta * (fast_cos(total) - 1.0):
            p[last] = wrap(-total)
            return


@kernel(parallel=True)
def sample_u1(beta: float, l0: int, l1: int, streams: Streams) -> tuple[Array, Streams]:
    """One independent link configuration per stream, (B, 2, l0, l1), and the advanced streams."""
    n = streams.shape[0]
    links, streams = np.empty((n, 2, l0, l1)), streams.copy()
    for b in prange(n):
        p = np.empty(l0 * l1)
        _closed_plaquettes(beta, streams[b], p)
        fill_links(p, streams[b], links[b])
    return links, streams
