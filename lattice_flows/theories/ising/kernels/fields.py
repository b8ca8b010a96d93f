"""Sums over configurations of Ising spins (N, L0, L1), int8, parallel over N."""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.theories.phi4.kernels.fields import flat, neighbours

Spins = NDArray[np.int8]


@njit
def _dot(x: Spins, y: Spins) -> int:
    total = 0
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@kernel(parallel=True)
def _bond_sum(x: Spins, shape: NDArray[np.int64]) -> NDArray[np.int64]:
    n, v = x.shape
    out = np.empty(n, dtype=np.int64)
    for b in prange(n):
        near = np.empty(v, dtype=np.int8)
        neighbours(x[b], shape, near)
        out[b] = _dot(x[b], near) // 2  # every link from both ends
    return out


def bond_sum(x: NDArray[Any]) -> NDArray[np.int64]:
    """sum_x sum_mu s(x) s(x+mu) of each configuration, (N,): along an extent of 2 a pair counts twice."""
    return _bond_sum(*flat(x.astype(np.int8, copy=False)))
