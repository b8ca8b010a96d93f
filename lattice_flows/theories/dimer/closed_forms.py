"""The dimer without a bath, by quadrature."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import i0e, i1e, logsumexp

from lattice_flows.theories.dimer.kernels.dynamics import FOURTH, HOLD, LINEAR, MIDDLE, SQUARE

LEAST_SCALE = 0.1  # at lower ones the walls matter
_N_NODES = 2000  # on either side of the barrier
_LONGEST = 6.0  # a dimer from wall to wall, where exp(-S) is lost in the rounding of Z


@dataclass(frozen=True)
class ExactDimer:
    """log Z relative to the product of all dx dy, the mean energy and length, P(open) and F_open - F_closed."""

    log_z: float
    energy: float
    dimer_distance: float
    open_probability: float
    free_energy_difference: float


@cache
def lone_dimer(scale: float) -> ExactDimer:
    """Of the dimer alone, without walls.

    With X = x_1 + x_2, Y = y_1 + y_2 and the bond (d cos a, d sin a), what holds the dimer is
    20 X^2 + 10 Y^2 + 10 d^2 sin^2(a). X and Y are Gaussian, and the integral over a is 2 pi exp(-z) I_0(z) with
    z = 5 scale d^2.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    nodes, weights = 0.5 * (nodes + 1.0), 0.5 * weights  # of the unit interval
    beyond = _LONGEST - MIDDLE
    d = np.concatenate([MIDDLE * nodes, MIDDLE + beyond * nodes])
    z, stretch = 0.25 * scale * HOLD * d * d, 2.0 * (d - MIDDLE)
    u = LINEAR * stretch + SQUARE * stretch**2 + FOURTH * stretch**4
    log_terms = np.log(np.concatenate([MIDDLE * weights, beyond * weights]) * d * i0e(z)) - scale * u
    log_bond = float(logsumexp(log_terms))
    p = np.exp(log_terms - log_bond)
    closed, opened = float(p[:_N_NODES].sum()), float(p[_N_NODES:].sum())
    held = z / scale * (1.0 - i1e(z) / i0e(z))  # the mean of 10 d^2 sin^2(a)
    return ExactDimer(
        # dx_1 dx_2 dy_1 dy_2 = dX dY d(bond) / 4
        log_bond + math.log(0.5 * math.pi) + math.log(math.sqrt(2.0) * math.pi / (HOLD * scale)),
        float(p @ (u + held)) + 1.0 / scale,
        float(p @ d),
        opened,
        math.log(closed / opened),
    )
