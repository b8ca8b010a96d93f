"""Hybrid Monte Carlo of the 2D U(1) Wilson action on a batch of chains (B, 2, L0, L1), parallel over the chains."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.elementary import fast_log, wrap
from lattice_flows.kernels.random import fill_normals, uniform_pair
from lattice_flows.kernels.u1 import action_of_plaquettes, add_force, plaquettes, to_scaled_sines

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@njit(fastmath={"contract"})
def _drift(x: Array, momenta: Array, time: float) -> None:
    for k in range(x.size):
        x[k] += time * momenta[k]


@njit(fastmath=True)
def _kinetic(momenta: Array) -> float:
    total = 0.0
    for k in range(momenta.size):
        total += momenta[k] * momenta[k]
    return 0.5 * total


@njit(fastmath={"contract"})
def _leapfrog(
    x: Array, momenta: Array, l1: int, beta: float, step_size: float, n_md_steps: int, y: Array, sines: Array
) -> None:
    """Position-first leapfrog: x (flat, 2V) -> y; the momenta are updated in place; `sines` is scratch (V)."""
    v = sines.size
    y[:] = x
    _drift(y, momenta, 0.5 * step_size)
    for step in range(n_md_steps):
        plaquettes(y[:v], y[v:], l1, sines)
        to_scaled_sines(sines, step_size * beta)
        add_force(sines, l1, momenta[:v], momenta[v:])
        _drift(y, momenta, step_size if step < n_md_steps - 1 else 0.5 * step_size)


@njit(parallel=True, cache=True)
def leapfrog(links: Array, momenta: Array, beta: float, step_size: float, n_md_steps: int) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta: (links, momenta), neither wrapped nor accepted."""
    n, _, l0, l1 = links.shape
    end, end_momenta = np.empty_like(links), momenta.copy()
    for b in prange(n):
        sines = np.empty(l0 * l1)
        x, y, p = links[b].reshape(-1), end[b].reshape(-1), end_momenta[b].reshape(-1)
        _leapfrog(x, p, l1, beta, step_size, n_md_steps, y, sines)
    return end, end_momenta


@njit(parallel=True, cache=True)
def trajectories(
    links: Array, actions: Array, streams: Streams, beta: float, step_size: float, n_md_steps: int, n_updates: int
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
            start = _kinetic(momenta)
            _leapfrog(x, momenta, l1, beta, step_size, n_md_steps, y, p)
            plaquettes(y[:v], y[v:], l1, p)
            new_action = action_of_plaquettes(p, beta)
            delta_h[b] = new_action - actions[b] + _kinetic(momenta) - start
            if fast_log(uniform_pair(streams[b])[0]) < -delta_h[b]:
                n_accepted += 1
                actions[b] = new_action
                for k in range(2 * v):
                    x[k] = wrap(y[k])
        accepted[b] = n_accepted / n_updates
    return links, actions, streams, accepted, delta_h
