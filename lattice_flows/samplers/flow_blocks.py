"""Metropolis in the coordinates of a map: one latent of the exact tree changes, and all that depends on it follows."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from lattice_flows.flows.conditioners import MAX_BETA
from lattice_flows.flows.multiscale import Multiscale, MultiscaleFlow
from lattice_flows.flows.plaquette_action import LoopAction
from lattice_flows.flows.tree import check_tree_shape
from lattice_flows.samplers.local import AcceptInfo, ChainState, chain_state
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tree_beta import tuned_tree_beta
from lattice_flows.theories.action import Action, Shape
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.kernels.blocks import Blocks, Loops, Proposals, block_sweeps

_ROUNDS = 4  # trees for as many updates as a card gives to thermalising
_MAX_WIDTH = 10.0
_N_BINS = 32  # of the splines: more cost time and are accepted no more often


@dataclass(frozen=True)
class FlowBlocks(Sampler):
    """Metropolis in the latent space of the `exact` multiscale flow; an update is a sweep over the regions of its tree.

    The torus is cut in two, and each part again, down to single plaquettes. A region's latent says what share of its
    flux goes to the first half: uniform latents give the shares the densities that they have in the Wilson action at
    `tree_beta`. One latent after the other is changed, everything inside its region follows with its own latents fixed,
    and the change of S - log det in the region decides. The root costs O(V), a sweep O(V log V), and no acceptance
    falls with V. Each sweep draws both holonomies and the gauge anew, on which S does not depend.

    action: that of 2D U(1), with or without rectangles (`LoopAction`).
    tree_beta: coupling of the tree, 0 to 300. None lets `tune` determine it: the widest tree whose acceptance is within
    0.01 of the largest. A narrower one may accept as often, but keeps the chain long where its density is too low.
    walk_fraction: how many of the changes are steps from the present share and not new ones. They help where the tree
    is too narrow.
    walk_width: the largest step, in standard deviations of the share at tree_beta, up to 10.

    Raises ValueError for values out of range and for another action.
    """

    action: Action
    tree_beta: float | None = None
    walk_fraction: float = 0.1
    walk_width: float = 3.0
    memoryless: ClassVar[bool] = True
    tunable: ClassVar[tuple[str, ...]] = ("tree_beta",)

    def __post_init__(self) -> None:
        if not isinstance(self.action, LoopAction):
            name = type(self.action).__name__
            raise ValueError(f"flow_blocks is for actions of plaquettes and rectangles in 2D, not for {name}")
        if self.tree_beta is not None and not 0 <= self.tree_beta <= MAX_BETA:
            raise ValueError(f"tree_beta must be between 0 and {MAX_BETA:g}, got {self.tree_beta}")
        if not 0 <= self.walk_fraction <= 1:
            raise ValueError(f"walk_fraction must be between 0 and 1, got {self.walk_fraction}")
        if not 0 < self.walk_width <= _MAX_WIDTH:
            raise ValueError(f"walk_width must be > 0 and at most {_MAX_WIDTH:g}, got {self.walk_width}")

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state of chains at x (B, 2, L0, L1). Raises ValueError for configurations of another shape."""
        if x.ndim != 4 or x.shape[1] != 2:
            raise ValueError(f"flow_blocks is for two dimensions, got configurations of {list(x.shape[1:])}")
        check_tree_shape(x.shape[2:])
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """Make n_updates sweeps. Raises ValueError if tree_beta was neither given nor tuned."""
        if self.tree_beta is None:
            raise ValueError("tree_beta is not set: give it, or call tune() first")
        assert isinstance(self.action, LoopAction)
        blocks = blocks_of(state.x.shape[2:], float(self.tree_beta))
        loops = Loops(*map(float, self.action.loop_couplings))
        proposals = Proposals(float(self.walk_fraction), float(self.walk_width))
        x, streams, accepted = block_sweeps(*state, blocks, loops, proposals, n_updates)
        return ChainState(x, streams), AcceptInfo(accepted)

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, and the tree while it is grown."""
        tree = MultiscaleFlow((event[1], event[2]), WilsonU1(1.0), conditioner="exact")
        return super().least_bytes(n_chains, event, n_updates) + tree.table_bytes

    def tune(self, state: ChainState, n_updates: int, report: Report = silent) -> "FlowBlocks":
        """This sampler with a tree_beta around the stiffness of the action."""
        if self.tuned:
            return self

        def acceptance(beta: float) -> float:
            nonlocal state
            trial = replace(self, tree_beta=beta, walk_fraction=0.0)
            state, info = trial.step(state, max(1, n_updates // _ROUNDS))
            return float(info.accepted.mean())

        return replace(self, tree_beta=tuned_tree_beta(self.action, acceptance, report))


@lru_cache(maxsize=16)
def blocks_of(shape: tuple[int, int], beta: float) -> Blocks:
    """The exact tree at this beta, its regions in depth-first order."""
    tree_map = MultiscaleFlow(shape, WilsonU1(beta), conditioner="exact", n_bins=_N_BINS).assemble().transform
    assert isinstance(tree_map, Multiscale)
    tree, tables = tree_map.tree, tree_map.conditioner.tables()
    areas = np.array([sum(split.areas) for split in tree.splits])[tree.nodes[:, 0]]
    order = np.lexsort((-areas, tree.lo))  # a region, then all inside its first half, then all inside its second
    place = np.argsort(order).astype(np.int32)
    nodes = tree.nodes[order]
    halves = nodes[:, 1:]
    nodes[:, 1:] = np.where(halves >= 0, place[np.maximum(halves, 0)], halves)
    first, last = (np.stack(np.divmod(tree.leaves[at], shape[1]), 1) for at in (tree.lo, tree.lo + areas - 1))
    boxes = np.concatenate([first, last - first + 1], 1)[order]
    scales = np.array([_scale(*split.areas, beta) for split in tree.splits])
    return Blocks(nodes, boxes, tree.leaves, scales, tables.splines.numpy(), np.array(tables.odd))


def _scale(first: int, second: int, beta: float) -> float:
    """The standard deviation of a share in radians: as of normal plaquettes of variance 1 / beta, or uniform."""
    variance = first * second / (first + second)
    return float(np.sqrt(min(variance / beta, np.pi**2 / 3.0) if beta > 0 else np.pi**2 / 3.0))
