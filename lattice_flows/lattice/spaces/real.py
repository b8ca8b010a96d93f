"""Real numbers."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams


@dataclass(frozen=True)
class Real(Space):
    """Real numbers with the measure dx; a hot start is a standard normal."""

    def wrap(self, x: Tensor) -> Tensor:
        return x

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        numbers, streams = uniforms(streams, math.prod(event))
        u = torch.from_numpy(numbers)
        normal = torch.special.ndtri(0.5 * (u + torch.nextafter(u, torch.ones_like(u))))
        return normal.numpy().reshape(-1, *event), streams

    def cold(self, event: Shape) -> Array:
        return np.zeros(event)

    def fault(self, x: Tensor) -> str | None:
        return None

    def __str__(self) -> str:
        return "real numbers"


REAL = Real()
