"""Hybrid Monte Carlo of 2D U(1) with 1x2 loops on a batch of chains (B, 2, L0, L1), parallel over the chains.

S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R), see `kernels.fields`. An integrator comes as `drifts`
(k + 1,) and `kicks` (k,) in units of step_size: drift, kick, ..., kick, drift.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.theories.u1.kernels.link_dynamics import integrate_links, run_chain
from lattice_flows.theories.u1_improved.kernels.fields import N_SCRATCH

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@kernel(parallel=True)
def integrate(
    links: Array,
    momenta: Array,
    plain: float,
    rectangle: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta: (links, momenta), neither wrapped nor accepted."""
    n, _, l0, l1 = links.shape
    end, end_momenta = np.empty_like(links), momenta.copy()
    for b in prange(n):
        x, y, pi = links[b].reshape(-1), end[b].reshape(-1), end_momenta[b].reshape(-1)
        p, scratch = np.empty(l0 * l1), np.empty(N_SCRATCH * l0 * l1)
        integrate_links(x, pi, l1, plain, rectangle, drifts, kicks, step_size, n_md_steps, y, p, scratch)
    return end, end_momenta


@kernel(parallel=True)
def trajectories(
    links: Array,
    actions: Array,
    streams: Streams,
    plain: float,
    rectangle: float,
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
    n, _, _, l1 = links.shape
    links, actions, streams = links.copy(), actions.copy(), streams.copy()
    accepted, delta_h = np.zeros(n), np.zeros(n)
    for b in prange(n):
        x, stream = links[b].reshape(-1), streams[b]
        actions[b], accepted[b], delta_h[b] = run_chain(
            x, actions[b], stream, l1, plain, rectangle, drifts, kicks, step_size, n_md_steps, n_updates
        )
    return links, actions, streams, accepted, delta_h
