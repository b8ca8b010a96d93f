"""Transforms of blocks of sites: of their sums alone, or with the sites of a block as channels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.fft
import torch
from torch import Tensor, nn

from lattice_flows.flows.plan import Ability, check_between
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.transforms.plan import (
    Fields,
    Sequel,
    TransformPlan,
    TransformTables,
    check_lattice,
)
from lattice_flows.lattice import REAL

Basis = Literal["sites", "sums"]
_LARGEST_BLOCK = 64


class Blocks(nn.Module):
    """An orthonormal map from fields on a lattice to the variables of its blocks of `side` sites a side.

    basis: "sites" keeps them as they are; "sums" takes the discrete cosine transform of each block, whose first
    variable is the sum of the block's sites divided by the square root of their number.
    """

    matrix: Tensor

    def __init__(self, n_axes: int, side: int, basis: Basis) -> None:
        super().__init__()
        self.n_axes, self.side = n_axes, side
        one = np.eye(side) if basis == "sites" else scipy.fft.dct(np.eye(side), axis=0, norm="ortho")
        matrix = np.eye(1)
        for _ in range(n_axes):
            matrix = np.kron(matrix, one)
        self.register_buffer("matrix", torch.from_numpy(matrix), persistent=False)

    def apart(self, field: Tensor) -> Tensor:
        """(B, *sites) -> (B, side^D, *blocks)."""
        for axis in range(self.n_axes):
            field = field.unflatten(1 + 2 * axis, (-1, self.side))  # (B, blocks, side, blocks, side, ...)
        inside = range(2, 2 + 2 * self.n_axes, 2)
        channels = field.movedim(tuple(inside), tuple(range(1, 1 + self.n_axes))).flatten(1, self.n_axes)
        return torch.einsum("ij,bj...->bi...", self.matrix.to(field.dtype), channels)

    def together(self, channels: Tensor) -> Tensor:
        """The inverse of `apart`."""
        field = torch.einsum("ij,bi...->bj...", self.matrix.to(channels.dtype), channels)
        field = field.unflatten(1, (self.side,) * self.n_axes)
        inside = range(2, 2 + 2 * self.n_axes, 2)
        field = field.movedim(tuple(range(1, 1 + self.n_axes)), tuple(inside))
        for axis in range(self.n_axes):
            field = field.flatten(1 + axis, 2 + axis)
        return field


class InBlocks(Transform):
    """The `inner` transform of the first `n_channels` variables of every block; the others stay.

    The inner one maps fields (B, n_channels, *blocks), of one channel (B, *blocks).
    """

    domain = codomain = REAL

    def __init__(self, blocks: Blocks, inner: Transform, n_channels: int) -> None:
        super().__init__()
        self.blocks, self.inner, self.n_channels = blocks, inner, n_channels

    @property
    def error(self) -> float:  # type: ignore[override]
        """That of the inner transform."""
        return self.inner.error

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._moved(z, self.inner.forward)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._moved(x, self.inner.inverse)

    def _moved(self, field: Tensor, move: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        own, rest = self.parted(field)
        moved, log_det = move(own)
        return self.joined(moved, rest), log_det

    def parted(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """What the inner transform maps, and the other channels."""
        channels = self.blocks.apart(field)
        own = channels[:, : self.n_channels]
        return own.squeeze(1) if self.n_channels == 1 else own, channels[:, self.n_channels :]

    def joined(self, own: Tensor, rest: Tensor) -> Tensor:
        """The inverse of `parted`."""
        return self.blocks.together(torch.cat([own.unsqueeze(1) if self.n_channels == 1 else own, rest], 1))


@forward_with_score.register
def _(transform: InBlocks, z: Tensor, score: Tensor) -> ScoredField:
    """The map to blocks is orthonormal: the score is mapped as the field is."""
    own, rest = transform.parted(z)
    own_score, rest_score = transform.parted(score)
    moved = forward_with_score(transform.inner, own, own_score)
    return ScoredField(transform.joined(moved.x, rest), moved.log_det, transform.joined(moved.score, rest_score))


@dataclass(frozen=True)
class BlocksPlan(TransformPlan):
    """Transforms of fields on the lattice of blocks, whose channels are the variables of a block.

    basis: "sites" (arXiv:1605.08803, section 3.6), or "sums", whose first channel is the sum of the block (divided by
    the square root of its number of sites) and whose others are its details. channels: the transforms map only so many
    of them, the first ones, as in Glow's split; by default all.
    """

    transforms: TransformTables
    block: int = 2
    basis: Basis = "sites"
    channels: int | None = None

    def __post_init__(self) -> None:
        check_between("block", self.block, 2, _LARGEST_BLOCK)
        if self.basis not in ("sites", "sums"):
            raise ValueError(f'basis must be "sites" or "sums", got {self.basis!r}')
        self.inner  # noqa: B018  (checks the tables)

    @cached_property
    def inner(self) -> Sequel:
        """The plans of the transforms."""
        return Sequel(self.transforms)

    @property
    def offers(self) -> frozenset[Ability]:  # type: ignore[override]
        """What all inner transforms offer."""
        return self.inner.offers

    @property
    def integrated(self) -> bool:  # type: ignore[override]
        """Whether an inner transform is."""
        return self.inner.integrated

    def check(self, fields: Fields) -> None:
        """Raise ValueError for a lattice that does not divide into blocks, and for too many channels."""
        check_lattice(fields)
        if any(side % self.block for side in fields.sites):
            text = " x ".join(map(str, fields.sites))
            raise ValueError(f"needs sides that are multiples of block = {self.block}, got {text}")
        if self.channels is not None:
            check_between("channels", self.channels, 1, self.block ** len(fields.sites))
        self.inner.check(self._of_blocks(fields))

    def assemble(self, fields: Fields) -> Transform:
        """The inner transforms of the channels."""
        own = self._of_blocks(fields)
        inner = Chain(*self.inner.assemble(own))
        return InBlocks(Blocks(len(fields.sites), self.block, self.basis), inner, math.prod(own.channels))

    def _of_blocks(self, fields: Fields) -> Fields:
        """What the inner transforms map."""
        sites = tuple(side // self.block for side in fields.sites)
        n_channels = self.block ** len(sites) if self.channels is None else self.channels
        # Of sums: between that of independent sites, and of sites that are all the same.
        width = fields.width * (1.0 if self.basis == "sites" else self.block ** (0.25 * len(sites)))
        shape = sites if n_channels == 1 else (n_channels, *sites)
        return fields._replace(shape=shape, sites=sites, width=width)


def coarse(transforms: TransformTables, block: int = 2) -> BlocksPlan:
    """Transforms of the sums of blocks, as a field on the coarse lattice; the details stay.

    Nested, and with couplings of the whole field before and after it, it is a V-cycle over the scales of the lattice.
    Couplings of the sums that see the details are "blocks" with the mask "first_channel".
    """
    return BlocksPlan(transforms, block, "sums", 1)
