"""2D U(1) with 1x2 loops in the compiled HMC, see `u1_improved.kernels.fields`."""

from typing import NamedTuple

import numpy as np

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, action, kick, store, store_wrapped, workspace
from lattice_flows.theories.u1.kernels.fields import add_force, plaquettes
from lattice_flows.theories.u1_improved.kernels.fields import N_SCRATCH, action_of_loops, to_scaled_slopes


class LoopCouplings(NamedTuple):
    """S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R)."""

    plain: float
    rectangle: float


@implements(workspace, LoopCouplings)
def _workspace(couplings: LoopCouplings, x: Array, shape: Shape) -> Array:
    """One number for each plaquette, and scratch."""
    v = x.size // 2
    return np.empty(v if couplings.rectangle == 0.0 else (1 + N_SCRATCH) * v)


@implements(action, LoopCouplings)
def _action(couplings: LoopCouplings, x: Array, shape: Shape, work: Array) -> float:
    v, l1 = x.size // 2, shape[-1]
    plaquettes(x[:v], x[v:], l1, work[:v])
    return action_of_loops(work[:v], l1, couplings.plain, couplings.rectangle, work[v:])


@implements(kick, LoopCouplings)
def _kick(couplings: LoopCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    v, l1 = x.size // 2, shape[-1]
    p = work[:v]
    plaquettes(x[:v], x[v:], l1, p)
    to_scaled_slopes(p, l1, couplings.plain, couplings.rectangle, time, work[v:])
    add_force(p, l1, momenta[:v], momenta[v:])


implements(store, LoopCouplings)(store_wrapped)
