"""What the samplers with a bias of the smooth charge share: chains of exp(-S - V(Q_s)) with V on a grid.

Q_s = (1/2 pi) sum_P sin P of 2D U(1), see `u1.kernels.biased_hmc`. V is linear between the points of the grid and
constant outside; the chain, its weights exp(+V) and its target all use this same V, so they are exact on any grid.
"""

import math

import numpy as np

from lattice_flows.kernels import hmc
from lattice_flows.samplers.hmc import HMC, HMCState
from lattice_flows.samplers.integrators import INTEGRATORS
from lattice_flows.samplers.sampler import Array, Report, Streams
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.kernels.biased_hmc import BiasedWilson, smooth_charge

Chains = tuple[Array, Array, Array, Streams]
"""x (B, 2, L0, L1), its unbiased action (B,), its smooth charge (B,), and the random streams (B, 2)."""

_LEAST_PLAQUETTE = 0.2  # near beta = 0 there are no sectors, and Q_s is of order one all the same
_REACH = 3.5  # standard deviations of the charge


def require_u1(action: Action) -> WilsonU1:
    """The action. Raises ValueError for one other than that of 2D U(1)."""
    if not isinstance(action, WilsonU1):
        raise ValueError(f"the smooth charge is one of u1, not of {type(action).__name__}")
    return action


def begun(action: Action, x: Array, streams: Streams) -> Chains:
    """Chains at x (B, 2, L0, L1), with copies of both. Raises ValueError for links of another dimension."""
    x = np.array(x, dtype=np.float64, order="C")
    if x.ndim != 4 or x.shape[1] != 2:
        raise ValueError(f"the smooth charge is one of two dimensions, got configurations of shape {list(x.shape[1:])}")
    return x, action.evaluate(x), smooth_charge(x), streams.copy()


def biased_trajectories(
    sampler: HMC, chains: Chains, bias: Array, q_max: float, n_updates: int
) -> tuple[Chains, Array, Array]:
    """n_updates trajectories of every chain under its own bias (B, n_grid): chains, accepted fraction, last delta_h.

    Raises ValueError when n_md_steps was neither given nor tuned.
    """
    if sampler.n_md_steps is None:
        raise ValueError("n_md_steps is not set: give it, or call tune() first")
    drifts, kicks, _ = INTEGRATORS[sampler.integrator]
    couplings = BiasedWilson(float(require_u1(sampler.action).beta), bias, q_max)
    step_sizes = np.full(len(bias), sampler.trajectory_length / sampler.n_md_steps, dtype=np.float64)
    *new, accepted, delta_h = hmc.biased_trajectories(
        couplings, *chains, drifts, kicks, step_sizes, sampler.n_md_steps, n_updates
    )
    return tuple(new), accepted, delta_h  # type: ignore[return-value]


def tuned_n_md_steps(sampler: HMC, chains: Chains, n_updates: int, report: Report) -> int | None:
    """As many as HMC without a bias needs: the bias adds little to the stiffness."""
    x, action, _, streams = chains
    return sampler.tune(HMCState(x, action, streams), n_updates, report).n_md_steps


def charge_reach(action: Action, lattice_shape: tuple[int, ...]) -> float:
    """The mean Q_s of the sector 3.5 standard deviations of the charge away, at the least.

    Sector Q has its Q_s about Q <cos P>. The grid must end in the middle of a sector: outside of it V is constant, so a
    grid that ended on a barrier would leave a deep valley beyond it.
    """
    exact = require_u1(action).closed_forms(lattice_shape)
    assert exact is not None
    return max(1, math.ceil(_REACH * math.sqrt(exact.charge_squared))) * max(exact.plaquette, _LEAST_PLAQUETTE)
