"""What a theory tells the compiled HMC of `kernels.hmc`: functions with a body for each class of couplings.

`action` and `kick` are a theory's own; the other functions are those of unit masses and real variables where it does
not say otherwise. `variable` and `pull` are those of a collective variable, see `kernels.biased`. All take one chain. x
and the momenta are flat arrays, shape is that of a configuration, an int64 array, and `work` is what `workspace` made
for the chain.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.by_couplings import required, with_default
from lattice_flows.kernels.elementary import wrap
from lattice_flows.kernels.random import fill_normals

Array = NDArray[np.float64]
Shape = NDArray[np.int64]
Stream = NDArray[np.uint64]
Couplings = tuple[Any, ...]
"""An instance of a NamedTuple: its class says which theory it is."""


@required
def action(couplings: Couplings, x: Array, shape: Shape, work: Any) -> float:
    """S(x)."""
    raise NotImplementedError


@required
def kick(couplings: Couplings, x: Array, momenta: Array, time: float, shape: Shape, work: Any) -> None:
    """momenta += time * force, force = -dS/dx, in place."""
    raise NotImplementedError


@with_default()
def workspace(couplings: Couplings, x: Array, shape: Shape) -> Any:
    """Scratch memory, made once for many trajectories; by default an array as long as x."""
    return np.empty(x.size)


@with_default(fastmath={"contract"})
def drift(couplings: Couplings, x: Array, momenta: Array, time: float, shape: Shape, work: Any) -> None:
    """x += time * momenta, in place. A drift on a curved space turns the momenta, too."""
    for k in range(x.size):
        x[k] += time * momenta[k]


@with_default()
def kick_and_drift(
    couplings: Couplings, x: Array, momenta: Array, kick_time: float, drift_time: float, shape: Shape, work: Any
) -> None:
    """A kick, then a drift: for theories that can do both in one pass over the memory."""
    kick(couplings, x, momenta, kick_time, shape, work)
    drift(couplings, x, momenta, drift_time, shape, work)


@with_default()
def refresh(couplings: Couplings, momenta: Array, stream: Stream, shape: Shape, work: Any) -> None:
    """Fresh momenta, distributed like exp(-kinetic)."""
    fill_normals(stream, momenta)


@with_default(fastmath={"contract", "reassoc", "nsz"})  # not "nnan": a trajectory may run away, and must be refused
def kinetic(couplings: Couplings, momenta: Array, shape: Shape, work: Any) -> float:
    """sum p^2 / 2."""
    total = 0.0
    for k in range(momenta.size):
        total += momenta[k] * momenta[k]
    return 0.5 * total


@with_default()
def store(couplings: Couplings, end: Array, x: Array) -> None:
    """x = the accepted end of a trajectory, wrapped into the range of its variables."""
    for k in range(x.size):  # x[:] = end takes seconds to compile, for its message about unequal shapes
        x[k] = end[k]


def store_wrapped(couplings: Couplings, end: Array, x: Array) -> None:
    """The body of `store` for angles, which are kept in [-pi, pi)."""
    for k in range(x.size):
        x[k] = wrap(end[k])


@with_default()
def charge(couplings: Couplings, x: Array, shape: Shape, work: Any) -> float:
    """What the bias depends on. Called after `action` of the same x, whose results it may find in `work`."""
    return 0.0


@with_default()
def bias(couplings: Couplings, charge: float) -> float:
    """V of the target exp(-S(x) - V(charge(x))); its force belongs to `kick`."""
    return 0.0


@required
def variable(couplings: Couplings, x: Array, shape: Shape, work: Any) -> float:
    """A collective variable s(x); its couplings are what it has for parameters, and `work` is its own."""
    raise NotImplementedError


@required
def pull(couplings: Couplings, x: Array, momenta: Array, scale: float, shape: Shape, work: Any) -> None:
    """momenta += scale * ds/dx, in place. Called after `variable` of the same x, whose results may be in `work`."""
    raise NotImplementedError


@with_default()
def of_chain(couplings: Couplings, b: int) -> Couplings:
    """The couplings of chain b, of the same class, where chains differ."""
    return couplings
