"""The group SU(2)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lattice_flows.kernels.random import normals
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams

_ROUNDING = 1e-5  # of the length of a unit quaternion


@dataclass(frozen=True)
class SU2(Space):
    """Unit quaternions (a, b), U = a + i b.sigma, with the Haar measure.

    Momenta p (3,) are those of the motion U(t) = exp(i t p.sigma) U: at |p| = 1 it runs once around in the time 2 pi.
    """

    variable_shape = (4,)
    tangent_shape = (3,)
    widest = math.pi

    def wrap(self, x: Tensor) -> Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        x, streams = normals(streams, math.prod(event))
        return self.wrap(torch.from_numpy(x.reshape(-1, *event))).numpy(), streams

    def cold(self, event: Shape) -> Array:
        """The unit element."""
        x = np.zeros(event)
        x[..., 0] = 1.0
        return x

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        speed = torch.linalg.vector_norm(momenta, dim=-1, keepdim=True)
        along = time * torch.sinc(speed * (time / math.pi))  # sin(speed time) / speed, also at rest
        rotation = torch.cat([torch.cos(speed * time), along * momenta], dim=-1)  # (..., 4)
        return quaternion_product(rotation, x), momenta

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        # d/dt f(exp(i t p.sigma) U) = sum over components of gradient * ((0, p) U), linear in p.
        scalar, vector = x[..., :1], x[..., 1:]
        by_scalar, by_vector = gradient[..., :1], gradient[..., 1:]
        return scalar * by_vector - vector * by_scalar + torch.linalg.cross(by_vector, vector, dim=-1)

    def fault(self, x: Tensor) -> str | None:
        off = float((torch.linalg.vector_norm(x, dim=-1) - 1.0).abs().max())
        return f"the length of one is off by {off:.3g}" if off > _ROUNDING else None

    def __str__(self) -> str:
        return "unit quaternions"


def quaternion_product(u: Tensor, v: Tensor) -> Tensor:
    """U V of U = a + i b.sigma: (a a' - b.b', a b' + a' b - b x b'), shaped like both."""
    a, b, c, d = u[..., :1], u[..., 1:], v[..., :1], v[..., 1:]
    scalar = a * c - (b * d).sum(-1, keepdim=True)
    return torch.cat([scalar, a * d + c * b - torch.linalg.cross(b, d, dim=-1)], dim=-1)
