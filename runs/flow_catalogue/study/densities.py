"""Normalised densities in the plane, as actions that flows can learn by energy, and as samples to learn from."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories import Action

EDGE = 4.0  # the figures show the square of this half width
_TALLEST = 1.01  # of the checkerboard before it is normalised


@dataclass(frozen=True)
class PlaneDensity(Action):
    """S = -log p of points x (B, 2), so that Z = 1."""

    space: ClassVar[Space] = REAL

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """Two coordinates."""
        return FieldSpec("x", ("coordinate",), (2,))

    def __call__(self, x: Tensor) -> Tensor:
        return -self.log_prob(x.double())

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p of x (B, 2), (B,)."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent points (n, 2), float64."""


@dataclass(frozen=True)
class GaussianMixture(PlaneDensity):
    """Normal distributions of one width about these centres, of equal weights."""

    centres: tuple[tuple[float, float], ...]
    width: float

    def log_prob(self, x: Tensor) -> Tensor:
        squares = (x[:, None] - self._centres(x)).square().sum(2)  # (B, n)
        log_norm = math.log(2.0 * math.pi * self.width**2 * len(self.centres))
        return torch.logsumexp(-0.5 * squares / self.width**2, 1) - log_norm

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(self.centres), (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self._centres(noise)[which] + self.width * noise

    def _centres(self, like: Tensor) -> Tensor:
        return torch.tensor(self.centres, dtype=like.dtype)


@dataclass(frozen=True)
class Ring(PlaneDensity):
    """The image of a normal deviate z under z/10 + z/|z|: no point has a smaller radius than 1."""

    def log_prob(self, x: Tensor) -> Tensor:
        radius = x.square().sum(1).sqrt()
        inner = (10.0 * (radius - 1.0)).clamp_min(1e-3)  # |z|; a steep wall inside the ring, where p is 0
        inside = 1e3 * (1.0 + 1e-4 - radius).clamp_min(0.0)
        return torch.log(10.0 * inner) - 0.5 * inner.square() - torch.log(2.0 * math.pi * radius) - inside

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return 0.1 * z + z / z.square().sum(1, keepdim=True).sqrt()


@dataclass(frozen=True)
class Checkerboard(PlaneDensity):
    """Eight squares of side 2 within [-4, 4]^2 with soft edges: (1 + s(x) s(y)) / 2, s a smoothed square wave."""

    sharpness: float = 8.0

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_height(x) - self._log_integral

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """By rejection from a square."""
        kept: list[Tensor] = []
        while sum(map(len, kept)) < n:
            x = (EDGE + 1.0) * (2.0 * torch.rand(4 * n, 2, generator=generator, dtype=torch.float64) - 1.0)
            level = _TALLEST * torch.rand(4 * n, generator=generator, dtype=torch.float64)
            kept.append(x[torch.log(level) < self._log_height(x)])
        return torch.cat(kept)[:n]

    def _log_height(self, x: Tensor) -> Tensor:
        """Up to a constant; a wide and low normal distribution leads from everywhere to the squares."""
        wave = torch.tanh(self.sharpness * torch.sin(0.5 * math.pi * x)).prod(1)
        walls = functional.logsigmoid(4.0 * self.sharpness * (EDGE - x.abs())).sum(1)
        return torch.logaddexp(torch.log(0.5 + 0.5 * wave + 1e-9) + walls, -0.1 * x.square().sum(1) - 9.0)

    @cached_property
    def _log_integral(self) -> float:
        line = torch.linspace(-12.0, 12.0, 1201, dtype=torch.float64)
        heights = self._log_height(torch.cartesian_prod(line, line))
        return float(torch.logsumexp(heights, 0)) + 2.0 * math.log(float(line[1] - line[0]))


def _circle(n: int, radius: float) -> tuple[tuple[float, float], ...]:
    angles = [2.0 * math.pi * k / n for k in range(n)]
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _moons(n: int) -> tuple[tuple[float, float], ...]:
    """Two half circles of radius 2 that reach into each other."""
    angles = [math.pi * (k + 0.5) / n for k in range(n)]
    upper = [(2.0 * math.cos(a) - 1.0, 2.0 * math.sin(a) - 0.5) for a in angles]
    return (*upper, *((-x, -y) for x, y in upper))


DENSITIES: dict[str, Callable[[], PlaneDensity]] = {
    "eight_gaussians": lambda: GaussianMixture(_circle(8, 2.83), 0.354),
    "checkerboard": Checkerboard,
    "two_moons": lambda: GaussianMixture(_moons(32), 0.2),
    "ring": Ring,
}
