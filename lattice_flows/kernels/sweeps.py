"""Sweeps of local updates over any numbers on sites, parallel over the chains.

Sites of one colour have no neighbours among themselves. They are updated together, in long loops that vectorise; for
the time of a call a field is held in the order of its colours, so that such sites lie side by side.

An update is the class of its parameters, a NamedTuple, with a body for `renew`. A theory is that of its couplings.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.by_couplings import compiled_for, implements, required, with_default
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Stream
from lattice_flows.kernels.random import fill_uniforms
from lattice_flows.kernels.sites import Sites, colours, neighbour_table

Streams = NDArray[np.uint64]


@required
def renew(update: Couplings, couplings: Couplings, x: Array, near: Array, stream: Stream) -> int:
    """Update sites of one colour, x (n,) in place, with near (2 D, n) at their neighbours; returns how many changed."""
    raise NotImplementedError


class Metropolis(NamedTuple):
    """Changes uniform in (-width, width), with a test of each. A theory has bodies for `change` and `standard`."""

    width: float


@required
def change(couplings: Couplings, near: Array, k: int, old: float, new: float) -> float:
    """By how much S grows when the k-th site, with near[:, k] at its neighbours, goes from the value old to new."""
    raise NotImplementedError


@with_default()
def standard(couplings: Couplings, x: float) -> float:
    """The standard representative of x."""
    return x


@implements(renew, Metropolis, fastmath={"contract"})
def _metropolis(update: Metropolis, couplings: Couplings, x: Array, near: Array, stream: Stream) -> int:
    n, n_accepted = x.size, 0
    uniforms = np.empty(2 * n)
    fill_uniforms(stream, uniforms)
    moves, tests = uniforms[:n], uniforms[n:]
    for k in range(n):
        new = x[k] + update.width * (2.0 * moves[k] - 1.0)
        accept = fast_log(tests[k]) < -change(couplings, near, k, x[k], new)
        x[k] = standard(couplings, new) if accept else x[k]
        n_accepted += accept
    return n_accepted


def sweeps(
    update: Couplings, couplings: Couplings, x: Array, streams: Streams, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams, Array]:
    """n_sweeps updates of every site; `backwards` goes through the colours in the opposite order.

    x (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones and the fraction of the updates
    that `renew` counts, (B,). Raises ValueError for an extent below 2.
    """
    order, ends, near = _by_colour(x.shape[1:], backwards)
    fields, streams = np.ascontiguousarray(x.reshape(len(x), -1)[:, order]), streams.copy()
    run = compiled_for(_sweeps, type(update), type(couplings))
    accepted = run(update, couplings, fields, ends, near, streams, n_sweeps)
    new = np.empty_like(fields)
    new[:, order] = fields
    return new.reshape(x.shape), streams, accepted


@cache
def _by_colour(shape: tuple[int, ...], backwards: bool) -> tuple[Sites, Sites, Sites]:
    """The sites in the order of their colours (V,), where each colour ends, and the places of the neighbours (2 D, V).

    A place is a position in this order.
    """
    colour = colours(shape)
    colour = colour.max() - colour if backwards else colour
    order = np.argsort(colour, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(colour)).astype(np.int32)
    place = np.empty_like(order)
    place[order] = np.arange(math.prod(shape), dtype=np.int32)
    return order, ends, np.ascontiguousarray(place[neighbour_table(shape)[order]].T)


def _sweeps(
    update: Couplings,
    couplings: Couplings,
    fields: Array,
    ends: Sites,
    near: Sites,
    streams: Streams,
    n_sweeps: int,
) -> NDArray[np.float64]:
    n, v = fields.shape
    accepted = np.zeros(n)
    for b in prange(n):
        x, room = fields[b], np.empty(near.size)
        n_accepted = 0
        for _ in range(n_sweeps):
            start = 0
            for end in ends:
                values = room[: near.shape[0] * (end - start)].reshape(near.shape[0], end - start)
                _gather(x, near[:, start:end], values)
                n_accepted += renew(update, couplings, x[start:end], values, streams[b])
                start = end
        accepted[b] = n_accepted / (n_sweeps * v)
    return accepted


@njit
def _gather(x: Array, places: Sites, out: Array) -> None:
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[j, k] = x[places[j, k]]
