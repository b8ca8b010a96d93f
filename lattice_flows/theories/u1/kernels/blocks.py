"""Metropolis in the coordinates of a region tree: one latent of one region changes, and all inside it follows.

The plaquettes of 2D U(1) are a function of the latents u of a tree's V - 1 splits, see `u1.kernels.tree`: a region with
flux s gives its halves s/2 + u' and s/2 - u', u' = f(u; s). Uniform latents give plaquettes the density 1 / prod df/du.
A change of one latent is accepted with probability min(1, exp(-Delta [S - sum log df/du])), where only the splits and
the plaquettes in the region change, and the rectangles that touch it:

    S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R), see `u1_improved.kernels.fields`

A region of n plaquettes costs O(n), and a sweep over all of them O(V log V).
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import PI, fast_log, fast_sin_cos, wrap
from lattice_flows.kernels.random import fill_uniforms
from lattice_flows.theories.u1.kernels.fields import plaquettes
from lattice_flows.theories.u1.kernels.random_links import fill_links
from lattice_flows.theories.u1.kernels.tree import Nodes, split_image, split_preimage, turn

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


class Blocks(NamedTuple):
    """A region tree in depth-first order: the regions inside one of n plaquettes are the n - 2 that follow it.

    nodes (V - 1, 3): split, first and second half, as in `u1.kernels.tree`; boxes (V - 1, 4): first row, first column,
    rows and columns of the region; leaves (V,): the site at each place; scales (n_splits,): standard deviation of u',
    in radians; tables, odd: splines of the splits.
    """

    nodes: Nodes
    boxes: NDArray[np.int64]
    leaves: NDArray[np.int64]
    scales: Array
    tables: Array
    odd: NDArray[np.bool_]


class Proposals(NamedTuple):
    """With probability `walk` u' changes, by up to `width` standard deviations of it; else u is drawn anew."""

    walk: float
    width: float


class Loops(NamedTuple):
    """The couplings of plaquettes and rectangles."""

    plain: float
    rectangle: float


class Angles(NamedTuple):
    """Plaquettes with their cosines and sines, (V,) each in the order of the lattice."""

    p: Array
    cosines: Array
    sines: Array


class Splits(NamedTuple):
    """The flux and log du'/du of every region, (V - 1,) each."""

    flux: Array
    log_slopes: Array


@njit
def _angles(v: int) -> Angles:
    return Angles(np.empty(v), np.empty(v), np.empty(v))


@njit
def _splits(v: int) -> Splits:
    return Splits(np.empty(v - 1), np.empty(v - 1))


@njit(error_model="numpy")
def to_latents(blocks: Blocks, p: Array, splits: Splits, u: Array) -> None:
    """The latents u (V - 1,) of plaquettes p (V,) that sum to zero modulo 2 pi, from single ones to the torus."""
    nodes, leaves, flux = blocks.nodes, blocks.leaves, splits.flux
    for i in range(u.size - 1, -1, -1):
        which, first, second = nodes[i, 0], nodes[i, 1], nodes[i, 2]
        one = flux[first] if first >= 0 else p[leaves[-1 - first]]
        other = flux[second] if second >= 0 else p[leaves[-1 - second]]
        flux[i] = wrap(one + other) if i > 0 else 0.0
        image = wrap(one - 0.5 * flux[i])
        u[i], splits.log_slopes[i] = split_preimage(flux[i], image, blocks.tables[which], blocks.odd[which])
    for i in range(u.size):
        splits.log_slopes[i] = fast_log(splits.log_slopes[i])


@njit(error_model="numpy")
def follow(blocks: Blocks, i: int, n: int, u: Array, splits: Splits, p: Array) -> None:
    """What the latents u make of the flux of region i, of n plaquettes: its splits, and its plaquettes in p (V,)."""
    nodes, leaves, flux = blocks.nodes, blocks.leaves, splits.flux
    for j in range(i, i + n - 1):
        which = nodes[j, 0]
        image, splits.log_slopes[j] = split_image(flux[j], u[j], blocks.tables[which], blocks.odd[which])
        for side in range(1, 3):
            half, angle = nodes[j, side], turn(0.5 * flux[j] + (image if side == 1 else -image))
            if half >= 0:
                flux[half] = angle
            else:
                p[leaves[-1 - half]] = angle
    for j in range(i, i + n - 1):
        splits.log_slopes[j] = fast_log(splits.log_slopes[j])


@njit(fastmath={"contract"}, forceinline=True)
def _gain(old: Angles, new: Angles, k: int, m: int) -> float:
    """By how much the cosine of P(k) + P(m) grows."""
    after = new.cosines[k] * new.cosines[m] - new.sines[k] * new.sines[m]
    return after - (old.cosines[k] * old.cosines[m] - old.sines[k] * old.sines[m])


@njit(fastmath={"contract", "reassoc", "nsz"})
def _gain_of_rectangles(box: NDArray[np.int64], l0: int, l1: int, old: Angles, new: Angles) -> float:
    """By how much the sum of their cosines grows over the rectangles that touch the box, each once."""
    row, column, rows, columns = box[0], box[1], box[2], box[3]
    end, bottom = column + columns - 1, (row + rows - 1) * l1
    above, below = ((row - 1) % l0) * l1, ((row + rows) % l0) * l1
    before, after = (column - 1) % l1, (column + columns) % l1
    gain = 0.0
    for start in range(row * l1, (row + rows) * l1, l1):
        for k in range(start + column, start + end):
            gain += _gain(old, new, k, k + 1)
        gain += _gain(old, new, start + end, start + after)
        if columns < l1:
            gain += _gain(old, new, start + before, start + column)
    for start in range(row * l1, bottom, l1):
        for k in range(start + column, start + end + 1):
            gain += _gain(old, new, k, k + l1)
    for j in range(column, end + 1):
        gain += _gain(old, new, bottom + j, below + j)
    if rows < l0:
        for j in range(column, end + 1):
            gain += _gain(old, new, above + j, row * l1 + j)
    return gain


@njit(fastmath={"contract", "reassoc", "nsz"})
def rise(loops: Loops, box: NDArray[np.int64], l0: int, l1: int, old: Angles, new: Angles) -> float:
    """By how much S grows where new differs from old in the box (first row, first column, rows, columns) alone."""
    gain = 0.0
    for start in range(box[0] * l1, (box[0] + box[2]) * l1, l1):
        for k in range(start + box[1], start + box[1] + box[3]):
            gain += new.cosines[k] - old.cosines[k]
    total = -loops.plain * gain
    if loops.rectangle != 0.0:
        total -= loops.rectangle * _gain_of_rectangles(box, l0, l1, old, new)
    return total


@njit
def _to_circle(box: NDArray[np.int64], l1: int, field: Angles) -> None:
    """Cosines and sines of the plaquettes in a box."""
    for start in range(box[0] * l1, (box[0] + box[2]) * l1, l1):
        for k in range(start + box[1], start + box[1] + box[3]):
            field.sines[k], field.cosines[k] = fast_sin_cos(field.p[k])


@njit
def _copy(box: NDArray[np.int64], l1: int, source: Angles, target: Angles) -> None:
    """The plaquettes in a box, from one field to another."""
    for start in range(box[0] * l1, (box[0] + box[2]) * l1, l1):
        for k in range(start + box[1], start + box[1] + box[3]):
            target.p[k] = source.p[k]
            target.cosines[k] = source.cosines[k]
            target.sines[k] = source.sines[k]


@njit(error_model="numpy")
def _stepped(blocks: Blocks, which: int, s: float, u: float, step: float) -> float:
    """The latent of u' + step, for the region's split and flux."""
    image, _ = split_image(s, u, blocks.tables[which], blocks.odd[which])
    return split_preimage(s, wrap(image + step), blocks.tables[which], blocks.odd[which])[0]


@njit(error_model="numpy")
def _sweep(
    blocks: Blocks,
    loops: Loops,
    proposals: Proposals,
    l0: int,
    l1: int,
    u: Array,
    splits: tuple[Splits, Splits],
    fields: tuple[Angles, Angles],
    deviates: Array,
) -> int:
    """A change of each latent in turn, with 3 deviates each; returns how many were accepted.

    The first of splits and of fields are those of the chain, the second are equal to them before and after each test.
    """
    old, new = fields
    now, then = splits
    n_accepted = 0
    for i in range(u.size):
        box = blocks.boxes[i]
        n, before = box[2] * box[3], u[i]
        walk, move = deviates[3 * i] < proposals.walk, 2.0 * deviates[3 * i + 1] - 1.0
        if walk:
            which = blocks.nodes[i, 0]
            u[i] = _stepped(blocks, which, now.flux[i], before, move * proposals.width * blocks.scales[which])
        else:
            u[i] = PI * move
        then.flux[i] = now.flux[i]
        follow(blocks, i, n, u, then, new.p)
        _to_circle(box, l1, new)
        log_ratio = -rise(loops, box, l0, l1, old, new)
        for j in range(i + walk, i + n - 1):  # a step of u' is as likely as the one back, whatever df/du
            log_ratio += then.log_slopes[j] - now.log_slopes[j]
        if fast_log(deviates[3 * i + 2]) < log_ratio:
            n_accepted += 1
            _copy(box, l1, new, old)
            for j in range(i, i + n - 1):
                now.flux[j], now.log_slopes[j] = then.flux[j], then.log_slopes[j]
        else:
            u[i] = before
            _copy(box, l1, old, new)
    return n_accepted


@kernel(parallel=True, error_model="numpy")
def block_sweeps(
    links: Array, streams: Streams, blocks: Blocks, loops: Loops, proposals: Proposals, n_sweeps: int
) -> tuple[Array, Streams, Array]:
    """n_sweeps sweeps over all regions of every chain, each with new holonomies and a new gauge.

    links (N, 2, L0, L1) and streams (N, 2) are not changed. Returns the new ones and the accepted fraction, (N,). Every
    sweep begins with the plaquettes of the links, so that no rounding adds up.
    """
    n, _, l0, l1 = links.shape
    v = l0 * l1
    links, streams, accepted = links.copy(), streams.copy(), np.zeros(n)
    for b in prange(n):
        u, deviates = np.empty(v - 1), np.empty(3 * (v - 1))
        splits, fields = (_splits(v), _splits(v)), (_angles(v), _angles(v))
        n_accepted = 0
        for _ in range(n_sweeps):
            p = fields[0].p
            plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
            for k in range(v):
                p[k] = wrap(p[k])
            to_latents(blocks, p, splits[0], u)
            _to_circle(blocks.boxes[0], l1, fields[0])
            _copy(blocks.boxes[0], l1, fields[0], fields[1])
            fill_uniforms(streams[b], deviates)
            n_accepted += _sweep(blocks, loops, proposals, l0, l1, u, splits, fields, deviates)
            fill_links(p, streams[b], links[b])
        accepted[b] = n_accepted / (n_sweeps * (v - 1))
    return links, streams, accepted
