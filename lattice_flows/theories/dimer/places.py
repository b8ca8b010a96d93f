"""Places for the discs of the bath: those of the crystals that 36 of them make, and a grid for other numbers."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.dimer.kernels.dynamics import WALL

Array = NDArray[np.float64]

_N_CRYSTAL = 36
# The lowest minima of the energy at d = 0.94 (17.30) and at d = 2.06 (17.43), which are their own mirror images.
_CLOSED = [(0.0, 2.02), (0.62, 3.04), (0.72, 1.08), (1.28, 2.07), (1.72, 0.0)]
_CLOSED += [(1.88, 3.03), (1.99, 1.16), (3.01, 1.83), (3.02, 0.59), (3.03, 3.02)]
_OPEN = [(0.0, 0.6), (0.0, 2.02), (0.63, 3.02), (0.91, 1.3), (1.82, 3.04)]
_OPEN += [(1.88, 1.9), (1.93, 0.7), (3.02, 3.01), (3.03, 1.8), (3.04, 0.59)]


@cache
def places_of(n_bath: int) -> Array:
    """Where the discs belong around a closed dimer and around an open one, (2, n_bath, 2).

    For 36 discs two crystals, else twice the first n_bath places of the smallest square grid that has as many.
    """
    if n_bath == _N_CRYSTAL:
        return np.array([_mirrored(_CLOSED), _mirrored(_OPEN)])
    side = math.ceil(math.sqrt(n_bath))
    spacing = 2.0 * WALL / max(side, 1)
    axis = spacing * (np.arange(side) - 0.5 * (side - 1))
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)[:n_bath]
    return np.stack([grid, grid])


def _mirrored(quarter: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points and their mirror images, each once."""
    signs = [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)]
    return sorted({(a * x + 0.0, b * y + 0.0) for x, y in quarter for a, b in signs})
