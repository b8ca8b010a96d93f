"""Potentials of two coordinates (B, 2), and products of them, in the compiled HMC."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, action, drift, kick
from lattice_flows.kernels.walls import reflected

# Mueller and Brown, Theor. Chim. Acta 53 (1979) 75: A, a, b, c, x0, y0 of each term
# A exp[a (x - x0)^2 + b (x - x0)(y - y0) + c (y - y0)^2].
MUELLER_BROWN = np.array(
    [
        [-200.0, -1.0, 0.0, -10.0, 1.0, 0.0],
        [-100.0, -1.0, 0.0, -10.0, 0.0, 0.5],
        [-170.0, -6.5, 11.0, -6.5, -0.5, 1.5],
        [15.0, 0.7, 0.6, 0.7, -1.0, 1.0],
    ]
)
LOW = (-1.8, -0.8)
HIGH = (1.4, 2.4)


class DoubleWellCouplings(NamedTuple):
    """S = scale sum (x^4 - 6 x^2 - x / 2 + y^2 / 2) over the pairs (x, y) of coordinates, of which there may be one."""

    scale: float


class MuellerBrownCouplings(NamedTuple):
    """S = scale u of the potential of Mueller and Brown, between the walls LOW and HIGH."""

    scale: float


@implements(action, DoubleWellCouplings)
def _double_well(couplings: DoubleWellCouplings, x: Array, shape: Shape, work: Array) -> float:
    total = 0.0
    for k in range(0, x.size, 2):
        square = x[k] * x[k]
        total += square * (square - 6.0) - 0.5 * x[k] + 0.5 * x[k + 1] * x[k + 1]
    return couplings.scale * total


@implements(kick, DoubleWellCouplings)
def _kick_double_well(
    couplings: DoubleWellCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array
) -> None:
    factor = time * couplings.scale
    for k in range(0, x.size, 2):
        momenta[k] -= factor * (x[k] * (4.0 * x[k] * x[k] - 12.0) - 0.5)
        momenta[k + 1] -= factor * x[k + 1]


@njit
def _term(k: int, x: Array) -> tuple[float, float, float]:
    """Term k and its derivatives by x and y."""
    amplitude, a, b, c, x0, y0 = MUELLER_BROWN[k]
    dx, dy = x[0] - x0, x[1] - y0
    value = amplitude * math.exp(a * dx * dx + b * dx * dy + c * dy * dy)
    return value, value * (2.0 * a * dx + b * dy), value * (b * dx + 2.0 * c * dy)


@implements(action, MuellerBrownCouplings)
def _mueller_brown(couplings: MuellerBrownCouplings, x: Array, shape: Shape, work: Array) -> float:
    total = 0.0
    for i in range(2):
        if not LOW[i] <= x[i] <= HIGH[i]:
            total = np.inf
    for k in range(len(MUELLER_BROWN)):
        total += _term(k, x)[0]
    return couplings.scale * total


@implements(kick, MuellerBrownCouplings)
def _kick_mueller_brown(
    couplings: MuellerBrownCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array
) -> None:
    factor = time * couplings.scale
    for k in range(len(MUELLER_BROWN)):
        _, by_x, by_y = _term(k, x)
        momenta[0] -= factor * by_x
        momenta[1] -= factor * by_y


@implements(drift, MuellerBrownCouplings)
def _drift_mueller_brown(
    couplings: MuellerBrownCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array
) -> None:
    for i in range(2):
        x[i], sign = reflected(x[i] + time * momenta[i], LOW[i], HIGH[i])
        momenta[i] *= sign
