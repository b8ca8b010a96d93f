"""Unit vectors."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.kernels.random import normals
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams

_ROUNDING = 1e-5  # of the length of a unit vector


@dataclass(frozen=True)
class Sphere(Space):
    """Unit vectors of n components with the uniform measure, normalised. Momenta are vectors orthogonal to them.

    Raises ValueError for n < 2.
    """

    n: int
    widest: ClassVar[float] = math.pi

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"unit vectors need n >= 2 components, got {self.n}")

    @property
    def variable_shape(self) -> Shape:  # type: ignore[override]
        return (self.n,)

    @property
    def tangent_shape(self) -> Shape:  # type: ignore[override]
        return (self.n,)

    def wrap(self, x: Tensor) -> Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        x, streams = normals(streams, math.prod(event))
        return self.wrap(torch.from_numpy(x.reshape(-1, *event))).numpy(), streams

    def cold(self, event: Shape) -> Array:
        """All along the last component."""
        x = np.zeros(event)
        x[..., -1] = 1.0
        return x

    def momenta(self, x: Array, streams: Streams) -> tuple[NDArray[np.float64], Streams]:
        noise, streams = super().momenta(x, streams)
        return noise - x * (x * noise).sum(-1, keepdims=True), streams

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        speed = torch.linalg.vector_norm(momenta, dim=-1, keepdim=True)
        cosine, sine = torch.cos(speed * time), torch.sin(speed * time)
        along = time * torch.sinc(speed * (time / math.pi))  # sin(speed time) / speed, also at rest
        return cosine * x + along * momenta, cosine * momenta - speed * sine * x

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        return gradient - x * (x * gradient).sum(-1, keepdim=True)

    def fault(self, x: Tensor) -> str | None:
        off = float((torch.linalg.vector_norm(x, dim=-1) - 1.0).abs().max())
        return f"the length of one is off by {off:.3g}" if off > _ROUNDING else None

    def __str__(self) -> str:
        return f"unit vectors of {self.n} components"
