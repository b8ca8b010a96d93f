"""Links of given plaquettes in 2D U(1): everything else, both holonomies and the gauge, is uniformly random."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, wrap
from lattice_flows.kernels.random import fill_uniforms

Array = NDArray[np.float64]


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


@njit
def fill_links(p: Array, stream: NDArray[np.uint64], links: Array) -> None:
    """Fill links (2, L0, L1) with a random field of plaquettes p (V,) that sum to zero modulo 2 pi; wrapped."""
    _, l0, l1 = links.shape
    deviates = np.empty(l0 * l1 + 2)
    fill_uniforms(stream, deviates)
    deviates *= TWO_PI
    _links(p.reshape(l0, l1), deviates[0], deviates[1], links[0], links[1])
    _random_gauge(deviates[2:].reshape(l0, l1), links[0], links[1])


@kernel(parallel=True)
def random_links(p: Array, streams: NDArray[np.uint64]) -> tuple[Array, NDArray[np.uint64]]:
    """Links (B, 2, L0, L1), one field for each row of plaquettes p (B, L0, L1), see `fill_links`; advanced streams."""
    n, l0, l1 = p.shape
    links, streams = np.empty((n, 2, l0, l1)), streams.copy()
    for b in prange(n):
        fill_links(p[b].reshape(-1), streams[b], links[b])
    return links, streams
