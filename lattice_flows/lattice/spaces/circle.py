"""Angles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams

TWO_PI = 2.0 * math.pi

_ROUNDING = 1e-6  # radians beyond pi: pi itself in single precision


@dataclass(frozen=True)
class Circle(Space):
    """Angles in [-pi, pi) with the measure d theta / 2 pi."""

    widest = math.pi

    def wrap(self, x: Tensor) -> Tensor:
        wrapped = x - TWO_PI * torch.floor((x + math.pi) / TWO_PI)
        # Rounding of x + pi can miss either end of the half-open interval by a digit.
        return torch.where(wrapped >= math.pi, wrapped - TWO_PI, wrapped).clamp(min=-math.pi)

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        u, streams = uniforms(streams, math.prod(event))
        return self.wrap(TWO_PI * torch.from_numpy(u) - math.pi).numpy().reshape(-1, *event), streams

    def cold(self, event: Shape) -> Array:
        return np.zeros(event)

    def stored(self, x: Array, dtype: str) -> Array:
        if x.dtype == dtype:
            return x
        # The nearest single-precision number to pi lies beyond it.
        edge = np.nextafter(np.asarray(math.pi, dtype), np.asarray(0, dtype))
        return np.clip(x.astype(dtype), -edge, edge)

    def fault(self, x: Tensor) -> str | None:
        largest = float(x.abs().max())
        return f"the largest is {largest:.6g}, beyond pi" if largest > math.pi + _ROUNDING else None

    def __str__(self) -> str:
        return "angles"


CIRCLE = Circle()
