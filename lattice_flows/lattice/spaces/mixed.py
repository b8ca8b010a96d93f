"""Configurations of which some numbers are angles."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lattice_flows.lattice.spaces.circle import CIRCLE
from lattice_flows.lattice.spaces.real import REAL
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams


@dataclass(frozen=True)
class Mixed(Space):
    """Configurations of the shape `event` whose numbers are angles in [-pi, pi) at the places `angles`, counted in C
    order, and real numbers elsewhere, with the measure dx of all of them.

    Raises ValueError for places outside of a configuration.
    """

    event: Shape
    angles: tuple[int, ...]

    def __post_init__(self) -> None:
        size = math.prod(self.event)
        if not all(0 <= place < size for place in self.angles):
            raise ValueError(f"places of angles must be between 0 and {size - 1}, got {list(self.angles)}")

    @property
    def variable_shape(self) -> Shape:  # type: ignore[override]
        return self.event

    @property
    def tangent_shape(self) -> Shape:  # type: ignore[override]
        return self.event

    def wrap(self, x: Tensor) -> Tensor:
        return torch.where(self.mask(x.device), CIRCLE.wrap(x), x)

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        lines, streams = REAL.hot(streams, event)
        circles, streams = CIRCLE.hot(streams, event)
        return np.where(self.mask().numpy(), circles, lines), streams

    def cold(self, event: Shape) -> Array:
        return np.zeros(event)

    def stored(self, x: Array, dtype: str) -> Array:
        return np.where(self.mask().numpy(), CIRCLE.stored(x, dtype), REAL.stored(x, dtype))

    def fault(self, x: Tensor) -> str | None:
        return CIRCLE.fault(x[..., self.mask(x.device)])

    def mask(self, device: torch.device | str = "cpu") -> Tensor:
        """Whether a number is an angle, (*event)."""
        return self._on_host.to(device)

    @cached_property
    def _on_host(self) -> Tensor:
        mask = torch.zeros(math.prod(self.event), dtype=torch.bool)
        mask[list(self.angles)] = True
        return mask.reshape(self.event)

    def __str__(self) -> str:
        return "real numbers and angles"
