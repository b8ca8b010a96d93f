"""Hybrid Monte Carlo of the 2D U(1) Wilson action on a batch of chains (B, 2, L0, L1), parallel over the chains.

An integrator comes as `drifts` (k + 1,) and `kicks` (k,) in units of step_size: drift, kick, ..., kick, drift.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.elementary import fast_log, wrap
from lattice_flows.kernels.molecular_dynamics import drift, kinetic
from lattice_flows.kernels.random import fill_normals, uniform_pair
from lattice_flows.kernels.u1 import action_of_plaquettes, add_force, plaquettes, to_scaled_sines

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@njit(fastmath={"contract"})
def _integrate(
    x: Array,
    momenta: Array,
    l1: int,
    beta: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    y: Array,
    sines: Array,
) -> None:
    """x (flat, 2V) -> y; the momenta are updated in place; `sines` is scratch (V)."""
    v, last = sines.size, kicks.size - 1
    y0, y1, p0, p1 = y[:v], y[v:], momenta[:v], momenta[v:]  # once: making a view costs as much as a short loop
    y[:] = x
    drift(y, momenta, drifts[0] * step_size)
    for step in range(n_md_steps):
        for k in range(kicks.size):
            plaquettes(y0, y1, l1, sines)
            to_scaled_sines(sines, kicks[k] * step_size * beta)
            add_force(sines, l1, p0, p1)
            merged = drifts[0] if k == last and step < n_md_steps - 1 else 0.0
            drift(y, momenta, (drifts[k + 1] + merged) * step_size)


@njit(parallel=True, cache=True)
def integrate(
    links: Array, momenta: Array, beta: float, drifts: Array, kicks: Array, step_size: float, n_md_steps: int
) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta: (links, momenta), neither wrapped nor accepted."""
    n, _, l0, l1 = links.shape
    end, end_momenta = np.empty_like(links), momenta.copy()
    for b in prange(n):
        sines = np.empty(l0 * l1)
        x, y, p = links[b].reshape(-1), end[b].reshape(-1), end_momenta[b].reshape(-1)
        _integrate(x, p, l1, beta, drifts, kicks, step_size, n_md_steps, y, sines)
    return end, end_momenta


@njit(parallel=True, cache=True)
def trajectories(
    links: Array,
    actions: Array,
    streams: Streams,
    beta: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
) -> tuple[Array, Array, Streams, Array, Array]:
    """n_updates trajectories of every chain, each with fresh momenta and a Metropolis test.

    Returns the new links (wrapped), actions (B,), streams, the accepted fraction (B,) and delta_h of the last
    trajectory (B,). The arguments are left as they are.
    """
    n, _, l0, l1 = links.shape
    v = l0 * l1
    links, actions, streams = links.copy(), actions.copy(), streams.copy()
    accepted, delta_h = np.zeros(n), np.zeros(n)
    for b in prange(n):
        x = links[b].reshape(-1)
        y, momenta, p = np.empty(2 * v), np.empty(2 * v), np.empty(v)
        n_accepted = 0
        for _ in range(n_updates):
            fill_normals(streams[b], momenta)
            start = kinetic(momenta)
            _integrate(x, momenta, l1, beta, drifts, kicks, step_size, n_md_steps, y, p)
            plaquettes(y[:v], y[v:], l1, p)
            new_action = action_of_plaquettes(p, beta)
            delta_h[b] = new_action - actions[b] + kinetic(momenta) - start
            if fast_log(uniform_pair(streams[b])[0]) < -delta_h[b]:
                n_accepted += 1
                actions[b] = new_action
                for k in range(2 * v):
                    x[k] = wrap(y[k])
        accepted[b] = n_accepted / n_updates
    return links, actions, streams, accepted, delta_h
