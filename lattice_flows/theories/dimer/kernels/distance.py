"""The length of the dimer as a collective variable of the compiled HMC."""

import math
from typing import NamedTuple

import numpy as np

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, pull, variable, workspace


class DimerDistance(NamedTuple):
    """d = |x_1 - x_2| of the first two particles; it has no parameters."""


@implements(workspace, DimerDistance)
def _workspace(couplings: DimerDistance, x: Array, shape: Shape) -> Array:
    return np.empty(0)


@implements(variable, DimerDistance)
def _variable(couplings: DimerDistance, x: Array, shape: Shape, work: Array) -> float:
    dx, dy = x[0] - x[2], x[1] - x[3]
    return math.sqrt(dx * dx + dy * dy)


@implements(pull, DimerDistance)
def _pull(couplings: DimerDistance, x: Array, momenta: Array, scale: float, shape: Shape, work: Array) -> None:
    """dd/dx_1 = (x_1 - x_2) / d = -dd/dx_2, and 0 at d = 0."""
    dx, dy = x[0] - x[2], x[1] - x[3]
    length = math.sqrt(dx * dx + dy * dy)
    if length > 0.0:
        along, across = scale * dx / length, scale * dy / length
        momenta[0] += along
        momenta[1] += across
        momenta[2] -= along
        momenta[3] -= across
