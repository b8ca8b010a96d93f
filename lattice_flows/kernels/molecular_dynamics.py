"""Pieces that every compiled molecular dynamics shares: free motion and the kinetic energy, on flat arrays."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]


@njit(fastmath={"contract"})
def drift(x: Array, momenta: Array, time: float) -> None:
    """x += time * momenta, in place."""
    for k in range(x.size):
        x[k] += time * momenta[k]


@njit(fastmath={"contract", "reassoc", "nsz"})  # not "nnan": a trajectory may run away, and must then be refused
def kinetic(momenta: Array) -> float:
    """sum p^2 / 2."""
    total = 0.0
    for k in range(momenta.size):
        total += momenta[k] * momenta[k]
    return 0.5 * total
