"""Gaussian priors of real scalar fields: independent sites, and the free field."""

import math

import torch
from torch import Tensor, nn

from lattice_flows.flows.prior import Prior
from lattice_flows.lattice import REAL
from lattice_flows.theories.phi4.free_field import FreeField

_LOG_TWO_PI = math.log(2.0 * math.pi)


class GaussianPrior(Prior):
    """Independent normal deviates of mean 0 and standard deviation `width` at every site, relative to prod d phi.

    `shape` is the event, the lattice shape. Raises ValueError for a width that is not positive and finite.
    """

    gaussian = True

    def __init__(self, shape: tuple[int, ...], width: float = 1.0) -> None:
        super().__init__()
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive and finite, got {width}")
        self.shape = tuple(shape)
        self.space = REAL
        self.width = width

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        return self.coloured(_noise(n, self.shape, generator, dtype))

    def coloured(self, noise: Tensor) -> Tensor:
        return self.width * noise

    def whitened(self, z: Tensor) -> Tensor:
        return z / self.width

    def log_prob(self, z: Tensor) -> Tensor:
        normalisation = 0.5 * math.prod(self.shape) * (_LOG_TWO_PI + 2.0 * math.log(self.width))
        return -0.5 * (z / self.width).square().flatten(1).sum(1) - normalisation


class FreeFieldPrior(Prior):
    """The free field on a periodic lattice of any dimension, `theories.phi4.free_field`, relative to prod d phi.

    Every momentum is an independent Gaussian with the propagator G(k) = 1 / (2 hop (phat^2 + mass_squared)),
    phat_mu = 2 sin(k_mu / 2). `shape` is the event, the lattice shape. With `learnable` the mass squared is the given
    one times exp(log_factor), a parameter that starts at 0; samples are differentiable with respect to it.

    Raises ValueError for mass_squared or hop not above 0.
    """

    gaussian = True
    phat2: Tensor

    def __init__(
        self, shape: tuple[int, ...], mass_squared: float, hop: float = 1.0, *, learnable: bool = False
    ) -> None:
        super().__init__()
        propagator = torch.from_numpy(FreeField(mass_squared, tuple(shape), hop).propagator)
        self.shape = tuple(shape)
        self.space = REAL
        self.start, self.hop = mass_squared, hop
        self.register_buffer("phat2", 0.5 / (hop * propagator) - mass_squared, persistent=False)
        self.log_factor = nn.Parameter(torch.zeros(())) if learnable else None

    @property
    def mass_squared(self) -> Tensor:
        """The current mass squared, a float64 number."""
        start = torch.full((), self.start, dtype=torch.float64, device=self.phat2.device)
        return start if self.log_factor is None else start * torch.exp(self.log_factor.double())

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """White noise filtered by the square root of the propagator, as in `sample_free_field`."""
        return self.coloured(_noise(n, self.shape, generator, dtype))

    def coloured(self, noise: Tensor) -> Tensor:
        return self._filtered(noise, torch.sqrt(0.5 / self.eigenvalues()))

    def whitened(self, z: Tensor) -> Tensor:
        return self._filtered(z, torch.sqrt(2.0 * self.eigenvalues()))

    def _filtered(self, x: Tensor, factors: Tensor) -> Tensor:
        """Every Fourier mode times its factor."""
        if not len(x):  # which Fourier transforms refuse
            return x
        half = self.shape[-1] // 2 + 1  # what rfftn keeps of the last axis
        modes = torch.fft.rfftn(x, dim=self._axes())
        return torch.fft.irfftn(modes * factors[..., :half].to(x.dtype), s=self.shape, dim=self._axes())

    def log_prob(self, z: Tensor) -> Tensor:
        """-S_0 - log Z_0; the normalisation of exact.FreeField.log_z."""
        eigenvalues = self.eigenvalues()
        log_z = 0.5 * torch.log(math.pi / eigenvalues).sum()
        image = torch.fft.ifftn(torch.fft.fftn(z, dim=self._axes()) * eigenvalues.to(z.dtype), dim=self._axes()).real
        return -(z * image).flatten(1).sum(1) - log_z.to(z.dtype)

    def eigenvalues(self) -> Tensor:
        """hop (phat^2 + mass_squared) of all momenta: S_0 = sum_k eigenvalue |phi(k)|^2 / V."""
        return self.hop * (self.phat2.double() + self.mass_squared)

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.shape) + 1))


def _noise(n: int, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn((n, *shape), generator=generator, dtype=dtype, device=generator.device)
