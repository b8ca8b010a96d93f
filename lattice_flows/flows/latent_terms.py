"""-log w of a flow as a sum of terms, each a function of few latents: what local moves in latent space are tested with.

w = exp(-S) / q is the density of the target in latent space relative to that of the prior. Where a move changes few
latents, only some of the terms of

    -log w = S(f(z)) - log|det df/dz| + log r(z)

change: S is a sum over loops, and the log det of a layer is one over its active variables.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.mask_pattern import cell_sites
from lattice_flows.flows.multiscale import Multiscale
from lattice_flows.flows.plaquette_action import LoopAction, PlaquetteAction
from lattice_flows.flows.plaquette_coupling import PlaquetteCoupling, move_pair, sites_first
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.tree import RegionTree
from lattice_flows.flows.tree_map import TreeTables, torch_levels, tree_slopes
from lattice_flows.lattice import CIRCLE, plaquette, shift
from lattice_flows.theories.action import Action, Array, Streams
from lattice_flows.theories.u1.kernels.random_links import random_links

Labels = NDArray[np.int64]

_MOST_BLOCKS = 1024  # of a flow whose blocks change everything
_ROWS = 64  # configurations at a time, while cones are looked for


class LocalImage(NamedTuple):
    """Of latents (B, n): the variables of their image, (B, n_values), and the terms of -log w, (B, n_terms)."""

    values: Tensor
    terms: Tensor


class Cones(NamedTuple):
    """Which values and which terms depend on which blocks: pairs of block and value, and of block and term."""

    values: tuple[Labels, Labels]
    terms: tuple[Labels, Labels]


class LatentTerms(ABC):
    """Latents y (B, n) that are independent of each other under the prior, and -log w as a function of them.

    They are normal deviates where `gaussian`, and else uniform angles. `sides` are the useful sizes of blocks, from
    single latents to all of them in one block.
    """

    gaussian: bool
    sides: tuple[int, ...]

    @abstractmethod
    def blocks(self, side: int) -> Labels:
        """The number of each latent's block, (n,), from 0."""

    @abstractmethod
    def image(self, y: Tensor) -> LocalImage:
        """The variables that y (B, n) is mapped to, and the terms."""

    @abstractmethod
    def cones(self, blocks: Labels) -> Cones:
        """What depends on the latents of each block, for any weights and any latents."""

    @abstractmethod
    def origin(self, x: Tensor) -> Tensor:
        """The latents (B, n) of configurations x (B, *event)."""

    @abstractmethod
    def values(self, x: Tensor) -> Tensor:
        """The variables (B, n_values) of configurations x (B, *event)."""

    @abstractmethod
    def configurations(self, values: Tensor, streams: Streams) -> tuple[Array, Streams]:
        """Configurations (B, *event) with these variables, all else random and uniform; and the advanced streams."""


def latent_terms(flow: Flow, action: Action) -> "LatentTerms":
    """Terms of plaquettes where flow and action know links by their plaquettes alone; else all of -log w as one term.

    Raises ValueError for a flow whose latents are neither normal deviates nor angles.
    """
    maps = flow.transform.sequence() if isinstance(flow.transform, Chain) else [flow.transform]
    tree = maps[0] if maps and isinstance(maps[0], Multiscale) else None
    couplings = [layer for layer in maps if isinstance(layer, PlaquetteCoupling)]
    known = bool(maps) and len(couplings) + (tree is not None) == len(maps)
    if known and isinstance(action, PlaquetteAction) and isinstance(flow.prior, HaarU1):
        return PlaquetteTerms(action, flow.prior.shape, flow.transform, tree, couplings)
    return WholeTerm(flow, action)


class WholeTerm(LatentTerms):
    """-log w in one piece, of any flow: every block changes it."""

    def __init__(self, flow: Flow, action: Action) -> None:
        self.gaussian = flow.prior.gaussian
        space = flow.transform.domain or flow.prior.space
        if not self.gaussian and space != CIRCLE:
            raise ValueError(f"latent_blocks is for flows of normal deviates or of angles, not of latents in {space}")
        self.flow, self.action, self.event = flow, action, flow.prior.shape
        self.sides = tuple(side for side in _sides(max(self.event)) if boxes(self.event, side).max() < _MOST_BLOCKS)

    def blocks(self, side: int) -> Labels:
        blocks = boxes(self.event, side)
        if (n := int(blocks.max()) + 1) > _MOST_BLOCKS:
            raise ValueError(
                f"block_side = {side} makes {n} blocks, each an evaluation of the whole flow; give a larger one"
            )
        return blocks

    def image(self, y: Tensor) -> LocalImage:
        y = y.unflatten(1, self.event)
        if self.gaussian:
            x, log_q = self.flow.image(self.flow.prior.coloured(y))
        else:  # relative to the reference measure, in which angles are uniform
            x, log_det = self.flow.transform.forward(y)
            x, log_q = self.flow.space.wrap(x), -log_det
        return LocalImage(x.flatten(1), (self.action(x) + log_q.double())[:, None])

    def cones(self, blocks: Labels) -> Cones:
        every, n_values = np.arange(blocks.max() + 1), int(np.prod(self.event))
        values = np.repeat(every, n_values), np.tile(np.arange(n_values), len(every))
        return Cones(values, (every, np.zeros_like(every)))

    def origin(self, x: Tensor) -> Tensor:
        return self.flow.prior.whitened(self.flow.transform.inverse(x)[0]).flatten(1)

    def values(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def configurations(self, values: Tensor, streams: Streams) -> tuple[Array, Streams]:
        return values.unflatten(1, self.event).cpu().numpy(), streams


_Slopes = Callable[[Tensor, TreeTables, RegionTree], tuple[Tensor, Tensor]]


class PlaquetteTerms(LatentTerms):
    """The terms of a tree, of couplings, or of both, and of an action of 2D plaquettes.

    The latents are the shares of the tree's regions (V - 1), or, where there is no tree, the links before the couplings
    (2 V); the values are plaquettes, unwrapped. Gauge and holonomies are in neither: S and log det do not depend on
    them. A tree's blocks are regions of up to side^2 plaquettes with all shares inside, and the shares of larger ones
    each alone; those of links are boxes, of a single link for side 1.
    """

    gaussian = False

    def __init__(
        self,
        action: PlaquetteAction,
        event: tuple[int, ...],
        transform: Transform,
        tree: Multiscale | None,
        couplings: Sequence[PlaquetteCoupling],
    ) -> None:
        self.action, self.event, self.transform = action, event, transform
        self.tree, self.couplings = tree, couplings
        with torch.no_grad():
            self.tables = tree.conditioner.tables() if tree else None
        self.shape = (event[1], event[2])
        self.sides = _sides(max(self.shape))

    def blocks(self, side: int) -> Labels:
        if self.tree is None:
            return boxes(self.event, side)
        tree = self.tree.tree
        small = np.array([sum(split.areas) <= side * side for split in tree.splits])[tree.nodes[:, 0]]
        largest = np.arange(len(tree.nodes))  # the small region, around a small one, that is redrawn as a whole
        for level in tree.levels:
            parents = np.arange(len(tree.nodes))[level][small[level]]
            for halves in tree.nodes[parents, 1:].T:
                largest[halves[halves >= 0]] = largest[parents[halves >= 0]]
        return np.unique(largest, return_inverse=True)[1]

    def image(self, y: Tensor) -> LocalImage:
        return self._image(y, tree_slopes)

    def _image(self, y: Tensor, slopes: _Slopes) -> LocalImage:
        terms: list[Tensor] = []
        if self.tree is None:
            p = plaquette(y.unflatten(1, self.event), 0, 1)
        else:
            assert self.tables is not None
            leaves, log_slopes = slopes(y, self.tables, self.tree.tree)
            p = self.tree.field(leaves)
            terms.append(-log_slopes)
        p = self._coupled(p, terms)
        terms.append(_terms_of_action(self.action, p))
        return LocalImage(p.flatten(1), torch.cat(terms, 1))

    def _coupled(self, p: Tensor, terms: list[Tensor]) -> Tensor:
        """The plaquettes after the couplings, whose -log dy/da at every active plaquette are appended to the terms."""
        angles = sites_first(p)
        for coupling in self.couplings:
            for layer, offset in enumerate(coupling.offsets):
                sites = cell_sites(coupling.pattern, coupling.mu, offset, self.shape, p.device)
                cells = coupling.couple(angles, sites, layer, coupling.circle.forward)
                angles = move_pair(angles, sites, cells)
                terms.append(-cells.log_derivative.T)
        return angles.T.unflatten(1, self.shape)

    def cones(self, blocks: Labels) -> Cones:
        """By a NaN in the latents of a block: whatever is computed from them becomes one."""
        found: list[tuple[Labels, ...]] = []
        mine = torch.from_numpy(blocks)
        device = next(iter(self.transform.buffers()), torch.empty(0)).device
        for start in range(0, int(blocks.max()) + 1, _ROWS):
            rows = torch.arange(start, min(start + _ROWS, int(blocks.max()) + 1))
            y = torch.where(mine == rows[:, None], torch.nan, torch.zeros((), dtype=torch.float64))
            with torch.no_grad():
                image = self._image(y.to(device), _slopes_in_torch)  # which compiled code hides
            pairs = [np.nonzero(part.isnan().cpu().numpy()) for part in image]
            found.append(tuple(array for rows, columns in pairs for array in (rows + start, columns)))
        of_values, values, of_terms, terms = map(np.concatenate, zip(*found))
        return Cones((of_values, values), (of_terms, terms))

    def origin(self, x: Tensor) -> Tensor:
        z = self.transform.inverse(x)[0]
        if self.tree is None:
            return CIRCLE.wrap(z).flatten(1)
        return self.tree.shares_of(self.tree.leaves_of(plaquette(z, 0, 1)).double())

    def values(self, x: Tensor) -> Tensor:
        return plaquette(x, 0, 1).flatten(1)

    def configurations(self, values: Tensor, streams: Streams) -> tuple[Array, Streams]:
        """With a new gauge and new holonomies."""
        return random_links(CIRCLE.wrap(values).unflatten(1, self.shape).cpu().numpy(), streams)


def boxes(shape: tuple[int, ...], side: int) -> Labels:
    """The number of the box of each variable of a field, in C order: of `side` variables along every axis, or fewer."""
    axes = [np.arange(size) // side for size in shape]
    n_boxes = [int(axis[-1]) + 1 for axis in axes]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), n_boxes).ravel()


def _sides(longest: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the longest side."""
    return (*(2**k for k in range((longest - 1).bit_length())), longest)


def _slopes_in_torch(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    plaquettes, log_slopes = torch_levels(shares, tables, tree)
    return plaquettes, torch.cat(log_slopes, 1)


def _terms_of_action(action: PlaquetteAction, p: Tensor) -> Tensor:
    """S of plaquettes p (B, L0, L1) as terms (B, n): one for each site, where the action is known loop by loop."""
    if not isinstance(action, LoopAction):
        return action.of_plaquettes(p)[:, None]
    plain, rectangle = action.loop_couplings
    terms = plain * _one_minus_cosine(p)
    if rectangle != 0.0:
        terms = terms + rectangle * sum(_one_minus_cosine(p + shift(p, mu)) for mu in (0, 1))
    return terms.flatten(1)


def _one_minus_cosine(angles: Tensor) -> Tensor:
    half = torch.sin(0.5 * angles)  # which keeps its digits where the angle is small
    return 2.0 * half * half
