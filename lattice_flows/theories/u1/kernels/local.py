"""Local updates of the 2D U(1) Wilson action on a batch of chains (B, 2, L0, L1), parallel over the chains.

A link is in two plaquettes, its site's own, P(n), and the one behind it, P(n-1) for theta_0 and P(n-0) for theta_1. A
change of the link moves one of them by +delta and the other by -delta. With s half the sum of the two, which stays,
and d half their difference, the link's density is exp(2 beta cos s cos d).

Links of one direction in every second row (theta_1) or column (theta_0) have no plaquette in common. Such a class is
gathered into arrays, updated by long vector loops, and put back; an odd extent has its last row or column as a third
class. For the time of a call theta_0 is transposed, and the plaquettes are so while theta_0 is updated: then both
directions are updated by rows, with the same code. All extents must be >= 2.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import PI, fast_cos, fast_log, fast_sin, wrap
from lattice_flows.kernels.random import fill_uniforms
from lattice_flows.kernels.von_mises import fill_von_mises

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]

_BLOCK = 16  # rows whose cache lines surely do not push each other out


@njit
def _transpose(a: Array, out: Array) -> None:
    """out(j, i) = a(i, j)."""
    n0, n1 = a.shape
    for start in range(0, n0, _BLOCK):
        block = a[start : start + _BLOCK]
        for j in range(n1):
            row = out[j, start : start + _BLOCK]
            for i in range(row.size):
                row[i] = block[i, j]


@njit
def _by_rows(links: Array) -> tuple[Array, Array, Array, Array]:
    """theta_0 transposed (L1, L0), theta_1 (a view), and room for plaquettes (L0, L1) and transposed ones (L1, L0)."""
    _, l0, l1 = links.shape
    t0 = np.empty((l1, l0))
    _transpose(links[0], t0)
    return t0, links[1], np.empty((l0, l1)), np.empty((l1, l0))


@njit
def _plaquettes(t0: Array, t1: Array, p: Array, q: Array) -> None:
    """q(j, i) = P(i, j) of t0 (L1, L0), which is transposed, and t1 (L0, L1); p (L0, L1) is scratch."""
    l0, l1 = t1.shape
    for i in range(l0):
        row, above, out = t1[i], t1[i + 1 if i + 1 < l0 else 0], p[i]
        for j in range(l1):
            out[j] = above[j] - row[j]
    _transpose(p, q)
    for j in range(l1):
        row, right, out = t0[j], t0[j + 1 if j + 1 < l1 else 0], q[j]
        for i in range(l0):
            out[i] += row[i] - right[i]


@njit
def _rows_of(parity: int, n_rows: int) -> range:
    """The rows of a class: even, odd, or the last of an odd number."""
    return range(n_rows - 1, n_rows) if parity == 2 else range(parity, n_rows - n_rows % 2, 2)


@njit
def _parities(n_rows: int, backwards: bool) -> range:
    """The classes of a direction, in their order or in the opposite one."""
    n = 2 + n_rows % 2
    return range(n - 1, -1, -1) if backwards else range(0, n, 1)


@njit
def _gather(p: Array, rows: range, own: Array, behind: Array) -> int:
    """Copy the plaquettes of a class into own and behind; returns the number of its links."""
    width = p.shape[1]
    n = 0
    for i in rows:
        a, b, first, second = p[i], p[i - 1], own[n : n + width], behind[n : n + width]
        for j in range(width):
            first[j] = a[j]
        for j in range(width):
            second[j] = b[j]
        n += width
    return n


@njit(fastmath={"contract"})
def _apply(delta: Array, rows: range, sign: float, t: Array, p: Array) -> None:
    """Move the own plaquettes of a class by delta, those behind by -delta, and the links by sign * delta."""
    width = p.shape[1]
    n = 0
    for i in rows:
        change, a, b, links = delta[n : n + width], p[i], p[i - 1], t[i]
        for j in range(width):
            a[j] += change[j]
        for j in range(width):
            b[j] -= change[j]
        for j in range(width):
            links[j] = wrap(links[j] + sign * change[j])
        n += width


@njit(fastmath={"contract"}, error_model="numpy")
def _metropolis_changes(own: Array, behind: Array, uniforms: Array, beta: float, width: float) -> int:
    """Put the changes, zero where rejected, in `own`; returns the number accepted."""
    n = own.size
    n_accepted = 0
    for k in range(n):
        delta = width * (2.0 * uniforms[k] - 1.0)
        s, d = 0.5 * (own[k] + behind[k]), 0.5 * (own[k] - behind[k])
        # dS = 2 beta cos s (cos d - cos(d + delta))
        delta_s = 4.0 * beta * fast_cos(s) * fast_sin(d + 0.5 * delta) * fast_sin(0.5 * delta)
        accept = fast_log(uniforms[n + k]) < -delta_s
        own[k] = delta if accept else 0.0
        n_accepted += accept
    return n_accepted


@njit
def _metropolis_rows(
    p: Array,
    t: Array,
    sign: float,
    stream: NDArray[np.uint64],
    beta: float,
    width: float,
    scratch: Array,
    backwards: bool,
) -> int:
    """Update all links t of one direction; returns the number accepted."""
    n_accepted = 0
    for parity in _parities(p.shape[0], backwards):
        rows = _rows_of(parity, p.shape[0])
        n = _gather(p, rows, scratch[0], scratch[1])
        own, behind, uniforms = scratch[0, :n], scratch[1, :n], scratch[2:].reshape(-1)[: 2 * n]
        fill_uniforms(stream, uniforms)
        n_accepted += _metropolis_changes(own, behind, uniforms, beta, width)
        _apply(own, rows, sign, t, p)
    return n_accepted


@kernel(parallel=True)
def metropolis(
    links: Array, streams: Streams, beta: float, width: float, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams, Array]:
    """n_sweeps Metropolis sweeps with changes uniform in (-width, width); `backwards` in the opposite order.

    Returns the new links (wrapped), the advanced streams and the accepted fraction (B,). The arguments are not changed.
    """
    n, _, l0, l1 = links.shape
    links, streams, accepted = links.copy(), streams.copy(), np.zeros(n)
    for b in prange(n):
        t0, t1, p, q = _by_rows(links[b])
        scratch = np.empty((4, l0 * l1))
        n_accepted = 0
        for _ in range(n_sweeps):
            _plaquettes(t0, t1, p, q)
            if backwards:
                _transpose(q, p)
                n_accepted += _metropolis_rows(p, t1, -1.0, streams[b], beta, width, scratch, True)
                _transpose(p, q)
            n_accepted += _metropolis_rows(q, t0, 1.0, streams[b], beta, width, scratch, backwards)
            if not backwards:
                _transpose(q, p)
                n_accepted += _metropolis_rows(p, t1, -1.0, streams[b], beta, width, scratch, False)
        _transpose(t0, links[b, 0])
        accepted[b] = n_accepted / (2 * l0 * l1 * n_sweeps)
    return links, streams, accepted


@njit(fastmath={"contract"})
def _concentrations(own: Array, behind: Array, beta: float) -> None:
    """own -> the way to the centre of the density, d = 0 or pi; behind -> its concentration 2 beta |cos s|."""
    for k in range(own.size):
        s, d = 0.5 * (own[k] + behind[k]), 0.5 * (own[k] - behind[k])
        cosine = fast_cos(s)
        own[k] = (0.0 if cosine >= 0.0 else PI) - d
        behind[k] = 2.0 * beta * abs(cosine)


@njit
def _heatbath_rows(
    p: Array,
    t: Array,
    sign: float,
    stream: NDArray[np.uint64],
    beta: float,
    scratch: Array,
    pending: NDArray[np.int64],
    backwards: bool,
) -> None:
    """Draw all links t of one direction anew, class by class."""
    for parity in _parities(p.shape[0], backwards):
        rows = _rows_of(parity, p.shape[0])
        n = _gather(p, rows, scratch[0], scratch[1])
        own, behind, angles = scratch[0, :n], scratch[1, :n], scratch[2, :n]
        _concentrations(own, behind, beta)
        fill_von_mises(behind, stream, angles, scratch[3:].reshape(-1), pending)
        for k in range(n):
            own[k] += angles[k]
        _apply(own, rows, sign, t, p)


@kernel(parallel=True)
def heatbath(
    links: Array, streams: Streams, beta: float, n_sweeps: int, backwards: bool = False
) -> tuple[Array, Streams]:
    """n_sweeps heat bath sweeps: every link is drawn from its exact density given the others; `backwards` in the
    opposite order.

    Returns the new links (wrapped) and the advanced streams. The arguments are not changed.
    """
    n, _, l0, l1 = links.shape
    links, streams = links.copy(), streams.copy()
    for b in prange(n):
        t0, t1, p, q = _by_rows(links[b])
        scratch, pending = np.empty((6, l0 * l1)), np.empty(l0 * l1, np.int64)
        for _ in range(n_sweeps):
            _plaquettes(t0, t1, p, q)
            if backwards:
                _transpose(q, p)
                _heatbath_rows(p, t1, -1.0, streams[b], beta, scratch, pending, True)
                _transpose(p, q)
            _heatbath_rows(q, t0, 1.0, streams[b], beta, scratch, pending, backwards)
            if not backwards:
                _transpose(q, p)
                _heatbath_rows(p, t1, -1.0, streams[b], beta, scratch, pending, False)
        _transpose(t0, links[b, 0])
    return links, streams


@njit
def _overrelaxation_rows(p: Array, t: Array, sign: float, scratch: Array, backwards: bool) -> None:
    """Exchange the two plaquettes of all links t of one direction."""
    for parity in _parities(p.shape[0], backwards):
        rows = _rows_of(parity, p.shape[0])
        n = _gather(p, rows, scratch[0], scratch[1])
        own, behind = scratch[0, :n], scratch[1, :n]
        for k in range(n):
            behind[k] -= own[k]
        _apply(behind, rows, sign, t, p)


@kernel(parallel=True)
def overrelaxation(links: Array, n_sweeps: int, backwards: bool = False) -> Array:
    """n_sweeps sweeps that reflect every link about the centre of its density, which exchanges its two plaquettes;
    `backwards` in the opposite order.

    The action stays the same to rounding. Returns the new links (wrapped); the argument is not changed.
    """
    n, _, l0, l1 = links.shape
    links = links.copy()
    for b in prange(n):
        t0, t1, p, q = _by_rows(links[b])
        scratch = np.empty((2, l0 * l1))
        for _ in range(n_sweeps):
            _plaquettes(t0, t1, p, q)
            if backwards:
                _transpose(q, p)
                _overrelaxation_rows(p, t1, -1.0, scratch, True)
                _transpose(p, q)
            _overrelaxation_rows(q, t0, 1.0, scratch, backwards)
            if not backwards:
                _transpose(q, p)
                _overrelaxation_rows(p, t1, -1.0, scratch, False)
        _transpose(t0, links[b, 0])
    return links
