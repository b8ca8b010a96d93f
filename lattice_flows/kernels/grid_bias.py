"""Bias potentials V(s) of a collective variable s, one for each chain, on a grid.

V is given by its values `bias` (n_grid,), n_grid >= 2, on a uniform grid from -reach to reach: linear between the
points, and outside constant, the value at the edge, with no force. s counts from the middle of the grid. V' is then
constant between the points and jumps at them. A trajectory is reversible and preserves the measure with any force, so a
chain is exact all the same; the jumps only add to delta_h.

Averages of exp(-S) are those of the chain with the weights exp(+V(s)). `deposit` builds V by well-tempered metadynamics
(arXiv:0803.3861).
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel

Array = NDArray[np.float64]


@njit(error_model="numpy")
def _cell(bias: Array, reach: float, s: float) -> tuple[int, float]:
    """The grid point below s and how far s is beyond it, in units of the spacing; the nearest edge outside the grid."""
    last = bias.size - 1
    place = min(max((s + reach) / (2.0 * reach) * last, 0.0), float(last))
    k = min(int(place), last - 1)
    return k, place - k


@njit
def potential(bias: Array, reach: float, s: float) -> float:
    """V(s)."""
    k, fraction = _cell(bias, reach, s)
    return bias[k] + fraction * (bias[k + 1] - bias[k])


@njit(error_model="numpy")
def slope(bias: Array, reach: float, s: float) -> float:
    """V'(s)."""
    if not -reach <= s <= reach:
        return 0.0
    k, _ = _cell(bias, reach, s)
    return (bias[k + 1] - bias[k]) * (bias.size - 1) / (2.0 * reach)


@kernel
def bias_at(bias: Array, reach: float, s: Array) -> Array:
    """V(s) of each chain: bias (B, n_grid), s (B,) -> (B,)."""
    out = np.empty(s.size)
    for b in range(s.size):
        out[b] = potential(bias[b], reach, s[b])
    return out


@kernel
def slope_at(bias: Array, reach: float, s: Array) -> Array:
    """V'(s) of each chain: bias (B, n_grid), s (B,) -> (B,)."""
    out = np.empty(s.size)
    for b in range(s.size):
        out[b] = slope(bias[b], reach, s[b])
    return out


def deposit(
    bias: Array, reach: float, places: Sequence[Array], height: float, width: float, bias_factor: float
) -> Array:
    """The bias (B, n_grid) after each chain added a Gaussian of this width at each of its places, (B,) each.

    The first place is that of the chain; the others are its images under a symmetry of the theory. The height is
    height * exp(-V(s) / (bias_factor - 1)) with V at the first, energies in units of kT (arXiv:0803.3861), so that V
    tends to -(1 - 1 / bias_factor) times the free energy of s. bias_factor must be above 1; inf is plain metadynamics.
    A chain outside the grid adds nothing.
    """
    grid, s = np.linspace(-reach, reach, bias.shape[1]), places[0]
    heights = height * np.exp(-bias_at(bias, reach, s) / (bias_factor - 1.0)) * (np.abs(s) <= reach)
    hills = [np.exp(-0.5 * ((grid - place[:, None]) / width) ** 2) for place in places]  # (B, n_grid) each
    return bias + heights[:, None] * sum(hills)
