"""The gradient (Wilson) flow of 2D U(1) link fields (N, 2, L0, L1), parallel over N.

d theta / dt = - d/d theta sum_P (1 - cos P), whatever the coupling that the links were made with. The integrator is
Luescher's Runge-Kutta of third order (arXiv:1006.4518, equation C.2); for an abelian group the angles simply add. With
Z_i the force at stage i in units of the step, its three stages are

    m = Z_0 / 4,            theta += m
    m = 8/9 Z_1 - 17/9 m,   theta += m
    m = 3/4 Z_2 - m,        theta += m

The force is linear in the sines of the plaquettes, so m is kept as one number per plaquette.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_sin, wrap
from lattice_flows.theories.u1.kernels.fields import add_force, plaquettes

Array = NDArray[np.float64]

STEP_SIZE = 0.02
"""In units of the flow time, a^2. The highest mode decays with the rate 8."""

_ROUNDING = 1e-9  # of a step


def gradient_flow(links: Array, flow_time: float, step_size: float = STEP_SIZE) -> Array:
    """The links (N, 2, L0, L1) at this flow time, in [-pi, pi); flow_time in units of a^2.

    The steps are equal, but for a shorter last one where flow_time is no multiple of step_size: then the flow to a
    later time passes through the same links, to the bit. Raises ValueError for a flow time below 0 or a step size
    that is not above 0.
    """
    n_steps, rest = whole_steps(flow_time, step_size)
    flowed = flow_steps(links, n_steps, step_size)
    return flow_steps(flowed, 1, rest) if rest else flowed


def whole_steps(flow_time: float, step_size: float = STEP_SIZE) -> tuple[int, float]:
    """The number of whole steps to this flow time, and the step that is left, 0 where there is none."""
    if not (flow_time >= 0.0 and step_size > 0.0):
        raise ValueError(f"the flow time must be >= 0 and the step size > 0, got {flow_time} and {step_size}")
    n_steps = math.floor(flow_time / step_size + _ROUNDING)
    rest = flow_time - n_steps * step_size
    return n_steps, rest if rest > _ROUNDING * step_size else 0.0


@njit(fastmath={"contract"})
def _to_increments(p: Array, m: Array, new: float, old: float) -> None:
    """m -> new * sin P + old * m, in place."""
    for k in range(p.size):
        m[k] = new * fast_sin(p[k]) + old * m[k]


@kernel(parallel=True)
def flow_steps(links: Array, n_steps: int, step_size: float) -> Array:
    """The links after n_steps steps, in [-pi, pi); n and then m steps are n + m steps, to the bit."""
    n, _, l0, l1 = links.shape
    out = links.copy()
    new = np.array([0.25, 8.0 / 9.0, 0.75]) * step_size
    old = np.array([0.0, -17.0 / 9.0, -1.0])
    for b in prange(n):
        p, m = np.empty(l0 * l1), np.zeros(l0 * l1)
        x = out[b].reshape(-1)
        x0, x1 = x[: l0 * l1], x[l0 * l1 :]
        for _ in range(n_steps):
            for stage in range(3):
                plaquettes(x0, x1, l1, p)
                _to_increments(p, m, new[stage], old[stage])
                add_force(m, l1, x0, x1)
            for k in range(x.size):
                x[k] = wrap(x[k])
    return out
