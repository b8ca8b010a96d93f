"""Expectation values in potentials of two coordinates, by quadrature."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lattice_flows.kernels import hmc
from lattice_flows.theories.potentials.kernels.dynamics import HIGH, LOW, MuellerBrownCouplings

Array = NDArray[np.float64]

_NODES = 16  # of Gauss and Legendre in a panel
_PANELS = 64  # of an interval: at the largest scale the width of the potentials' minima is resolved
_NEGLIGIBLE = 60.0  # of S above its minimum: exp(-60) is lost in the rounding of Z


@dataclass(frozen=True)
class ExactPotential:
    """log Z relative to dx dy, the means of x, y and the potential u, and the probability of the basin."""

    log_z: float
    mean_x: float
    mean_y: float
    potential: float
    basin_probability: float


@cache
def double_well(scale: float, edge: float) -> ExactPotential:
    """S = scale (x^4 - 6 x^2 - x/2 + y^2/2), whose y is Gaussian; the basin is x < edge."""
    reach = (2.0 * (_NEGLIGIBLE / scale + 20.0)) ** 0.25  # u is above x^4/2 - 20, and its minimum below 0
    (left, left_weights), (right, right_weights) = _rule(-reach, edge), _rule(edge, reach)
    x, log_weights = np.concatenate([left, right]), np.log(np.concatenate([left_weights, right_weights]))
    u = x**4 - 6.0 * x**2 - 0.5 * x
    log_terms = log_weights - scale * u
    log_z = float(logsumexp(log_terms))
    p = np.exp(log_terms - log_z)
    return ExactPotential(
        log_z + 0.5 * math.log(2.0 * math.pi / scale),
        float(p @ x),
        0.0,
        float(p @ u) + 0.5 / scale,
        float(p[: left.size].sum()),
    )


@cache
def mueller_brown(scale: float, edge: float) -> ExactPotential:
    """The potential of Mueller and Brown between its walls; the basin is y > edge."""
    x, x_weights = _rule(LOW[0], HIGH[0])
    (below, below_weights), (above, above_weights) = _rule(LOW[1], edge), _rule(edge, HIGH[1])
    y, y_weights = np.concatenate([below, above]), np.concatenate([below_weights, above_weights])
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    u = hmc.action(MuellerBrownCouplings(1.0), points).reshape(x.size, y.size)
    log_terms = np.log(x_weights)[:, None] + np.log(y_weights) - scale * u
    log_z = float(logsumexp(log_terms))
    p = np.exp(log_terms - log_z)  # (x, y)
    in_basin = float(p[:, below.size :].sum())
    return ExactPotential(log_z, float(x @ p.sum(1)), float(p.sum(0) @ y), float((p * u).sum()), in_basin)


def _rule(low: float, high: float) -> tuple[Array, Array]:
    """Nodes and weights between low and high."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends = np.linspace(low, high, _PANELS + 1)
    half = 0.5 * np.diff(ends)[:, None]
    centres = 0.5 * (ends[1:] + ends[:-1])[:, None]
    return (centres + half * nodes).ravel(), (half * weights).ravel()
