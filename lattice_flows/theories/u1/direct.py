"""Independent configurations of periodic 2D U(1), drawn directly.

V - 1 plaquettes are independent von Mises angles; the last one closes the torus, its angle minus the sum of the
others, which is accepted with probability exp(beta (cos(sum) - 1)). The acceptance exp(-beta) I_0(beta) does not
depend on the volume. Two uniform holonomies and a random gauge make a full Haar-distributed link field of it.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_cos, fast_log, wrap
from lattice_flows.kernels.random import fill_uniforms, uniform_pair
from lattice_flows.kernels.von_mises import fill_von_mises

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


@njit(fastmath={"contract"})
def _links(p: Array, h0: float, h1: float, t0: Array, t1: Array) -> None:
    """Links of plaquettes p (L0, L1), zero in theta_0 but for its last row, in theta_1's first row but for its end."""
    l0, l1 = p.shape
    t0[:] = 0.0
    t1[0] = 0.0
    t1[0, l1 - 1] = h1
    for i in range(l0 - 1):
        for j in range(l1):
            t1[i + 1, j] = t1[i, j] + p[i, j]
    t0[l0 - 1, 0] = h0
    for j in range(l1 - 1):
        t0[l0 - 1, j + 1] = t0[l0 - 1, j] + t1[0, j] - t1[l0 - 1, j] - p[l0 - 1, j]


@njit(fastmath={"contract"})
def _random_gauge(alpha: Array, t0: Array, t1: Array) -> None:
    """theta_mu(n) += alpha(n) - alpha(n + mu), wrapped."""
    l0, l1 = alpha.shape
    for i in range(l0):
        up = i + 1 if i + 1 < l0 else 0
        for j in range(l1):
            right = j + 1 if j + 1 < l1 else 0
            t0[i, j] = wrap(t0[i, j] + alpha[i, j] - alpha[up, j])
            t1[i, j] = wrap(t1[i, j] + alpha[i, j] - alpha[i, right])


@kernel(parallel=True)
def sample_u1(beta: float, l0: int, l1: int, streams: Streams) -> tuple[Array, Streams]:
    """One independent link configuration per stream, (B, 2, l0, l1), and the advanced streams."""
    n = streams.shape[0]
    links, streams = np.empty((n, 2, l0, l1)), streams.copy()
    for b in prange(n):
        p, deviates = np.empty(l0 * l1), np.empty(l0 * l1 + 2)
        _closed_plaquettes(beta, streams[b], p)
        fill_uniforms(streams[b], deviates)
        deviates *= TWO_PI
        t0, t1 = links[b, 0], links[b, 1]
        _links(p.reshape(l0, l1), deviates[0], deviates[1], t0, t1)
        _random_gauge(deviates[2:].reshape(l0, l1), t0, t1)
    return links, streams
