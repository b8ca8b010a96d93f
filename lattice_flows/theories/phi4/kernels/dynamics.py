"""Lattice phi^4 fields (B, *lattice_shape) of any dimension in the compiled HMC, see `phi4.kernels.fields`."""

from typing import NamedTuple

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array, Shape, action, kick, kick_and_drift
from lattice_flows.theories.phi4.kernels.fields import action_of_neighbours, neighbours


class LocalCouplings(NamedTuple):
    """S = sum_x [ -2 hop phi(x) sum_mu phi(x+mu) + quad phi^2 + quart phi^4 ]. Extents must be 2 or more."""

    hop: float
    quad: float
    quart: float


@implements(action, LocalCouplings)
def _action(couplings: LocalCouplings, x: Array, shape: Shape, work: Array) -> float:
    hop, quad, quart = couplings
    neighbours(x, shape, work)
    return action_of_neighbours(x, work, hop, quad, quart)


@implements(kick, LocalCouplings, fastmath={"contract"})
def _kick(couplings: LocalCouplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    """-dS/dphi = 2 hop near - 2 quad phi - 4 quart phi^3, `near` the sum over the neighbours."""
    hop, quad, quart = couplings
    a, b, c = 2.0 * time * hop, 2.0 * time * quad, 4.0 * time * quart
    neighbours(x, shape, work)
    for k in range(x.size):
        momenta[k] += a * work[k] - x[k] * (b + c * x[k] * x[k])


@implements(kick_and_drift, LocalCouplings, fastmath={"contract"})
def _kick_and_drift(
    couplings: LocalCouplings,
    x: Array,
    momenta: Array,
    kick_time: float,
    drift_time: float,
    shape: Shape,
    work: Array,
) -> None:
    hop, quad, quart = couplings
    a, b, c = 2.0 * kick_time * hop, 2.0 * kick_time * quad, 4.0 * kick_time * quart
    neighbours(x, shape, work)
    for k in range(x.size):
        momenta[k] += a * work[k] - x[k] * (b + c * x[k] * x[k])
        x[k] += drift_time * momenta[k]
