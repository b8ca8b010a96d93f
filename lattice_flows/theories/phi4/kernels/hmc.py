"""Hybrid Monte Carlo of lattice phi^4 fields (B, *lattice_shape) in any dimension, parallel over the chains.

The couplings (hop, quad, quart) are those of `kernels.fields`. A molecular-dynamics step is drift d0, kick k0, drift
d1, ..., kick k_last, drift d_last, in units of step_size.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.molecular_dynamics import drift, kinetic
from lattice_flows.kernels.random import fill_normals, uniform_pair
from lattice_flows.theories.phi4.kernels.fields import action_of_neighbours, flat, neighbours

Array = NDArray[np.float64]
Shape = NDArray[np.int64]
Streams = NDArray[np.uint64]


@njit(fastmath={"contract"})
def _kick_and_drift(
    y: Array, near: Array, hop: float, quad: float, quart: float, kick: float, time: float, p: Array
) -> None:
    """p += kick * force(y), y += time * p, in place and in one pass over the memory."""
    a, b, c = 2.0 * kick * hop, 2.0 * kick * quad, 4.0 * kick * quart
    for k in range(y.size):
        p[k] += a * near[k] - y[k] * (b + c * y[k] * y[k])
        y[k] += time * p[k]


@njit(fastmath={"contract"})
def _integrate(
    y: Array,
    momenta: Array,
    shape: Shape,
    hop: float,
    quad: float,
    quart: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    near: Array,
) -> None:
    """n_md_steps steps of y and the momenta (flat, V), in place; `near` is scratch (V)."""
    drift(y, momenta, drifts[0] * step_size)
    for step in range(n_md_steps):
        for k in range(kicks.size):
            time = drifts[k + 1]
            if k == kicks.size - 1 and step < n_md_steps - 1:
                time += drifts[0]  # of the next step
            neighbours(y, shape, near)
            _kick_and_drift(y, near, hop, quad, quart, kicks[k] * step_size, time * step_size, momenta)


@kernel(parallel=True)
def _ends(
    phi: Array,
    momenta: Array,
    shape: Shape,
    hop: float,
    quad: float,
    quart: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
) -> tuple[Array, Array]:
    phi, momenta = phi.copy(), momenta.copy()
    for b in prange(phi.shape[0]):
        near = np.empty(phi.shape[1])
        _integrate(phi[b], momenta[b], shape, hop, quad, quart, drifts, kicks, step_size, n_md_steps, near)
    return phi, momenta


@kernel(parallel=True)
def _trajectories(
    phi: Array,
    actions: Array,
    streams: Streams,
    shape: Shape,
    hop: float,
    quad: float,
    quart: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
) -> tuple[Array, Array, Streams, Array, Array]:
    n, v = phi.shape
    phi, actions, streams = phi.copy(), actions.copy(), streams.copy()
    accepted, delta_h = np.zeros(n), np.zeros(n)
    for b in prange(n):
        x = phi[b]
        y, momenta, near = np.empty(v), np.empty(v), np.empty(v)
        n_accepted = 0
        for _ in range(n_updates):
            fill_normals(streams[b], momenta)
            start = kinetic(momenta)
            y[:] = x
            _integrate(y, momenta, shape, hop, quad, quart, drifts, kicks, step_size, n_md_steps, near)
            neighbours(y, shape, near)
            new_action = action_of_neighbours(y, near, hop, quad, quart)
            delta_h[b] = new_action - actions[b] + kinetic(momenta) - start
            if fast_log(uniform_pair(streams[b])[0]) < -delta_h[b]:  # False for a delta_h that is not a number
                n_accepted += 1
                actions[b] = new_action
                x[:] = y
        accepted[b] = n_accepted / n_updates
    return phi, actions, streams, accepted, delta_h


def integrate(
    phi: Array,
    momenta: Array,
    hop: float,
    quad: float,
    quart: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta (shaped like phi): (phi, momenta), not accepted or refused."""
    x, shape = flat(phi)
    p, _ = flat(momenta)
    end, end_momenta = _ends(x, p, shape, hop, quad, quart, drifts, kicks, step_size, n_md_steps)
    return end.reshape(phi.shape), end_momenta.reshape(phi.shape)


def trajectories(
    phi: Array,
    actions: Array,
    streams: Streams,
    hop: float,
    quad: float,
    quart: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
) -> tuple[Array, Array, Streams, Array, Array]:
    """n_updates trajectories of every chain, each with fresh momenta and a Metropolis test.

    Returns the new phi, actions (B,), streams, the accepted fraction (B,) and delta_h of the last trajectory (B,). The
    arguments are left as they are.
    """
    x, shape = flat(phi)
    x, *rest = _trajectories(
        x, actions, streams, shape, hop, quad, quart, drifts, kicks, step_size, n_md_steps, n_updates
    )
    return x.reshape(phi.shape), *rest
