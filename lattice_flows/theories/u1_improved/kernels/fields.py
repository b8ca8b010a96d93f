"""2D U(1) with 1x2 loops: S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R) on a batch (N, 2, L0, L1).

The angle of a rectangle is the sum of the two plaquettes inside, R(n) = P(n) + P(n+mu), one for each site and both mu;
on a side of two sites the same two plaquettes stand side by side twice, and both count. So S is a function of the
plaquettes alone. The inner functions take them as one flat array, row after row, as those of `u1.kernels.fields` do.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lattice_flows.kernels.elementary import fast_cos, fast_sin
from lattice_flows.theories.u1.kernels.fields import action_of_plaquettes, to_scaled_sines

Array = NDArray[np.float64]

N_SCRATCH = 4  # arrays of V numbers


@njit(fastmath={"contract"})
def row_pairs(p: Array, l1: int, out: Array) -> None:
    """P(n) + P(n+1), the rectangles that are long along axis 1."""
    v = p.size
    for k in range(v - 1):
        out[k] = p[k] + p[k + 1]
    for end in range(l1 - 1, v, l1):
        out[end] = p[end] + p[end + 1 - l1]


@njit(fastmath={"contract"})
def column_pairs(p: Array, l1: int, out: Array) -> None:
    """P(n) + P(n+0), the rectangles that are long along axis 0."""
    last = p.size - l1
    for k in range(last):
        out[k] = p[k] + p[k + l1]
    for k in range(l1):
        out[last + k] = p[last + k] + p[k]


@njit(fastmath={"contract"})
def _neighbour_sums(a: Array, l1: int, out: Array) -> None:
    """a(n+1) + a(n-1) + a(n+0) + a(n-0)."""
    v = a.size
    second, last_but_one = 1 % l1, (2 * l1 - 2) % l1  # columns
    for k in range(1, v - 1):
        out[k] = a[k - 1] + a[k + 1]
    for start in range(0, v, l1):
        end = start + l1 - 1
        out[start] = a[end] + a[start + second]
        out[end] = a[start + last_but_one] + a[start]
    for k in range(v - l1):
        out[k] += a[k + l1]
    for k in range(l1):
        out[v - l1 + k] += a[k]
        out[k] += a[v - l1 + k]
    for k in range(l1, v):
        out[k] += a[k - l1]


@njit(fastmath={"contract"})
def _sines_and_cosines(p: Array, sines: Array, cosines: Array) -> None:
    for k in range(p.size):
        sines[k] = fast_sin(p[k])
    for k in range(p.size):
        cosines[k] = fast_cos(p[k])


@njit(fastmath={"contract"})
def _combined(
    p: Array, plain: float, rectangle: float, sines: Array, cosines: Array, near_sines: Array, near_cosines: Array
) -> None:
    for k in range(p.size):
        p[k] = sines[k] * (plain + rectangle * near_cosines[k]) + rectangle * cosines[k] * near_sines[k]


@njit
def to_scaled_slopes(p: Array, l1: int, plain: float, rectangle: float, scale: float, scratch: Array) -> None:
    """P -> scale dS/dP, in place. The scratch (N_SCRATCH * V) may be empty where rectangle = 0.

    dS/dP(n) = plain sin P(n) + rectangle sum_m sin(P(n) + P(m)) over the four neighbours m. The sine and the cosine of
    every plaquette are enough for it.
    """
    if rectangle == 0.0:
        to_scaled_sines(p, scale * plain)
        return
    v = p.size
    sines, cosines = scratch[:v], scratch[v : 2 * v]
    near_sines, near_cosines = scratch[2 * v : 3 * v], scratch[3 * v :]
    _sines_and_cosines(p, sines, cosines)
    _neighbour_sums(sines, l1, near_sines)
    _neighbour_sums(cosines, l1, near_cosines)
    _combined(p, scale * plain, scale * rectangle, sines, cosines, near_sines, near_cosines)


@njit
def action_of_loops(p: Array, l1: int, plain: float, rectangle: float, scratch: Array) -> float:
    """S of the plaquettes p. The scratch may be empty where rectangle = 0."""
    total = action_of_plaquettes(p, plain)
    if rectangle == 0.0:
        return total
    pairs = scratch[: p.size]
    row_pairs(p, l1, pairs)
    total += action_of_plaquettes(pairs, rectangle)
    column_pairs(p, l1, pairs)
    return total + action_of_plaquettes(pairs, rectangle)
