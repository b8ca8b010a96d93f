"""Variables made of several."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams


@dataclass(frozen=True)
class Product(Space):
    """The components of `parts` after each other on one axis, the last: a variable for each part.

    Raises ValueError for fewer than one part, and for parts that cannot move or have more than one axis.
    """

    parts: tuple[Space, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise ValueError("a product needs one part or more")
        for part in self.parts:
            if part.tangent_shape is None or len(part.variable_shape) > 1:
                raise ValueError(f"a product is made of numbers and vectors that can move, not of {part}")

    @property
    def variable_shape(self) -> Shape:  # type: ignore[override]
        return (sum(math.prod(part.variable_shape) for part in self.parts),)

    @property
    def tangent_shape(self) -> Shape:  # type: ignore[override]
        return (sum(map(_tangent_size, self.parts)),)

    @property
    def widest(self) -> float:  # type: ignore[override]
        return max(part.widest for part in self.parts)

    def wrap(self, x: Tensor) -> Tensor:
        return torch.cat([_flat(part.wrap(own), part.variable_shape) for part, own in self._split(x)], dim=-1)

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        pieces = []
        for part in self.parts:
            piece, streams = part.hot(streams, event[:-1] + part.variable_shape)
            pieces.append(piece if part.variable_shape else piece[..., None])
        return np.concatenate(pieces, axis=-1), streams

    def cold(self, event: Shape) -> Array:
        pieces = [part.cold(event[:-1] + part.variable_shape) for part in self.parts]
        return np.concatenate([p if part.variable_shape else p[..., None] for part, p in zip(self.parts, pieces)], -1)

    def stored(self, x: Array, dtype: str) -> Array:
        if x.dtype == dtype:
            return x
        stored, start = np.empty(x.shape, dtype), 0
        for part in self.parts:
            stop = start + math.prod(part.variable_shape)
            stored[..., start:stop] = part.stored(x[..., start:stop], dtype)
            start = stop
        return stored

    def momenta(self, x: Array, streams: Streams) -> tuple[NDArray[np.float64], Streams]:
        pieces = []
        for part, own in self._split(torch.from_numpy(x)):
            piece, streams = part.momenta(own.numpy(), streams)
            pieces.append(piece if part.tangent_shape else piece[..., None])
        return np.concatenate(pieces, axis=-1), streams

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        ends = []
        for (part, own), p in zip(self._split(x), self._split_momenta(momenta)):
            own_time = time[..., 0] if isinstance(time, Tensor) and not part.variable_shape else time
            end, p = part.drift(own, p, own_time)
            ends.append((_flat(end, part.variable_shape), _flat(p, part.tangent_shape)))
        positions, momenta_ = zip(*ends)
        return torch.cat(positions, dim=-1), torch.cat(momenta_, dim=-1)

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        pairs = zip(self._split(x), self._split(gradient))
        pieces = [_flat(part.tangent(own, slope), part.tangent_shape) for (part, own), (_, slope) in pairs]
        return torch.cat(pieces, dim=-1)

    def fault(self, x: Tensor) -> str | None:
        return next((told for part, own in self._split(x) if (told := part.fault(own))), None)

    def _split(self, x: Tensor) -> Iterator[tuple[Space, Tensor]]:
        start = 0
        for part in self.parts:
            stop = start + math.prod(part.variable_shape)
            yield part, x[..., start:stop] if part.variable_shape else x[..., start]
            start = stop

    def _split_momenta(self, momenta: Tensor) -> Iterator[Tensor]:
        start = 0
        for part in self.parts:
            stop = start + _tangent_size(part)
            yield momenta[..., start:stop] if part.tangent_shape else momenta[..., start]
            start = stop

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(map(str, self.parts)))


def _tangent_size(part: Space) -> int:
    assert part.tangent_shape is not None
    return math.prod(part.tangent_shape)


def _flat(x: Tensor, shape: Shape | None) -> Tensor:
    """x with an axis for its components, where it has none."""
    return x if shape else x[..., None]
