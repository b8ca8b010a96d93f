"""The magnetisation as a collective variable of scalar fields."""

import math

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.phi4.kernels.collective import MeanField, mean_field

Array = NDArray[np.float64]


def _gradient(phi: Array) -> Array:
    """dM/dphi = 1/V."""
    return np.full(phi.shape, 1.0 / math.prod(phi.shape[1:]))


MAGNETISATION = CollectiveVariable(mean_field, _gradient, symbol="M", odd=True, kernel=MeanField())
"""M, the mean of phi over the lattice."""

COLLECTIVE = {"magnetisation": MAGNETISATION}
