"""The Wilson action of 2D U(1) links (B, 2, L0, L1) in the compiled HMC, see `u1.kernels.fields`."""

from typing import NamedTuple

import numpy as np

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, action, kick, store, store_wrapped, workspace
from lattice_flows.theories.u1.kernels.fields import action_of_plaquettes, add_force, plaquettes, to_scaled_sines


class Wilson(NamedTuple):
    """S = beta sum_P (1 - cos P)."""

    beta: float


@implements(workspace, Wilson)
def plaquette_workspace(couplings: Wilson, x: Array, shape: Shape) -> Array:
    """One number for each plaquette."""
    return np.empty(x.size // 2)


@implements(action, Wilson)
def wilson_action(couplings: Wilson, x: Array, shape: Shape, work: Array) -> float:
    """Leaves the plaquettes in the scratch memory."""
    v = work.size
    plaquettes(x[:v], x[v:], shape[-1], work)
    return action_of_plaquettes(work, couplings.beta)


@implements(kick, Wilson)
def _kick(couplings: Wilson, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    v, l1 = work.size, shape[-1]
    plaquettes(x[:v], x[v:], l1, work)
    to_scaled_sines(work, time * couplings.beta)
    add_force(work, l1, momenta[:v], momenta[v:])


implements(store, Wilson)(store_wrapped)
