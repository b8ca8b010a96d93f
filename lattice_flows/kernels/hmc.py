"""Hybrid Monte Carlo (Duane et al. 1987) of any compiled theory, parallel over the chains.

A theory is a NamedTuple of its couplings and the bodies of some functions of `kernels.molecular_dynamics` for it, two
at least. The 2D XY model, S = -beta sum_<nm> cos(x_n - x_m), would be

    class XY(NamedTuple):
        beta: float

    @implements(action, XY)
    def _action(couplings, x, shape, work): ...                 # S of the angles x, flat, of a lattice of this shape

    @implements(kick, XY)
    def _kick(couplings, x, momenta, time, shape, work): ...    # momenta -= time * dS/dx; `work` is scratch, (V,)

    @implements(store, XY)
    def _store(couplings, end, x): ...                          # x = wrap(end), since angles are kept in [-pi, pi)

and `trajectories(XY(1.1), x, ...)` then compiles them into the loop below: once for all later processes where this
stands in a module, and in each process where it stands in a script or a notebook (`by_couplings.compiled_for`).
Couplings are floats, and arrays where `of_chain` hands each chain its own.

Here x is a batch (B, *event), and an integrator comes as `drifts` (k + 1,) and `kicks` (k,) in units of the step size:
drift, kick, ..., kick, drift. step_sizes (B,) are those of the chains. With a jitter every trajectory draws the size of
its steps, uniform in 1 - jitter to 1 + jitter times that of its chain: a mode whose half period a fixed length meets
would keep its energy for ever. Arguments are left as they are.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels import molecular_dynamics as md
from lattice_flows.kernels.borrowed import borrowed
from lattice_flows.kernels.by_couplings import compiled_for
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Shape, Stream
from lattice_flows.kernels.random import uniform_pair

Streams = NDArray[np.uint64]

_APART = 256  # numbers, half of 4096 bytes: at a distance near a multiple of that a load waits for stores to the other


def action(couplings: Couplings, x: Array) -> Array:
    """S of each configuration, without a bias, (B,)."""
    return compiled_for(_actions, type(couplings))(couplings, *flat(x))


def force(couplings: Couplings, x: Array) -> Array:
    """-dS/dx, a bias included, shaped like x."""
    return compiled_for(_forces, type(couplings))(couplings, *flat(x)).reshape(x.shape)


def integrate(
    couplings: Couplings, x: Array, momenta: Array, drifts: Array, kicks: Array, step_sizes: Array, n_md_steps: int
) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta, shaped like x: (x, momenta), neither wrapped nor accepted."""
    integrator = drifts, kicks, step_sizes, n_md_steps
    end, p = compiled_for(_ends, type(couplings))(couplings, *flat(x), flat(momenta)[0], *integrator)
    return end.reshape(x.shape), p.reshape(x.shape)


def trajectories(
    couplings: Couplings,
    x: Array,
    actions: Array,
    streams: Streams,
    drifts: Array,
    kicks: Array,
    step_sizes: Array,
    n_md_steps: int,
    n_updates: int,
    jitter: float = 0.0,
) -> tuple[Array, Array, Streams, Array, Array]:
    """n_updates trajectories of every chain, each with fresh momenta and a Metropolis test.

    Returns the new x (wrapped), actions (B,), streams, the accepted fraction (B,) and delta_h of the last trajectory
    (B,).
    """
    x, actions, _, *rest = biased_trajectories(
        couplings, x, actions, np.zeros(len(x)), streams, drifts, kicks, step_sizes, n_md_steps, n_updates, jitter
    )
    return x, actions, *rest  # type: ignore[return-value]


def biased_trajectories(
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
    """As `trajectories`, of a theory with a bias V(charge).

    actions (B,) are the unbiased S and charges (B,) the charges of x. Returns the new x (wrapped), actions, charges,
    streams, the accepted fraction (B,) and delta_h of the last trajectory (B,), the bias included.
    """
    settings = drifts, kicks, step_sizes, n_md_steps, n_updates, float(jitter)
    run = compiled_for(_trajectories, type(couplings))
    new, *rest = run(couplings, *flat(x), actions, charges, streams, *settings)
    return new.reshape(x.shape), *rest  # type: ignore[return-value]


def flat(x: Array) -> tuple[Array, Shape]:
    """x as (B, size), and the shape of a configuration."""
    return np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:])), _as_array(x.shape[1:])


@cache  # it takes as long as a short trajectory
def _as_array(shape: tuple[int, ...]) -> Shape:
    return np.array(shape, dtype=np.int64)


@njit(fastmath={"contract"})
def _integrate(
    couplings: Couplings,
    x: Array,
    momenta: Array,
    shape: Shape,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    work: Any,
) -> None:
    """n_md_steps steps of x and the momenta, in place."""
    x, momenta, work = borrowed(x), borrowed(momenta), borrowed(work)
    last = kicks.size - 1
    md.drift(couplings, x, momenta, drifts[0] * step_size, shape, work)
    for step in range(n_md_steps):
        for k in range(kicks.size):
            merged = drifts[0] if k == last and step < n_md_steps - 1 else 0.0  # of the next step
            drift_time = (drifts[k + 1] + merged) * step_size
            md.kick_and_drift(couplings, x, momenta, kicks[k] * step_size, drift_time, shape, work)


@njit
def run_chain(
    couplings: Couplings,
    x: Array,
    shape: Shape,
    action: float,
    charge: float,
    stream: Stream,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
    jitter: float,
) -> tuple[float, float, float, float]:
    """n_updates trajectories of the chain at x; x and the stream are updated in place.

    Returns the new action and charge, the accepted fraction, and delta_h of the last trajectory.
    """
    both = np.empty(2 * x.size + _APART)
    end, momenta = both[: x.size], both[x.size + _APART :]
    work = md.workspace(couplings, end, shape)
    potential = md.bias(couplings, charge)
    n_accepted, delta_h = 0, 0.0
    for _ in range(n_updates):
        size = step_size
        if jitter > 0.0:
            size *= (1.0 - jitter) + 2.0 * jitter * uniform_pair(stream)[0]
        md.refresh(couplings, momenta, stream, shape, work)
        start = md.kinetic(couplings, momenta, shape, work)
        for k in range(x.size):
            end[k] = x[k]
        _integrate(couplings, end, momenta, shape, drifts, kicks, size, n_md_steps, work)
        new_action = md.action(couplings, end, shape, work)
        new_charge = md.charge(couplings, end, shape, work)
        new_potential = md.bias(couplings, new_charge)
        delta_h = new_action - action + new_potential - potential + md.kinetic(couplings, momenta, shape, work) - start
        if fast_log(uniform_pair(stream)[0]) < -delta_h:  # False for a delta_h that is not a number
            n_accepted += 1
            action, charge, potential = new_action, new_charge, new_potential
            md.store(couplings, end, x)
    return action, charge, n_accepted / n_updates, delta_h


def _trajectories(
    couplings: Couplings,
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
    for b in prange(n):
        own, size = md.of_chain(couplings, b), step_sizes[b]
        actions[b], charges[b], accepted[b], delta_h[b] = run_chain(
            own, x[b], shape, actions[b], charges[b], streams[b], drifts, kicks, size, n_md_steps, n_updates, jitter
        )
    return x, actions, charges, streams, accepted, delta_h


def _ends(
    couplings: Couplings,
    x: Array,
    shape: Shape,
    momenta: Array,
    drifts: Array,
    kicks: Array,
    step_sizes: Array,
    n_md_steps: int,
) -> tuple[Array, Array]:
    x, momenta = x.copy(), momenta.copy()
    for b in prange(x.shape[0]):
        own, end, p = md.of_chain(couplings, b), x[b], momenta[b]
        work = md.workspace(own, end, shape)
        _integrate(own, end, p, shape, drifts, kicks, step_sizes[b], n_md_steps, work)
    return x, momenta


def _actions(couplings: Couplings, x: Array, shape: Shape) -> Array:
    out = np.empty(x.shape[0])
    for b in prange(x.shape[0]):
        own = md.of_chain(couplings, b)
        work = md.workspace(own, x[b], shape)
        out[b] = md.action(own, x[b], shape, work)
    return out


def _forces(couplings: Couplings, x: Array, shape: Shape) -> Array:
    out = np.zeros_like(x)
    for b in prange(x.shape[0]):
        own = md.of_chain(couplings, b)
        work = md.workspace(own, x[b], shape)
        md.kick(own, x[b], out[b], 1.0, shape, work)
    return out
