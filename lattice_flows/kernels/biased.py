"""The compiled HMC of any theory with a bias V(s) of any collective variable: the target exp(-S(x) - V(s(x))).

It computes with the bodies of the theory's couplings, and with those of the variable's: of `variable` and `pull` of
`molecular_dynamics`. V is on a grid, see `grid_bias`.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from lattice_flows.kernels import hmc
from lattice_flows.kernels import molecular_dynamics as md
from lattice_flows.kernels.by_couplings import compiled_for, implements
from lattice_flows.kernels.grid_bias import potential, slope
from lattice_flows.kernels.hmc import Streams, run_chain
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Shape, Stream


class Biased(NamedTuple):
    """The couplings of the theory and of the variable, and the bias of each chain (B, n_grid), of one (n_grid,), on a
    grid from centre - reach to centre + reach."""

    base: Couplings
    variable: Couplings
    bias: Array
    reach: float
    centre: float


def trajectories(
    couplings: Couplings,
    x: Array,
    actions: Array,
    charges: Array,
    streams: Streams,
    drifts: Array,
    kicks: Array,
    step_sizes: Array,
    n_md_steps: int,
    n_updates: int,
    jitter: float = 0.0,
) -> tuple[Array, Array, Array, Streams, Array, Array]:
    """`hmc.biased_trajectories` of a theory whose couplings have their own bias, or of any theory: `Biased`."""
    if not isinstance(couplings, Biased):
        return hmc.biased_trajectories(
            couplings, x, actions, charges, streams, drifts, kicks, step_sizes, n_md_steps, n_updates, jitter
        )
    run = compiled_for(_trajectories, type(couplings.base), type(couplings.variable))
    chains, settings = (actions, charges, streams), (drifts, kicks, step_sizes, n_md_steps, n_updates, float(jitter))
    new, *rest = run(*couplings, *hmc.flat(x), *chains, *settings)
    return new.reshape(x.shape), *rest  # type: ignore[return-value]


def _trajectories(
    base: Couplings,
    variable: Couplings,
    bias: Array,
    reach: float,
    centre: float,
    x: Array,
    shape: Shape,
    actions: Array,
    charges: Array,
    streams: Streams,
    drifts: Array,
    kicks: Array,
    step_sizes: Array,
    n_md_steps: int,
    n_updates: int,
    jitter: float,
) -> tuple[Array, Array, Array, Streams, Array, Array]:
    n = x.shape[0]
    x, actions, charges, streams = x.copy(), actions.copy(), charges.copy(), streams.copy()
    accepted, delta_h = np.zeros(n), np.zeros(n)
    for b in prange(n):  # which cannot take couplings inside of others
        own, size = Biased(md.of_chain(base, b), variable, bias[b], reach, centre), step_sizes[b]
        actions[b], charges[b], accepted[b], delta_h[b] = run_chain(
            own, x[b], shape, actions[b], charges[b], streams[b], drifts, kicks, size, n_md_steps, n_updates, jitter
        )
    return x, actions, charges, streams, accepted, delta_h


@implements(md.workspace, Biased)
def _workspace(couplings: Biased, x: Array, shape: Shape) -> Any:
    """That of the theory, and that of the variable."""
    return md.workspace(couplings.base, x, shape), md.workspace(couplings.variable, x, shape)


@implements(md.action, Biased)
def _action(couplings: Biased, x: Array, shape: Shape, work: Any) -> float:
    """S(x), without the bias."""
    return md.action(couplings.base, x, shape, work[0])


@implements(md.charge, Biased)
def _charge(couplings: Biased, x: Array, shape: Shape, work: Any) -> float:
    return md.variable(couplings.variable, x, shape, work[1])


@implements(md.bias, Biased)
def _bias(couplings: Biased, charge: float) -> float:
    return potential(couplings.bias, couplings.reach, charge - couplings.centre)


@njit
def _kick_of_bias(couplings: Biased, x: Array, momenta: Array, time: float, shape: Shape, work: Any) -> None:
    """momenta -= time * V'(s) ds/dx."""
    s = md.variable(couplings.variable, x, shape, work)
    own = slope(couplings.bias, couplings.reach, s - couplings.centre)
    md.pull(couplings.variable, x, momenta, -time * own, shape, work)


@implements(md.kick, Biased)
def _kick(couplings: Biased, x: Array, momenta: Array, time: float, shape: Shape, work: Any) -> None:
    _kick_of_bias(couplings, x, momenta, time, shape, work[1])
    md.kick(couplings.base, x, momenta, time, shape, work[0])


@implements(md.kick_and_drift, Biased)
def _kick_and_drift(
    couplings: Biased, x: Array, momenta: Array, kick_time: float, drift_time: float, shape: Shape, work: Any
) -> None:
    _kick_of_bias(couplings, x, momenta, kick_time, shape, work[1])
    md.kick_and_drift(couplings.base, x, momenta, kick_time, drift_time, shape, work[0])


@implements(md.drift, Biased)
def _drift(couplings: Biased, x: Array, momenta: Array, time: float, shape: Shape, work: Any) -> None:
    md.drift(couplings.base, x, momenta, time, shape, work[0])


@implements(md.refresh, Biased)
def _refresh(couplings: Biased, momenta: Array, stream: Stream, shape: Shape, work: Any) -> None:
    md.refresh(couplings.base, momenta, stream, shape, work[0])


@implements(md.kinetic, Biased)
def _kinetic(couplings: Biased, momenta: Array, shape: Shape, work: Any) -> float:
    return md.kinetic(couplings.base, momenta, shape, work[0])


@implements(md.store, Biased)
def _store(couplings: Biased, end: Array, x: Array) -> None:
    md.store(couplings.base, end, x)
