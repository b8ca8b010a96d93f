"""A dimer in a bath of soft discs in the compiled HMC: positions of n particles (n, 2), the dimer's two first.

The energy is that of F. Noe, S. Olsson, J. Koehler and H. Wu, Science 365 (2019) eaaw1147, supplement:

- of the dimer, with its length d and d0 = 2 (d - 1.5): -d0 - 25 d0^2 + 10 d0^4,
- of each other pair: (1.1 / r)^12 where r < 3, and 0 beyond, a jump of 6e-6,
- of the walls: 100 (|q| - 3)^2 for each coordinate q beyond -3 or 3,
- of what holds the dimer in the middle: 20 [(x_1 + x_2)^2 + y_1^2 + y_2^2].

A way to it from discs that can be drawn directly has the energy of the pairs times `repulsion`, and springs,
tether/2 |x - place|^2 for each disc, whose places are others around a closed dimer, d <= 1.5, than around an open one.

Pairs closer than r = 0.01, where the energy is 3e24, have the energy of that distance and no force, so that nothing is
infinite or not a number.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from lattice_flows.kernels.borrowed import borrowed
from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, action, kick, workspace

MIDDLE = 1.5  # the length of the dimer on the barrier
LINEAR, SQUARE, FOURTH = -1.0, -25.0, 10.0  # coefficients of d0
DIAMETER_SQUARED = 1.1**2
LARGEST_SQUARE = 3.0**2  # of the distance of a pair
LEAST_SQUARE = 0.01**2
WALL, STIFFNESS = 3.0, 100.0
HOLD = 20.0

_LANES = 8  # doubles in the longest vectors of today's processors
_NOWHERE = 1e6

# Without "nnan" and "ninf": a trajectory may run away, and must be refused.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


class DimerCouplings(NamedTuple):
    """S = scale * energy. places (2, 2 n_bath): the coordinates where springs hold the discs, closed and open."""

    scale: float
    repulsion: float
    tether: float
    places: Array


@implements(workspace, DimerCouplings)
def _workspace(couplings: DimerCouplings, x: Array, shape: Shape) -> Array:
    """Room for the first coordinates and for the second ones, each as long as a whole number of vectors."""
    return np.full(2 * (-(-x.size // (2 * _LANES)) * _LANES), _NOWHERE)


@njit
def _separate(x: Array, work: Array) -> tuple[Array, Array]:
    """The first and the second coordinates of all particles, and of some that are too far away to matter."""
    n = work.size // 2
    first, second = borrowed(work[:n]), borrowed(work[n:])
    for i in range(x.size // 2):
        first[i] = x[2 * i]
        second[i] = x[2 * i + 1]
    return first, second


@njit(fastmath=_FAST, forceinline=True)
def _energy_of_row(x: Array, y: Array, i: int) -> float:
    """Of particle i with those before it."""
    total = 0.0
    for j in range(i):
        dx, dy = x[i] - x[j], y[i] - y[j]
        square = dx * dx + dy * dy
        inverse = DIAMETER_SQUARED / (square if square > LEAST_SQUARE else LEAST_SQUARE)
        sixth = inverse * inverse * inverse
        total += sixth * sixth if square < LARGEST_SQUARE else 0.0
    return total


@njit(fastmath=_FAST, forceinline=True)
def _force_on_row(x: Array, y: Array, i: int, first: int) -> tuple[float, float]:
    """On particle i by those from `first` on; by itself there is none, the distance 0 being too close."""
    fx, fy = 0.0, 0.0
    for j in range(first, x.size):
        dx, dy = x[i] - x[j], y[i] - y[j]
        square = dx * dx + dy * dy
        inverse = DIAMETER_SQUARED / (square if square > LEAST_SQUARE else LEAST_SQUARE)
        sixth = inverse * inverse * inverse
        value = (12.0 / DIAMETER_SQUARED) * sixth * sixth * inverse
        value = value if (square < LARGEST_SQUARE) & (square > LEAST_SQUARE) else 0.0
        fx += value * dx
        fy += value * dy
    return fx, fy


@njit(forceinline=True)
def _beyond_wall(q: float) -> float:
    """How far, with its sign."""
    return q - WALL if q > WALL else (q + WALL if q < -WALL else 0.0)


@implements(action, DimerCouplings)
def _action(couplings: DimerCouplings, x: Array, shape: Shape, work: Array) -> float:
    first, second = _separate(x, work)
    length = math.sqrt((x[0] - x[2]) ** 2 + (x[1] - x[3]) ** 2)
    stretch = 2.0 * (length - MIDDLE)
    square = stretch * stretch
    total = LINEAR * stretch + square * (SQUARE + FOURTH * square)
    total += HOLD * ((x[0] + x[2]) ** 2 + x[1] * x[1] + x[3] * x[3])
    for k in range(x.size):
        total += STIFFNESS * _beyond_wall(x[k]) ** 2
    places = couplings.places[int(length > MIDDLE)]
    pulled = 0.0
    for k in range(4, x.size):
        pulled += (x[k] - places[k - 4]) ** 2
    total += 0.5 * couplings.tether * pulled
    pairs = 0.0
    for i in range(2, x.size // 2):
        pairs += _energy_of_row(first, second, i)
    return couplings.scale * (total + couplings.repulsion * pairs)


@implements(kick, DimerCouplings)
def _kick(couplings: DimerCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    factor = time * couplings.scale
    repulsion = factor * couplings.repulsion
    first, second = _separate(x, work)
    for i in range(2):  # apart from the others, since one loop over both is half as fast
        fx, fy = _force_on_row(first, second, i, 2)
        momenta[2 * i] += repulsion * fx
        momenta[2 * i + 1] += repulsion * fy
    for i in range(2, x.size // 2):
        fx, fy = _force_on_row(first, second, i, 0)
        momenta[2 * i] += repulsion * fx
        momenta[2 * i + 1] += repulsion * fy
    for k in range(x.size):
        momenta[k] -= 2.0 * STIFFNESS * factor * _beyond_wall(x[k])
    places = couplings.places[int((x[0] - x[2]) ** 2 + (x[1] - x[3]) ** 2 > MIDDLE**2)]
    for k in range(4, x.size):
        momenta[k] -= factor * couplings.tether * (x[k] - places[k - 4])
    _kick_dimer(x, momenta, factor)


@njit
def _kick_dimer(x: Array, momenta: Array, factor: float) -> None:
    """Along the bond, and to the middle."""
    dx, dy = x[0] - x[2], x[1] - x[3]
    length = math.sqrt(dx * dx + dy * dy)
    stretch = 2.0 * (length - MIDDLE)
    slope = 2.0 * (LINEAR + stretch * (2.0 * SQUARE + 4.0 * FOURTH * stretch * stretch))
    bond = factor * slope / length if length > 0.0 else 0.0
    hold = 2.0 * HOLD * factor
    middle = hold * (x[0] + x[2])
    momenta[0] -= bond * dx + middle
    momenta[1] -= bond * dy + hold * x[1]
    momenta[2] -= middle - bond * dx
    momenta[3] -= hold * x[3] - bond * dy
