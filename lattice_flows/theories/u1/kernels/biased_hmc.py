"""HMC of 2D U(1) links (B, 2, L0, L1) with a bias potential of the smooth charge: the target is S + V(Q_s).

Q_s = (1/2 pi) sum_P sin P is a differentiable stand-in for the topological charge. V is on a grid, see
`kernels.grid_bias`; of a topological charge: arXiv:1508.07270. `BiasedWilson` is the Wilson action with its bias in one
pass over the plaquettes, `SmoothCharge` the variable for other actions of such links.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_sin
from lattice_flows.kernels.grid_bias import potential, slope
from lattice_flows.kernels.molecular_dynamics import (
    Array,
    Shape,
    action,
    bias,
    charge,
    kick,
    of_chain,
    pull,
    store,
    store_wrapped,
    variable,
    workspace,
)
from lattice_flows.theories.u1.kernels.dynamics import plaquette_workspace, wilson_action
from lattice_flows.theories.u1.kernels.fields import add_force, plaquettes


@njit(fastmath=True)
def _charge_of_plaquettes(p: Array) -> float:
    total = 0.0
    for k in range(p.size):
        total += fast_sin(p[k])
    return total / TWO_PI


@njit(fastmath={"contract"})
def _to_scaled_forces(p: Array, scale: float, beta: float, slope: float) -> None:
    """P -> scale (beta sin P + V' cos P / 2 pi), in place, as one sine of another amplitude and phase."""
    amplitude, phase = scale * math.hypot(beta, slope / TWO_PI), math.atan2(slope / TWO_PI, beta)
    for k in range(p.size):
        p[k] = amplitude * fast_sin(p[k] + phase)


class BiasedWilson(NamedTuple):
    """beta, the bias of each chain (B, n_grid), of one (n_grid,), and how far its grid reaches from its centre."""

    beta: float
    bias: Array
    q_max: float
    centre: float = 0.0


@implements(of_chain, BiasedWilson)
def _of_chain(couplings: BiasedWilson, b: int) -> BiasedWilson:
    return BiasedWilson(couplings.beta, couplings.bias[b], couplings.q_max, couplings.centre)


@implements(kick, BiasedWilson)
def _kick(couplings: BiasedWilson, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    v, l1 = work.size, shape[-1]
    plaquettes(x[:v], x[v:], l1, work)
    own = slope(couplings.bias, couplings.q_max, _charge_of_plaquettes(work) - couplings.centre)
    _to_scaled_forces(work, time, couplings.beta, own)
    add_force(work, l1, momenta[:v], momenta[v:])


@implements(charge, BiasedWilson)
def _charge(couplings: BiasedWilson, x: Array, shape: Shape, work: Array) -> float:
    return _charge_of_plaquettes(work)  # where the action left them


@implements(bias, BiasedWilson)
def _bias(couplings: BiasedWilson, charge: float) -> float:
    return potential(couplings.bias, couplings.q_max, charge - couplings.centre)


implements(workspace, BiasedWilson)(plaquette_workspace)
implements(action, BiasedWilson)(wilson_action)
implements(store, BiasedWilson)(store_wrapped)


class SmoothCharge(NamedTuple):
    """Q_s, which has no parameters."""


@implements(variable, SmoothCharge)
def _variable(couplings: SmoothCharge, x: Array, shape: Shape, work: Array) -> float:
    """Leaves the plaquettes in the scratch memory."""
    v = work.size
    plaquettes(x[:v], x[v:], shape[-1], work)
    return _charge_of_plaquettes(work)


@implements(pull, SmoothCharge)
def _pull(couplings: SmoothCharge, x: Array, momenta: Array, scale: float, shape: Shape, work: Array) -> None:
    v = work.size
    _to_scaled_forces(work, -scale, 0.0, 1.0)  # a force is minus the gradient
    add_force(work, shape[-1], momenta[:v], momenta[v:])


implements(workspace, SmoothCharge)(plaquette_workspace)


@kernel(parallel=True)
def smooth_charge(links: Array) -> Array:
    """Q_s = (1/2 pi) sum_P sin P of each configuration, (B,)."""
    n, _, l0, l1 = links.shape
    out = np.empty(n)
    for b in prange(n):
        p = np.empty(l0 * l1)
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
        out[b] = _charge_of_plaquettes(p)
    return out
