"""Polyakov loops of 2D U(1) link fields (N, 2, L0, L1), parallel over N."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_cos, fast_sin

Array = NDArray[np.float64]


@kernel(fastmath={"contract"}, parallel=True)
def mean_polyakov_loop(links: Array, mu: int) -> tuple[Array, Array]:
    """Real and imaginary part of the mean over positions of exp(i P_mu), P_mu the loop along axis mu, (N,) each."""
    n = links.shape[0]
    real, imaginary = np.empty(n), np.empty(n)
    for b in prange(n):
        lines = links[b, 0].sum(axis=0) if mu == 0 else links[b, 1].sum(axis=1)
        c, s = 0.0, 0.0
        for x in range(lines.size):
            c += fast_cos(lines[x])
            s += fast_sin(lines[x])
        real[b], imaginary[b] = c / lines.size, s / lines.size
    return real, imaginary
