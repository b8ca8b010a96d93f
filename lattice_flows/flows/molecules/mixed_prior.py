"""The prior of numbers of which some are angles."""

import math

import torch
from torch import Tensor

from lattice_flows.flows.prior import Prior
from lattice_flows.lattice import Mixed

_LOG_TWO_PI = math.log(2.0 * math.pi)


class MixedPrior(Prior):
    """Independent uniform angles, and standard normal deviates in the places of real numbers."""

    angles: Tensor

    def __init__(self, space: Mixed) -> None:
        super().__init__()
        self.shape, self.space = space.event, space
        angles = torch.zeros(math.prod(space.event), dtype=torch.bool)
        angles[list(space.angles)] = True
        self.register_buffer("angles", angles.reshape(space.event), persistent=False)

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        size = (n, *self.shape)
        normal = torch.randn(size, generator=generator, dtype=dtype, device=generator.device)
        share = torch.rand(size, generator=generator, dtype=dtype, device=generator.device)
        return torch.where(self.angles, math.pi * (2.0 * share - 1.0), normal)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = torch.where(self.angles, 0.0, z.square())
        n_angles = len(self.space.angles)
        n_lines = self.angles.numel() - n_angles
        return -0.5 * squares.flatten(1).sum(1) - (n_angles + 0.5 * n_lines) * _LOG_TWO_PI
