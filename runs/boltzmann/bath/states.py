"""Configurations of the dimer in its bath on one side of the barrier, which HMC hardly ever crosses."""

import numpy as np

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.hmc import HMCState
from lattice_flows.theories import DimerBath

BARRIER = 1.5  # the length of the dimer that divides both states
MINIMA = {"closed": 0.94, "open": 2.06}
SAMPLER = HMC(DimerBath(), 0.3, 12)
_CANDIDATES = 4  # hot starts for each configuration that is wanted, half of which are on either side


def settled(side: str, seed: int, n_chains: int, n_thermalisation: int) -> HMCState:
    """Chains on this side after so many trajectories from hot starts."""
    action = DimerBath()
    x, streams = action.hot(make_streams(seed, side, range(_CANDIDATES * (n_chains + 2))), action.event_shape(()))
    right = np.flatnonzero(on_side(x, side))[:n_chains]
    state = SAMPLER.init(x[right], streams[right])
    for k in range(n_thermalisation):
        state = kept_on_side(state, SAMPLER.thermalise(state, k / n_thermalisation), side)
    return state


def kept_on_side(before: HMCState, after: HMCState, side: str) -> HMCState:
    """`after`, but for chains that have left this side since `before`: they stay where they were.

    HMC is reversible, so this keeps the distribution that is restricted to the side.
    """
    inside = on_side(after.x, side)
    x = np.where(inside[:, None, None], after.x, before.x)
    return HMCState(x, np.where(inside, after.action, before.action), after.streams)


def on_side(x: np.ndarray, side: str) -> np.ndarray:
    """Which configurations x (B, n, 2) are on this side, (B,)."""
    return (DimerBath().collective_variable().value(x) > BARRIER) == (side == "open")
