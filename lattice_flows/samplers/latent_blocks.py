"""Metropolis in the latent space of a flow, a block of latents at a time."""

import math
import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows import Ability, Flow
from lattice_flows.flows.latent_terms import Labels, LatentTerms, LocalImage, latent_terms
from lattice_flows.kernels.random import normals, uniforms
from lattice_flows.lattice import CIRCLE
from lattice_flows.samplers.block_colours import Colour, colours_of
from lattice_flows.samplers.local import AcceptInfo
from lattice_flows.samplers.proposals import device_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action

_LARGEST_BLOCK = 10**6
_NORMAL = statistics.NormalDist()


class LatentBlocksState(NamedTuple):
    """x (B, *event) the configurations, y (B, n) their latents, the terms of -log w (B, n_terms), and the streams."""

    x: Array
    y: Array
    terms: Array
    streams: Streams


@dataclass(frozen=True)
class LatentBlocks(Sampler):
    """Metropolis in the latent space of a flow; an update is a sweep over blocks of its latents.

    The latents of a block are drawn anew from the prior, all others stay, the flow is evaluated, and the change of
    log w = -S - log q decides. Blocks that change no common term of log w, see `LatentTerms`, are proposed in one
    evaluation of the flow, and each is accepted by the change of its own terms. One block of all latents is
    `flow_metropolis`; smaller ones are accepted more often and cost one evaluation for every set of blocks that are
    apart: their acceptance does not fall with the volume. In a tree all regions of a level are apart. Couplings mix
    what is within their reach, and where that is the whole lattice there is one block at a time.

    Where flow and action know links by their plaquettes alone, a sweep ends with a new gauge and new holonomies.

    block_side: of blocks, in variables along each axis; of a tree, regions of up to block_side^2 plaquettes are drawn
    anew as a whole, and the shares of larger ones one by one. None lets `tune` choose the one that renews the latents
    most often per evaluation of the flow.
    walk_fraction: how many of the proposals are steps from the present latents and not new ones.
    walk_width: the largest change of an angle in such a step, in radians, up to pi; of normal deviates, the angle by
    which they are turned towards new ones.

    Raises ValueError for values out of range.
    """

    action: Action
    flow: Flow
    block_side: int | None = None
    walk_fraction: float = 0.1
    walk_width: float = 0.3
    memoryless: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ability]] = frozenset({"inverse"})
    tunable: ClassVar[tuple[str, ...]] = ("block_side",)

    def __post_init__(self) -> None:
        if self.block_side is not None and not 1 <= self.block_side <= _LARGEST_BLOCK:
            raise ValueError(f"block_side must be between 1 and {_LARGEST_BLOCK}, got {self.block_side}")
        if not 0 <= self.walk_fraction <= 1:
            raise ValueError(f"walk_fraction must be between 0 and 1, got {self.walk_fraction}")
        if not 0 < self.walk_width <= np.pi:
            raise ValueError(f"walk_width must be > 0 and at most pi, got {self.walk_width}")

    @cached_property
    def latents(self) -> LatentTerms:
        """The latents and the terms of -log w. Raises ValueError for a flow without independent latents."""
        return latent_terms(self.flow, self.action)

    @cached_property
    def blocks(self) -> Labels:
        """The number of each latent's block. Raises ValueError if block_side was neither given nor tuned."""
        if self.block_side is None:
            raise ValueError("block_side is not set: give it, or call tune() first")
        return self.latents.blocks(self.block_side)

    @cached_property
    def colours(self) -> list[Colour]:
        """The blocks that are changed at once."""
        return colours_of(self.blocks, self.latents.cones(self.blocks))

    def init(self, x: Array, streams: Streams) -> LatentBlocksState:
        """The state of chains at x (B, *event)."""
        x = np.array(x, dtype=np.float64, order="C")
        with torch.no_grad():
            y = self.latents.origin(self._there(x)).double()
            terms = self.latents.image(y).terms
        return LatentBlocksState(x, y.cpu().numpy(), terms.cpu().numpy(), streams.copy())

    def step(self, state: LatentBlocksState, n_updates: int = 1) -> tuple[LatentBlocksState, AcceptInfo]:
        """Make n_updates sweeps. Raises ValueError if block_side was neither given nor tuned."""
        accepted = np.zeros(len(state.x))
        for _ in range(n_updates):
            state, accepts = self._sweep(state)
            accepted += np.concatenate(accepts, 1).mean(1)
        return state, AcceptInfo(accepted / n_updates)

    def _sweep(self, state: LatentBlocksState) -> tuple[LatentBlocksState, list[NDArray[np.bool_]]]:
        """The state after one proposal for each block, and for each colour which were accepted, (B, n)."""
        proposed, log_u, streams = self._proposed(state)
        y, terms = state.y.copy(), state.terms.copy()
        values = self.latents.values(self._there(state.x)).cpu().numpy().copy()
        accepts = []
        for colour in self.colours:
            trial = y.copy()
            trial[:, colour.latents.places] = proposed[:, colour.latents.places]
            image = self._image(trial)
            places = colour.terms.places
            with np.errstate(invalid="ignore"):  # from infinity to infinity nothing is accepted
                rise = np.add.reduceat(image.terms[:, places] - terms[:, places], colour.starts, axis=1)
                accept = log_u[:, colour.blocks] < -rise
            for old, new, changed in (
                (y, trial, colour.latents),
                (terms, image.terms, colour.terms),
                (values, image.values, colour.values),
            ):
                places, kept = changed.places, accept[:, changed.by]
                old[:, places] = np.where(kept, new[:, places], old[:, places])
            accepts.append(accept)
        x, streams = self.latents.configurations(self._there(values), streams)
        return LatentBlocksState(x, y, terms, streams), accepts

    def _proposed(self, state: LatentBlocksState) -> tuple[Array, Array, Streams]:
        """New latents (B, n), log u of the tests (B, n_blocks), and the advanced streams.

        Either kind of proposal keeps the density of the prior and is as likely as its opposite.
        """
        blocks, y, streams = self.blocks, state.y, state.streams
        n_blocks = int(blocks.max()) + 1
        if self.latents.gaussian:
            fresh, streams = normals(streams, y.shape[1])
            stepped = np.cos(self.walk_width) * y + np.sin(self.walk_width) * fresh
        else:
            u, streams = uniforms(streams, y.shape[1])
            fresh = np.pi * (2.0 * u - 1.0)
            stepped = CIRCLE.wrap(torch.from_numpy(y + self.walk_width * (2.0 * u - 1.0))).numpy()
        u, streams = uniforms(streams, 2 * n_blocks)
        walks = (u[:, :n_blocks] < self.walk_fraction)[:, blocks]
        return np.where(walks, stepped, fresh), np.log(u[:, n_blocks:]), streams

    def tune(self, state: LatentBlocksState, n_updates: int, report: Report = silent) -> "LatentBlocks":
        """This sampler with the block_side that renews the latents most often per evaluation of the flow.

        The acceptance `a` of a colour stands for normal fluctuations of log w with a standard deviation sigma,
        a = erfc(sigma / 2), of which a share exp(-sigma^2) of the proposals is worth an independent one. All colours
        must be renewed, so their harmonic mean counts, divided by their number. Sizes with too many colours to be
        better even if everything were accepted are passed over.
        """
        if self.tuned:
            return self
        best, rate, sides = self, 0.0, self.latents.sides[::-1]
        for side in sides:
            trial = replace(self, block_side=side)
            if (n_colours := len(trial.colours)) * rate >= 1.0:
                continue
            report(f"block_side = {side}")
            n_sweeps, accepted = max(4, n_updates // len(sides)), np.zeros(n_colours)
            for sweep in range(n_sweeps):
                state, accepts = trial._sweep(state)
                if 2 * sweep >= n_sweeps:
                    accepted += [accept.sum() for accept in accepts]
            n_tests = (n_sweeps // 2) * len(state.x) * np.array([len(colour.blocks) for colour in trial.colours])
            renewed = statistics.harmonic_mean(map(_renewal, (accepted + 0.5) / (n_tests + 1.0))) / n_colours
            if not best.tuned or renewed > rate:
                best, rate = trial, renewed
        return best

    def _image(self, y: Array) -> LocalImage:
        """The image of latents, as arrays."""
        with torch.no_grad():
            image = self.latents.image(self._there(y))
        return LocalImage(*(part.cpu().numpy() for part in image))  # type: ignore[arg-type]

    def _there(self, x: Array) -> Tensor:
        return torch.from_numpy(x).to(device_of(self.flow))


def _renewal(acceptance: float) -> float:
    """The share of proposals that are worth an independent one, see `LatentBlocks.tune`."""
    return math.exp(-2.0 * _NORMAL.inv_cdf(0.5 * acceptance) ** 2)
