"""Localised updates of 2D U(1) links: the inside of a block of b x b plaquettes is drawn anew, its boundary stays.

Given the 4 b links of the boundary, the 2 b (b - 1) links inside are the b^2 plaquettes, whose sum modulo 2 pi is the
angle of the loop around the block, and the gauge of the (b - 1)^2 sites inside. The gauge is uniform, and a tree shares
the flux out, see `u1.kernels.tree`: from the block, which has the flux of its boundary, down to single plaquettes. The
proposal q depends on what is inside by this flux alone, which the update keeps, so the test (arXiv:2201.02216)

    min(1, exp(-S(x')) q(x) / (exp(-S(x)) q(x')))

has the terms of S that touch the block and the density of two sets of b^2 plaquettes. Fluxes are angles: all of them
that are equal modulo 2 pi, and so all charges of the block, are in q.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import PI, TWO_PI, fast_cos, fast_log, wrap
from lattice_flows.kernels.random import fill_uniforms, uniform_pair
from lattice_flows.theories.u1.kernels.blocks import Loops
from lattice_flows.theories.u1.kernels.fields import plaquettes
from lattice_flows.theories.u1.kernels.tree import Nodes, split_image, split_preimage, turn

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]
Places = NDArray[np.int64]


class BlockTree(NamedTuple):
    """The regions of a block of b x b plaquettes, the block first and each before those inside it.

    nodes (b^2 - 1, 3): split, first and second half, as in `u1.kernels.tree`; leaves (b^2,): the plaquette, row by row,
    at each place; tables, odd: splines of the splits.
    """

    nodes: Nodes
    leaves: Places
    tables: Array
    odd: NDArray[np.bool_]


@njit(error_model="numpy")
def log_density(tree: BlockTree, p: Array, flux: Array) -> float:
    """log q of plaquettes p (b^2,) given the flux of all, up to a constant; fills the fluxes (b^2 - 1,) of regions."""
    nodes, leaves = tree.nodes, tree.leaves
    total, product = 0.0, 1.0
    for i in range(flux.size - 1, -1, -1):
        which, first, second = nodes[i, 0], nodes[i, 1], nodes[i, 2]
        one = flux[first] if first >= 0 else p[leaves[-1 - first]]
        other = flux[second] if second >= 0 else p[leaves[-1 - second]]
        flux[i] = wrap(one + other)
        product *= split_preimage(flux[i], wrap(one - 0.5 * flux[i]), tree.tables[which], tree.odd[which])[1]
        if not 1e-100 < product < 1e100:
            total -= fast_log(product)
            product = 1.0
    return total - fast_log(product)


@njit(error_model="numpy")
def draw(tree: BlockTree, deviates: Array, p: Array, flux: Array) -> float:
    """Fill p (b^2,) with plaquettes of the flux flux[0], from b^2 - 1 deviates or more; returns their log q."""
    nodes, leaves = tree.nodes, tree.leaves
    total, product = 0.0, 1.0
    for i in range(flux.size):
        which, s = nodes[i, 0], flux[i]
        image, slope = split_image(s, PI * (2.0 * deviates[i] - 1.0), tree.tables[which], tree.odd[which])
        for side in range(1, 3):
            half, angle = nodes[i, side], turn(0.5 * s + (image if side == 1 else -image))
            if half >= 0:
                flux[half] = angle
            else:
                p[leaves[-1 - half]] = angle
        product *= slope
        if not 1e-100 < product < 1e100:
            total -= fast_log(product)
            product = 1.0
    return total - fast_log(product)


@njit(fastmath={"contract", "reassoc", "nsz"})
def _cosines(p: Array) -> float:
    total = 0.0
    for k in range(p.size):
        total += fast_cos(p[k])
    return total


@njit(fastmath={"contract"})
def _cosines_of_rectangles(field: Array, rows: Places, columns: Places) -> float:
    """The sum over the rectangles that touch the block, each once. field (L0, L1): plaquettes."""
    l0, l1 = field.shape
    b = rows.size - 1
    total = 0.0
    for a in range(0 if b == l0 else -1, b):  # from the row before the block, unless that is in it
        upper, lower = (rows[0] + a) % l0, (rows[0] + a + 1) % l0
        for c in range(b):
            total += fast_cos(field[upper, columns[c]] + field[lower, columns[c]])
    for c in range(0 if b == l1 else -1, b):
        left, right = (columns[0] + c) % l1, (columns[0] + c + 1) % l1
        for a in range(b):
            total += fast_cos(field[rows[a], left] + field[rows[a], right])
    return total


@njit
def _gather(field: Array, rows: Places, columns: Places, p: Array) -> None:
    """The plaquettes p (b^2,) of the block, wrapped."""
    b = rows.size - 1
    for a in range(b):
        for c in range(b):
            p[a * b + c] = wrap(field[rows[a], columns[c]])


@njit
def _scatter(p: Array, rows: Places, columns: Places, field: Array) -> None:
    b = rows.size - 1
    for a in range(b):
        for c in range(b):
            field[rows[a], columns[c]] = p[a * b + c]


@njit(fastmath={"contract"})
def _change_links(links: Array, rows: Places, columns: Places, change: Array, alpha: Array) -> None:
    """Change the plaquettes of a block by `change` (b, b), which sums to zero modulo 2 pi, and the gauge inside.

    theta_1 of the inner rows and theta_0 of the last row carry it. alpha (b + 1, b + 1) is zero on the boundary.
    """
    b = rows.size - 1
    through = 0.0  # the columns before c
    for c in range(b):
        carried = 0.0  # the rows before a
        for a in range(b):
            if a > 0:
                k = links[1, rows[a], columns[c]] + carried + alpha[a, c] - alpha[a, c + 1]
                links[1, rows[a], columns[c]] = wrap(k)
            if c > 0:
                k = links[0, rows[a], columns[c]] + alpha[a, c] - alpha[a + 1, c]
                links[0, rows[a], columns[c]] = wrap(k - through if a == b - 1 else k)
            carried += change[a, c]
        through += carried


@njit
def _gauge(deviates: Array, alpha: Array) -> None:
    """Fill the inner sites."""
    b = alpha.shape[0] - 1
    for a in range(1, b):
        for c in range(1, b):
            alpha[a, c] = TWO_PI * deviates[(a - 1) * (b - 1) + c - 1]


class _Block(NamedTuple):
    """Room for one block: old and new plaquettes (b^2,), fluxes (b^2 - 1,), deviates, gauge (b + 1, b + 1)."""

    old: Array
    new: Array
    flux: Array
    deviates: Array
    alpha: Array


@njit(error_model="numpy")
def _update(
    links: Array, field: Array, rows: Places, columns: Places, tree: BlockTree, loops: Loops, room: _Block
) -> tuple[int, float]:
    """1 if what was drawn for the inside of one block is accepted, else 0; and by how much the charge changes.

    links (2, L0, L1) and their plaquettes (L0, L1) are changed.
    """
    n, b = room.flux.size, rows.size - 1
    _gather(field, rows, columns, room.old)
    log_ratio = log_density(tree, room.old, room.flux)
    log_ratio -= draw(tree, room.deviates, room.new, room.flux)
    log_ratio += loops.plain * (_cosines(room.new) - _cosines(room.old))
    before = _cosines_of_rectangles(field, rows, columns) if loops.rectangle != 0.0 else 0.0
    _scatter(room.new, rows, columns, field)
    if loops.rectangle != 0.0:
        log_ratio += loops.rectangle * (_cosines_of_rectangles(field, rows, columns) - before)
    if not fast_log(room.deviates[n]) < log_ratio:
        _scatter(room.old, rows, columns, field)
        return 0, 0.0
    _gauge(room.deviates[n + 1 :], room.alpha)
    room.new[:] -= room.old
    _change_links(links, rows, columns, room.new.reshape(b, b), room.alpha)
    return 1, np.rint(room.new.sum() / TWO_PI)


@njit
def _around(start: int, b: int, length: int, places: Places) -> None:
    for k in range(b + 1):
        places[k] = (start + k) % length


@kernel(parallel=True, error_model="numpy")
def localised_sweeps(
    links: Array, streams: Streams, tree: BlockTree, loops: Loops, n_sweeps: int
) -> tuple[Array, Streams, Array, Array]:
    """n_sweeps sweeps of every chain over as many blocks as fit, from a random place on, forward or backward.

    links (N, 2, L0, L1) and streams (N, 2) are not changed. Returns the new ones, the accepted fraction, (N,), and the
    mean square of the change of the charge in a block, proposals that were rejected included, (N,).
    Either order is as likely, so a sweep is in detailed balance though neighbours share rectangles. Every sweep begins
    with the plaquettes of the links, so that no rounding adds up.
    """
    n, _, l0, l1 = links.shape
    area = tree.leaves.size
    b = int(np.sqrt(area) + 0.5)
    n0, n1 = l0 // b, l1 // b
    links, streams, accepted, hops = links.copy(), streams.copy(), np.zeros(n), np.zeros(n)
    for k in prange(n):
        field, (rows, columns) = np.empty((l0, l1)), np.empty((2, b + 1), np.int64)
        room = _Block(
            np.empty(area),
            np.empty(area),
            np.empty(area - 1),
            np.empty(area + (b - 1) * (b - 1)),
            np.zeros((b + 1, b + 1)),
        )
        n_accepted, squares = 0, 0.0
        for _ in range(n_sweeps):
            plaquettes(links[k, 0].reshape(-1), links[k, 1].reshape(-1), l1, field.reshape(-1))
            first, second = uniform_pair(streams[k])
            order, _unused = uniform_pair(streams[k])
            for i in range(n0 * n1):
                place = i if order < 0.5 else n0 * n1 - 1 - i
                _around(int(first * l0) + b * (place // n1), b, l0, rows)
                _around(int(second * l1) + b * (place % n1), b, l1, columns)
                fill_uniforms(streams[k], room.deviates)
                one, change = _update(links[k], field, rows, columns, tree, loops, room)
                n_accepted += one
                squares += change * change
        accepted[k], hops[k] = n_accepted / (n_sweeps * n0 * n1), squares / (n_sweeps * n0 * n1)
    return links, streams, accepted, hops
