"""Priors: the simple densities that flows start from."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lattice_flows.lattice import CIRCLE, TWO_PI, Space


class Prior(nn.Module, ABC):
    """A density that can be sampled directly and evaluated, relative to the reference measure of its space."""

    shape: tuple[int, ...]  # of one configuration: the event
    space: Space

    flat: ClassVar[bool] = False
    """Whether the density is the same everywhere."""

    gaussian: ClassVar[bool] = False
    """Whether `coloured` white noise is distributed as this density."""

    def coloured(self, noise: Tensor) -> Tensor:
        """The configuration that white noise (B, *shape) stands for, a linear map; itself where there is none."""
        return noise

    def whitened(self, z: Tensor) -> Tensor:
        """The inverse of `coloured`."""
        return z

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """n independent configurations (n, *shape), on the generator's device."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z (B, *shape) -> (B,)."""


class HaarU1(Prior):
    """Independent uniform links (B, D, *lattice_shape): the density 1 relative to d theta / 2 pi per link.

    `shape` is the event (D, *lattice_shape).
    """

    flat = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.space = CIRCLE

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        uniform = torch.rand((n, *self.shape), generator=generator, dtype=dtype, device=generator.device)
        return TWO_PI * uniform - math.pi

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[0])
