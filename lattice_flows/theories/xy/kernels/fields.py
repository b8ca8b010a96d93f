"""Measurements of planar spins (N, L0, L1), parallel over N."""

import numpy as np
from numba import prange

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_sin_cos, wrap
from lattice_flows.kernels.links import differences
from lattice_flows.kernels.molecular_dynamics import Array
from lattice_flows.theories.u1.kernels.fields import plaquettes


@kernel(fastmath={"contract", "reassoc", "nsz"}, parallel=True)
def modulus(x: Array) -> Array:
    """|m|, m = (1/V) sum exp(i theta), (N,)."""
    n = x.shape[0]
    out = np.empty(n)
    for b in prange(n):
        theta, sines, cosines = x[b].reshape(-1), 0.0, 0.0
        for k in range(theta.size):
            sine, cosine = fast_sin_cos(theta[k])
            sines += sine
            cosines += cosine
        out[b] = np.sqrt(sines * sines + cosines * cosines) / theta.size
    return out


@kernel(parallel=True)
def vortex_density(x: Array) -> Array:
    """The number of vortices and antivortices over that of the sites, (N,)."""
    n, l0, l1 = x.shape
    out = np.empty(n)
    for b in prange(n):
        d, around = np.empty((2, l0 * l1)), np.empty(l0 * l1)
        differences(x[b].reshape(-1), l1, d)
        for mu in range(2):
            for k in range(l0 * l1):
                d[mu, k] = wrap(d[mu, k])
        plaquettes(d[0], d[1], l1, around)  # of the differences as a gauge field
        total = 0.0
        for k in range(l0 * l1):
            total += abs(np.rint(around[k] / TWO_PI))
        out[b] = total / (l0 * l1)
    return out
