"""Local updates of phi^4 theory: sequential sweeps of chains (B, *lattice_shape), parallel over the chains.

S = sum_x [-2 hop phi(x) sum_mu phi(x+mu) + quad phi^2 + quart phi^4]. With b = 2 hop (sum of the 2 D neighbours) the
conditional density of one site is exp(b phi - quad phi^2 - quart phi^4). Along an axis of extent 2 the same site is a
neighbour twice.
"""

from functools import cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.random import fill_normals, fill_uniforms
from lattice_flows.kernels.sites import Sites, neighbour_table
from lattice_flows.theories.phi4.kernels.quartic import envelope, propose, reflection_centre, solutions

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@cache
def _order(shape: tuple[int, ...], backwards: bool) -> Sites:
    """The order of a sweep: even sites first. Their updates do not wait for each other in the processor's pipeline."""
    order = np.argsort(np.indices(shape).sum(axis=0).ravel() % 2, kind="stable").astype(np.int32)
    return np.ascontiguousarray(order[::-1]) if backwards else order


@njit(fastmath={"contract"}, forceinline=True)
def _field(x: Array, table: Sites, site: int, hop: float) -> float:
    """b = 2 hop (sum of the neighbours)."""
    total = 0.0
    for j in range(table.shape[1]):
        total += x[table[site, j]]
    return 2.0 * hop * total


@njit(fastmath={"contract"})
def _refill(stream: Streams, normals: Array, logs: Array, logits: Array) -> None:
    """Fresh deviates: standard normals, log u, log u/(1 - u)."""
    fill_normals(stream, normals)
    fill_uniforms(stream, logs)
    fill_uniforms(stream, logits)
    for k in range(logs.size):
        logs[k] = fast_log(logs[k])
    for k in range(logits.size):
        logits[k] = fast_log(logits[k]) - fast_log(1.0 - logits[k])


@njit(fastmath={"contract"}, error_model="numpy")
def _heatbath(
    x: Array,
    order: Sites,
    table: Sites,
    stream: Streams,
    hop: float,
    quad: float,
    quart: float,
    scale: float,
    solved: Array,
) -> int:
    """One sweep of one chain, x (V,) in place; returns the number of proposals."""
    # More deviates than a quarter of the lattice at a time would be thrown away at the end of the sweep.
    n = x.size // 4 + 8
    normals, logs, logits = np.empty(n), np.empty(n), np.empty(n)
    used, n_proposals = n, 0
    for site in order:
        b = _field(x, table, site, hop)
        gaussians = envelope(abs(b), quad, quart, scale, solved)
        while True:
            if used == n:
                _refill(stream, normals, logs, logits)
                used = 0
            phi, cost = propose(gaussians, quart, normals[used], logits[used])
            used += 1
            n_proposals += 1
            if not logs[used - 1] > -cost:  # a field that is not a number stays one instead of turning here for ever
                break
        x[site] = phi if b >= 0.0 else -phi
    return n_proposals


@kernel(parallel=True)
def _heatbath_sweeps(
    fields: Array,
    order: Sites,
    table: Sites,
    streams: Streams,
    hop: float,
    quad: float,
    quart: float,
    scale: float,
    solved: Array,
    n_sweeps: int,
) -> NDArray[np.int64]:
    n_proposals = np.zeros(len(fields), dtype=np.int64)
    for b in prange(len(fields)):
        for _ in range(n_sweeps):
            n_proposals[b] += _heatbath(fields[b], order, table, streams[b], hop, quad, quart, scale, solved)
    return n_proposals


def heatbath(
    phi: Array, streams: Streams, hop: float, quad: float, quart: float, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams]:
    """n_sweeps exact draws of every site from its conditional density: the new fields and streams.

    `backwards` goes through the sites in the opposite order, as in all sweeps here.

    phi (B, *lattice_shape) and streams (B, 2) are left as they are. Raises ValueError for an extent below 2, for
    quart < 0, and for quart = 0 without quad > 0.
    """
    new, streams, _ = _counted_heatbath(phi, streams, hop, quad, quart, n_sweeps, backwards)
    return new, streams


def _counted_heatbath(
    phi: Array, streams: Streams, hop: float, quad: float, quart: float, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams, NDArray[np.int64]]:
    """`heatbath`, and the number of proposals that it took (B,)."""
    fields, streams = _flat(phi), streams.copy()
    sites = _order(phi.shape[1:], backwards), neighbour_table(phi.shape[1:])
    scale, solved = solutions(float(quad), float(quart))
    args = float(hop), float(quad), float(quart), scale, solved
    n_proposals = _heatbath_sweeps(fields, *sites, streams, *args, n_sweeps)
    return fields.reshape(phi.shape), streams, n_proposals


def _flat(phi: Array) -> Array:
    """A copy (B, V)."""
    return np.array(phi, dtype=np.float64, order="C").reshape(len(phi), -1)


@njit(fastmath={"contract"}, forceinline=True)
def _accepts(old: float, new: float, b: float, quad: float, quart: float, log_u: float) -> bool:
    """The Metropolis test of one site."""
    start, end = old * old, new * new
    return log_u < quad * (start - end) + quart * (start * start - end * end) + b * (new - old)


@njit(fastmath={"contract"})
def _log_uniforms(stream: Streams, out: Array) -> None:
    fill_uniforms(stream, out)
    for k in range(out.size):
        out[k] = fast_log(out[k])


@kernel(parallel=True)
def _metropolis(
    fields: Array,
    order: Sites,
    table: Sites,
    streams: Streams,
    hop: float,
    quad: float,
    quart: float,
    width: float,
    n_sweeps: int,
) -> Array:
    n, v = fields.shape
    accepted = np.zeros(n)
    for c in prange(n):
        x = fields[c]
        moves, logs = np.empty(v), np.empty(v)
        n_accepted = 0
        for _ in range(n_sweeps):
            fill_uniforms(streams[c], moves)
            _log_uniforms(streams[c], logs)
            for k in range(v):
                moves[k] = width * (2.0 * moves[k] - 1.0)
            for k in range(v):
                site = order[k]
                new = x[site] + moves[k]
                accept = _accepts(x[site], new, _field(x, table, site, hop), quad, quart, logs[k])
                x[site] = new if accept else x[site]
                n_accepted += accept
        accepted[c] = n_accepted / (n_sweeps * v)
    return accepted


def metropolis(
    phi: Array,
    streams: Streams,
    hop: float,
    quad: float,
    quart: float,
    width: float,
    n_sweeps: int,
    backwards: bool = False,
) -> tuple[Array, Streams, Array]:
    """n_sweeps Metropolis updates of every site, phi' = phi + uniform(-width, width).

    phi (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones and the accepted fraction
    (B,). Raises ValueError for an extent below 2.
    """
    fields, streams = _flat(phi), streams.copy()
    sites = _order(phi.shape[1:], backwards), neighbour_table(phi.shape[1:])
    accepted = _metropolis(fields, *sites, streams, float(hop), float(quad), float(quart), float(width), n_sweeps)
    return fields.reshape(phi.shape), streams, accepted


@kernel(parallel=True, error_model="numpy")
def _overrelaxation(
    fields: Array,
    order: Sites,
    table: Sites,
    streams: Streams,
    hop: float,
    quad: float,
    quart: float,
    scale: float,
    solved: Array,
    n_sweeps: int,
) -> Array:
    n, v = fields.shape
    accepted = np.zeros(n)
    for c in prange(n):
        x, logs = fields[c], np.empty(v)
        n_accepted = 0
        for _ in range(n_sweeps):
            _log_uniforms(streams[c], logs)
            for k in range(v):
                site = order[k]
                b = _field(x, table, site, hop)
                centre = reflection_centre(abs(b), quad, quart, scale, solved)
                new = 2.0 * (centre if b >= 0.0 else -centre) - x[site]
                accept = _accepts(x[site], new, b, quad, quart, logs[k])
                x[site] = new if accept else x[site]
                n_accepted += accept
        accepted[c] = n_accepted / (n_sweeps * v)
    return accepted


def overrelaxation(
    phi: Array, streams: Streams, hop: float, quad: float, quart: float, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams, Array]:
    """n_sweeps reflections of every site, phi' = 2 c - phi with a Metropolis test.

    c is the mean of the heat bath's Gaussian, of the larger one where it has two: near the bottom of the well. It
    depends on the neighbours alone, so the move is its own inverse. At quart = 0 every reflection leaves S as it is.
    Alone it is not ergodic.

    phi (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones and the accepted fraction
    (B,). Raises ValueError as `heatbath` does.
    """
    fields, streams = _flat(phi), streams.copy()
    sites = _order(phi.shape[1:], backwards), neighbour_table(phi.shape[1:])
    scale, solved = solutions(float(quad), float(quart))
    args = float(hop), float(quad), float(quart), scale, solved
    accepted = _overrelaxation(fields, *sites, streams, *args, n_sweeps)
    return fields.reshape(phi.shape), streams, accepted
