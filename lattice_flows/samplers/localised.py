"""Localised updates (arXiv:2201.02216, 2402.12176): the insides of blocks drawn anew, given their frozen boundaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from lattice_flows.flows import Ability, Flow
from lattice_flows.flows.block_tree import block_sides, block_tree, exact_block
from lattice_flows.flows.conditioners import MAX_BETA
from lattice_flows.flows.plaquette_action import LoopAction, stiffness
from lattice_flows.samplers.local import AcceptInfo, ChainState, chain_state
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tree_beta import tuned_tree_beta
from lattice_flows.theories.action import Action, Shape
from lattice_flows.theories.u1.kernels.blocks import Loops
from lattice_flows.theories.u1.kernels.localised import BlockTree, localised_sweeps

_LARGEST_SIDE = 64
_SMALLEST_SIDE = 2
_SIDES = (_SMALLEST_SIDE, 3, 4, 6, 8, 12, 16, 32, 64)  # that are tried
_SIDE_OF_TREES = 4  # where the coupling of the tree is tuned
_ROUNDS = 8  # trials for as many updates as a card gives to thermalising
_EQUAL = 0.8  # of the largest change of the charges: as good


@dataclass(frozen=True)
class Localised(Sampler):
    """The insides of blocks of plaquettes drawn anew; an update is a sweep over as many blocks as fit on the lattice.

    A block's boundary links stay, and with them the flux through it modulo 2 pi. The `exact` tree of `multiscale`
    shares it out among the plaquettes, as in the Wilson action at `tree_beta`, whatever they were before, and the gauge
    inside is random. A Metropolis test corrects, block by block: no acceptance falls with the volume. The charge of a
    block is drawn anew, too. Without rectangles hardly anything is rejected and a sweep is a heat bath of blocks.

    action: that of 2D U(1), with or without rectangles (`LoopAction`).
    block_side: plaquettes along each side of a block, 2 to 64 and no more than the lattice has. None lets `tune`
    determine it: one at which the charges of blocks change most for the number of plaquettes that are drawn.
    tree_beta: coupling of the tree, 0 to 300. None lets `tune` determine it, see `tuned_tree_beta`.

    Raises ValueError for values out of range and for another action.
    """

    action: Action
    block_side: int | None = None
    tree_beta: float | None = None
    reversible: ClassVar[bool] = True  # blocks apart or in either order, each in detailed balance
    memoryless: ClassVar[bool] = True
    tunable: ClassVar[tuple[str, ...]] = ("block_side", "tree_beta")

    def __post_init__(self) -> None:
        _check(self.action, self.block_side, "localised")
        if self.tree_beta is not None and not 0 <= self.tree_beta <= MAX_BETA:
            raise ValueError(f"tree_beta must be between 0 and {MAX_BETA:g}, got {self.tree_beta}")

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state of chains at x (B, 2, L0, L1). Raises ValueError where no block of the given side fits."""
        _check_fit(x.shape, self.block_side)
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """Make n_updates sweeps. Raises ValueError if block_side or tree_beta was neither given nor tuned."""
        if self.block_side is None or self.tree_beta is None:
            raise ValueError("block_side or tree_beta is not set: give both, or call tune() first")
        tree = exact_block(self.block_side, float(self.tree_beta))
        return _swept(self.action, tree, state, n_updates)[:2]

    def thermalise(self, state: ChainState, done: float) -> ChainState:
        """One update, in the first half of the smallest blocks by a wide tree.

        A tree that is too narrow leaves blocks as they are whose plaquettes are where it hardly goes: after a hot start
        those are many.
        """
        return (self._wide if done < 0.5 else self).step(state)[0]

    @property
    def _wide(self) -> "Localised":
        """A sampler whose blocks change from a hot start on."""
        beta = stiffness(self.action) if self.tree_beta is None else self.tree_beta
        return replace(self, block_side=_SMALLEST_SIDE, tree_beta=min(0.5 * beta, MAX_BETA))

    def tune(self, state: ChainState, n_updates: int, report: Report = silent) -> "Localised":
        """This sampler with the tree first, on small blocks where their side is open, and then the side."""
        if self.tuned:
            return self
        n, lattice = max(1, n_updates // _ROUNDS), state.x.shape[2:]
        state = self._wide.step(state, n)[0]  # from a hot start what is accepted says nothing
        if (beta := self.tree_beta) is None:
            side = min(_SIDE_OF_TREES, *lattice) if self.block_side is None else self.block_side

            def sweeps(beta: float) -> float:
                nonlocal state
                state, info, _ = _swept(self.action, exact_block(side, beta), state, n)
                return float(info.accepted.mean())

            beta = tuned_tree_beta(self.action, sweeps, report)
        if (block_side := self.block_side) is None:
            sides = [side for side in _SIDES if side <= min(lattice)]
            block_side = _tuned_side(self.action, lambda side: exact_block(side, beta), sides, state, n, report)
        return replace(self, block_side=block_side, tree_beta=beta)


@dataclass(frozen=True)
class LocalisedFlow(Sampler):
    """The same, with the law that the regions of a multiscale flow give to the inside of a block.

    A tree knows of its regions that are not the torus only their shape and flux, so one that was trained on a small
    lattice serves any other. It pays where plaquettes interact: with rectangles the widths of fluxes are no one beta's.

    action: that of 2D U(1), with or without rectangles (`LoopAction`).
    block_side: the side of a square region of the flow's tree, such as 2, 4, 8 for a lattice of 16 x 16. None lets
    `tune` determine it, as that of `Localised`.

    Raises ValueError for values out of range, for another action and, when chains begin, for another flow.
    """

    action: Action
    flow: Flow
    block_side: int | None = None
    reversible: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ability]] = frozenset({"regions"})
    tunable: ClassVar[tuple[str, ...]] = ("block_side",)

    def __post_init__(self) -> None:
        _check(self.action, self.block_side, "localised_flow")

    @cached_property
    def tree(self) -> BlockTree:
        """The law of a block. Raises ValueError if block_side is not set, or no side of the flow's square regions."""
        if self.block_side is None:
            raise ValueError("block_side is not set: give it, or call tune() first")
        return block_tree(self.flow, self.block_side)

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state of chains at x (B, 2, L0, L1). Raises ValueError where no block fits, or the flow has none."""
        _check_fit(x.shape, self.block_side)
        if self.block_side is not None:
            self.tree  # noqa: B018  (made once, and refused where there is none)
        elif not self._sides(x.shape[2:]):
            raise ValueError(f"no square region of the flow's tree fits into a lattice of {list(x.shape[2:])}")
        return chain_state(self.action, x, streams)

    def _sides(self, lattice: Shape) -> list[int]:
        return [side for side in block_sides(self.flow) if side <= min(_LARGEST_SIDE, *lattice)]

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """Make n_updates sweeps. Raises ValueError if block_side was neither given nor tuned."""
        return _swept(self.action, self.tree, state, n_updates)[:2]

    def tune(self, state: ChainState, n_updates: int, report: Report = silent) -> "LocalisedFlow":
        """This sampler with a side of the flow's square regions."""
        if self.tuned:
            return self
        n, sides = max(1, n_updates // _ROUNDS), self._sides(state.x.shape[2:])
        state = replace(self, block_side=sides[0]).step(state, n)[0]  # from a hot start everything is accepted
        side = _tuned_side(self.action, lambda side: block_tree(self.flow, side), sides, state, n, report)
        return replace(self, block_side=side)


def _check(action: Action, block_side: int | None, name: str) -> None:
    """Raise ValueError for another action, and for a side that no block can have."""
    if not isinstance(action, LoopAction):
        raise ValueError(f"{name} is for actions of plaquettes and rectangles in 2D, not for {type(action).__name__}")
    if block_side is not None and not 2 <= block_side <= _LARGEST_SIDE:
        raise ValueError(f"block_side must be between 2 and {_LARGEST_SIDE}, got {block_side}")


def _check_fit(shape: Shape, block_side: int | None) -> None:
    """Raise ValueError for chains (B, 2, L0, L1) of another shape, and for a lattice that is smaller than a block."""
    if len(shape) != 4 or shape[1] != 2:
        raise ValueError(f"blocks of plaquettes are those of two dimensions, got configurations of {list(shape[1:])}")
    if min(shape[2:]) < (block_side or 2):
        raise ValueError(f"no block of side {block_side or 2} fits into a lattice of {list(shape[2:])}")


def _swept(action: Action, tree: BlockTree, state: ChainState, n_updates: int) -> tuple[ChainState, AcceptInfo, float]:
    """The state after n_updates sweeps, the info, and the mean square of the change of a block's charge."""
    assert isinstance(action, LoopAction)
    loops = Loops(*map(float, action.loop_couplings))
    x, streams, accepted, hops = localised_sweeps(*state, tree, loops, n_updates)
    return ChainState(x, streams), AcceptInfo(accepted), float(hops.mean())


def _tuned_side(
    action: Action,
    tree_of: Callable[[int], BlockTree],
    sides: Sequence[int],
    state: ChainState,
    n_updates: int,
    report: Report,
) -> int:
    """A side at which charges change most for the plaquettes drawn; among equals, the one that renews most links.

    The cost is that of the plaquettes, whatever the blocks. The charge of a small block is that of its boundary's flux,
    which stays; a large one is accepted less often.
    """
    changes, renewed = {}, {}
    for side in sides:
        report(f"block_side = {side}")
        state, info, hops = _swept(action, tree_of(side), state, n_updates)
        changes[side] = hops / side**2
        renewed[side] = float(info.accepted.mean()) * (1.0 - 1.0 / side)  # 2 b (b - 1) links of 2 b^2
    best = [side for side in sides if changes[side] >= _EQUAL * max(changes.values())]
    return max(best, key=renewed.__getitem__)
