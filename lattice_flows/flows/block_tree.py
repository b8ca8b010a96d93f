"""The law of the inside of a block, whatever the lattice: the regions of a multiscale flow inside a square one."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.multiscale import Multiscale, MultiscaleFlow
from lattice_flows.flows.tree import RegionTree
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.kernels.localised import BlockTree

_N_BINS = 32  # of the splines: more cost time and are hardly accepted more often


@lru_cache(maxsize=32)
def exact_block(side: int, beta: float) -> BlockTree:
    """The law of side x side plaquettes with the Wilson action at beta, given the flux of their boundary."""
    torus = MultiscaleFlow((2 * side, side), WilsonU1(beta), conditioner="exact", n_bins=_N_BINS)  # of two blocks
    return block_tree(torus.assemble(), side)


def block_tree(flow: Flow, side: int) -> BlockTree:
    """The law of side x side plaquettes in a multiscale flow, of whatever lattice, given the flux of their boundary.

    Raises ValueError for another flow, and for one without such a region.
    """
    layer = _tree_of(flow)
    tree, tables = layer.tree, layer.conditioner.tables()
    sides, areas = _squares(tree), _areas(tree)
    if side not in sides:
        known = ", ".join(map(str, sorted(set(sides) - {0}))) or "no"
        raise ValueError(f"the flow's tree has square regions of {known} plaquettes a side, not of {side}")
    lo = tree.lo[np.flatnonzero(sides == side)[0]]
    inside = np.flatnonzero((tree.lo >= lo) & (tree.lo + areas <= lo + side * side))
    place = np.zeros(len(areas), np.int32)
    place[inside] = np.arange(len(inside))
    nodes = tree.nodes[inside]
    halves = nodes[:, 1:]
    nodes[:, 1:] = np.where(halves >= 0, place[np.maximum(halves, 0)], halves + lo)
    rows, columns = np.divmod(tree.leaves[lo : lo + side * side], tree.shape[1])
    leaves = (rows - rows.min()) * side + columns - columns.min()
    return BlockTree(nodes, leaves, tables.splines.detach().cpu().numpy(), np.array(tables.odd))


def block_sides(flow: Flow) -> tuple[int, ...]:
    """Of the square regions of a multiscale flow, from small to large. Raises ValueError for another flow."""
    return tuple(sorted({int(side) for side in _squares(_tree_of(flow).tree)} - {0}))


def _tree_of(flow: Flow) -> Multiscale:
    if not isinstance(flow.transform, Multiscale):
        name = type(flow.transform).__name__
        raise ValueError(
            f"localised_flow is for multiscale flows, whose regions depend on their flux alone; got {name}"
        )
    return flow.transform


def _areas(tree: RegionTree) -> NDArray[np.int64]:
    """The number of plaquettes in each region, (V - 1,)."""
    return np.array([sum(split.areas) for split in tree.splits])[tree.nodes[:, 0]]


def _squares(tree: RegionTree) -> NDArray[np.int64]:
    """The side of each region, (V - 1,); 0 where it is no square, and for the torus, whose flux is always zero."""
    first, last = (np.stack(np.divmod(tree.leaves[at], tree.shape[1])) for at in (tree.lo, tree.lo + _areas(tree) - 1))
    rows, columns = last - first + 1
    sides = np.where(rows == columns, rows, 0)
    sides[0] = 0
    return sides
