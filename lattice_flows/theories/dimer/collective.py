"""The length of the dimer as a collective variable."""

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.dimer.kernels.distance import DimerDistance

Array = NDArray[np.float64]


def dimer_distance(x: Array) -> Array:
    """d of each configuration (N, n, 2) -> (N,)."""
    dx, dy = x[:, 0, 0] - x[:, 1, 0], x[:, 0, 1] - x[:, 1, 1]
    return np.asarray(np.sqrt(dx * dx + dy * dy))


def _gradient(x: Array) -> Array:
    """(x_1 - x_2) / d at the first particle, its negative at the second; 0 at d = 0."""
    bond, length = x[:, 0] - x[:, 1], dimer_distance(x)[:, None]  # (N, 2), (N, 1)
    with np.errstate(invalid="ignore"):  # a trajectory that runs away is refused at its end
        unit = np.divide(bond, length, out=np.zeros_like(bond), where=length > 0.0)
    slopes = np.zeros_like(x)
    slopes[:, 0], slopes[:, 1] = unit, -unit
    return slopes


DIMER_DISTANCE = CollectiveVariable(dimer_distance, _gradient, symbol="d", kernel=DimerDistance())
"""d, the distance of the dimer's two particles."""

COLLECTIVE = {"dimer_distance": DIMER_DISTANCE}
