"""What each region of a tree earns: the terms of log q + S inside it, less what a region of its flux earns on average.

Layout and names are those of tree_u1.py.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import PI

Array = NDArray[np.float64]
Nodes = NDArray[np.int32]

_PARTS = 16


@kernel(parallel=True)
def rewards(log_q: Array, terms: Array, nodes: Nodes) -> Array:
    """The sum of log_q (B, V - 1) of the regions inside each region, itself included, and of its plaquettes' `terms`
    (B, V): (B, V - 1)."""
    n, n_nodes = log_q.shape
    out = np.empty((n, n_nodes))
    for b in prange(n):
        for i in range(n_nodes - 1, -1, -1):
            total = log_q[b, i]
            for side in range(1, 3):
                child = nodes[i, side]
                total += out[b, child] if child >= 0 else terms[b, -1 - child]
            out[b, i] = total
    return out


@kernel(parallel=True)
def normal_equations(earned: Array, fluxes: Array, nodes: Nodes, n_splits: int, n_knots: int) -> tuple[Array, Array]:
    """Of the fit of a continuous, piecewise linear function of |s| to the rewards, one for every split:
    matrices (n_splits, n_knots, n_knots), right-hand sides (n_splits, n_knots)."""
    n, n_nodes = earned.shape
    matrices, sides = np.zeros((_PARTS, n_splits, n_knots, n_knots)), np.zeros((_PARTS, n_splits, n_knots))
    for part in prange(_PARTS):
        for b in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            for i in range(n_nodes):
                position = abs(fluxes[b, i]) * ((n_knots - 1) / PI)
                k = int(position) if position < n_knots - 2 else n_knots - 2
                r = position - k
                matrix, side = matrices[part, nodes[i, 0]], sides[part, nodes[i, 0]]
                matrix[k, k] += (1.0 - r) * (1.0 - r)
                matrix[k, k + 1] += r * (1.0 - r)
                matrix[k + 1, k] += r * (1.0 - r)
                matrix[k + 1, k + 1] += r * r
                side[k] += (1.0 - r) * earned[b, i]
                side[k + 1] += r * earned[b, i]
    return matrices.sum(axis=0), sides.sum(axis=0)


@kernel(parallel=True, error_model="numpy")
def advantages(earned: Array, fluxes: Array, nodes: Nodes, fits: Array, inverses: Array) -> Array:
    """The rewards (B, V - 1) less the fit to all others: (reward - fit) / (1 - leverage), the leave-one-out residual.

    fits (n_splits, n_knots); inverses (n_splits, n_knots, n_knots) of the matrices. Zero where a reward stands alone.
    """
    n, n_nodes = earned.shape
    n_knots = fits.shape[1]
    out = np.empty((n, n_nodes))
    for b in prange(n):
        for i in range(n_nodes):
            which = nodes[i, 0]
            position = abs(fluxes[b, i]) * ((n_knots - 1) / PI)
            k = int(position) if position < n_knots - 2 else n_knots - 2
            r = position - k
            inverse = inverses[which]
            leverage = (1.0 - r) * ((1.0 - r) * inverse[k, k] + 2.0 * r * inverse[k, k + 1])
            leverage += r * r * inverse[k + 1, k + 1]
            fit = fits[which, k] + r * (fits[which, k + 1] - fits[which, k])
            out[b, i] = (earned[b, i] - fit) / (1.0 - leverage) if leverage < 0.999 else 0.0
    return out
