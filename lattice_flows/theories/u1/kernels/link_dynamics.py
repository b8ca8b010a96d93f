"""What HMC of 2D U(1) links is made of: S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R), one chain at a time.

An integrator comes as `drifts` (k + 1,) and `kicks` (k,) in units of step_size: drift, kick, ..., kick, drift. The
functions here are compiled into the kernels that call them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lattice_flows.kernels.elementary import fast_log, wrap
from lattice_flows.kernels.molecular_dynamics import drift, kinetic
from lattice_flows.kernels.random import fill_normals, uniform_pair
from lattice_flows.theories.u1.kernels.fields import add_force, plaquettes
from lattice_flows.theories.u1_improved.kernels.fields import N_SCRATCH, action_of_loops, to_scaled_slopes

Array = NDArray[np.float64]


@njit(fastmath={"contract"})
def integrate_links(
    x: Array,
    momenta: Array,
    l1: int,
    plain: float,
    rectangle: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    y: Array,
    p: Array,
    scratch: Array,
) -> None:
    """x (flat, 2V) -> y; the momenta are updated in place; p (V) and the scratch are overwritten."""
    v, last = p.size, kicks.size - 1
    y0, y1, p0, p1 = y[:v], y[v:], momenta[:v], momenta[v:]  # once: making a view costs as much as a short loop
    y[:] = x
    drift(y, momenta, drifts[0] * step_size)
    for step in range(n_md_steps):
        for k in range(kicks.size):
            plaquettes(y0, y1, l1, p)
            to_scaled_slopes(p, l1, plain, rectangle, kicks[k] * step_size, scratch)
            add_force(p, l1, p0, p1)
            merged = drifts[0] if k == last and step < n_md_steps - 1 else 0.0
            drift(y, momenta, (drifts[k + 1] + merged) * step_size)


@njit
def run_chain(
    x: Array,
    action: float,
    stream: NDArray[np.uint64],
    l1: int,
    plain: float,
    rectangle: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
) -> tuple[float, float, float]:
    """n_updates trajectories of the chain at x (flat, 2V), each with fresh momenta and a Metropolis test.

    x and the stream are updated in place. Returns the new action, the accepted fraction, and delta_h of the last one.
    """
    v = x.size // 2
    y, momenta, p = np.empty(2 * v), np.empty(2 * v), np.empty(v)
    scratch = np.empty(0 if rectangle == 0.0 else N_SCRATCH * v)
    n_accepted, delta_h = 0, 0.0
    for _ in range(n_updates):
        fill_normals(stream, momenta)
        start = kinetic(momenta)
        integrate_links(x, momenta, l1, plain, rectangle, drifts, kicks, step_size, n_md_steps, y, p, scratch)
        plaquettes(y[:v], y[v:], l1, p)
        new_action = action_of_loops(p, l1, plain, rectangle, scratch)
        delta_h = new_action - action + kinetic(momenta) - start
        if fast_log(uniform_pair(stream)[0]) < -delta_h:
            n_accepted += 1
            action = new_action
            for k in range(2 * v):
                x[k] = wrap(y[k])
    return action, n_accepted / n_updates, delta_h
