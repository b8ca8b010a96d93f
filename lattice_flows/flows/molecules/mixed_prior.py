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
        n_angles = len(space.angles)
        self.log_volume = (n_angles + 0.5 * (math.prod(space.event) - n_angles)) * _LOG_TWO_PI
        self.register_buffer("angles", space.mask(), persistent=False)

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        size = (n, *self.shape)
        normal = torch.randn(size, generator=generator, dtype=dtype, device=generator.device)
        share = torch.rand(size, generator=generator, dtype=dtype, device=generator.device)
        return torch.where(self.angles, math.pi * (2.0 * share - 1.0), normal)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = torch.where(self.angles, 0.0, z.square())
        return -0.5 * squares.flatten(1).sum(1) - self.log_volume
