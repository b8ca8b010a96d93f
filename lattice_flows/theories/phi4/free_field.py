"""Closed forms and independent configurations of the free scalar field, phi^4 theory at lam = 0.

    S = hop sum_x [ phi(x) sum_mu (2 phi(x) - phi(x+mu) - phi(x-mu)) + m2 phi(x)^2 ]

is a quadratic form with the eigenvalues hop (phat^2 + m2), phat_mu = 2 sin(k_mu / 2), so every momentum is an
independent Gaussian of variance 1 / (2 hop (phat^2 + m2)): for hop = 1 the propagator of arXiv:2101.08176.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.random import normals

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


def _squared_momentum(extent: int) -> Array:
    """4 sin^2(k/2) of k = 2 pi n / L, n = 0 ... L - 1."""
    return 4.0 * np.sin(np.pi * np.arange(extent) / extent) ** 2


@dataclass(frozen=True)
class FreeField:
    """Expectation values at mass squared m2 on a periodic lattice of this shape, in any dimension.

    hop: the normalisation of the field; 1 in `Phi4`, kappa in `Phi4Hopping`.

    Raises ValueError for m2 or hop not above 0 and for a shape without sites.
    """

    m2: float
    shape: tuple[int, ...]
    hop: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.m2 < np.inf and 0 < self.hop < np.inf):
            raise ValueError(f"a free field needs m2 > 0 and hop > 0, got m2 = {self.m2}, hop = {self.hop}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"the extents of a lattice must be 1 or more, got {self.shape}")

    @property
    def n_sites(self) -> int:
        return int(np.prod(self.shape))

    @cached_property
    def propagator(self) -> Array:
        """G(k) = <|phi(k)|^2> / V = 1 / (2 hop (phat^2 + m2)) of all momenta, in the order of np.fft.fftn: `shape`."""
        phat2 = np.zeros(self.shape)
        for mu, extent in enumerate(self.shape):
            phat2 += np.expand_dims(_squared_momentum(extent), tuple(nu for nu in range(phat2.ndim) if nu != mu))
        return 1.0 / (2.0 * self.hop * (phat2 + self.m2))

    @property
    def action(self) -> float:
        """<S> = V / 2, by equipartition."""
        return 0.5 * self.n_sites

    @property
    def log_z(self) -> float:
        """log Z relative to prod d phi: (1/2) sum_k log(2 pi G(k))."""
        return 0.5 * float(np.log(2.0 * np.pi * self.propagator).sum())

    @property
    def phi_squared(self) -> float:
        """<phi(x)^2>."""
        return float(self.propagator.mean())

    @property
    def magnetisation_squared(self) -> float:
        """<M^2> of the mean M of phi over the lattice."""
        return self.susceptibility / self.n_sites

    @property
    def abs_magnetisation(self) -> float:
        """<|M|> of a Gaussian M."""
        return float(np.sqrt(2.0 / np.pi * self.magnetisation_squared))

    @property
    def susceptibility(self) -> float:
        """V <M^2> = G(0)."""
        return 1.0 / (2.0 * self.hop * self.m2)

    @property
    def connected_susceptibility(self) -> float:
        """V (<M^2> - <|M|>^2)."""
        return (1.0 - 2.0 / np.pi) * self.susceptibility

    @property
    def binder_cumulant(self) -> float:
        """1 - <M^4> / (3 <M^2>^2) of a Gaussian M."""
        return 0.0

    @property
    def link_energy(self) -> float:
        """<phi(x) phi(x+mu)>, averaged over mu."""
        total = 0.0
        for mu, extent in enumerate(self.shape):
            others = tuple(nu for nu in range(len(self.shape)) if nu != mu)
            total += np.cos(2.0 * np.pi * np.arange(extent) / extent) @ self.propagator.sum(axis=others)
        return float(total) / (len(self.shape) * self.n_sites)

    def time_slice_correlator(self, distance: int) -> float:
        """C(t) = sum_x <phi(0, 0) phi(t, x)> at distance t along axis 0, x the other coordinates."""
        extent = self.shape[0]
        zero_momentum = self.propagator.reshape(extent, -1)[:, 0]
        return float(np.cos(2.0 * np.pi * distance * np.arange(extent) / extent) @ zero_momentum) / extent

    @property
    def effective_mass(self) -> float:
        """arccosh((C(t-1) + C(t+1)) / (2 C(t))) at 0 < t < L_0, where it does not depend on t: cosh = 1 + m2/2."""
        return float(np.arccosh(1.0 + 0.5 * self.m2))

    @property
    def lowest_mode_squared(self) -> float:
        """<|sum_x phi(x) exp(2 pi i x_mu / L_mu)|^2> / V, averaged over mu."""
        lowest = [_squared_momentum(extent)[1 % extent] for extent in self.shape]
        return float(np.mean([1.0 / (2.0 * self.hop * (phat2 + self.m2)) for phat2 in lowest]))

    @property
    def second_moment_correlation_length(self) -> float:
        """sqrt(chi / F - 1) / (2 sin(pi / L)) = 1 / m on a lattice of equal extents L, F the lowest mode squared."""
        return float(1.0 / np.sqrt(self.m2))


def sample_free_field(m2: float, shape: tuple[int, ...], streams: Streams, hop: float = 1.0) -> tuple[Array, Streams]:
    """One independent configuration per stream, phi (B, *shape), and the advanced streams.

    White noise is filtered by the square root of the propagator in momentum space.

    Raises the same ValueErrors as FreeField.
    """
    amplitudes = np.sqrt(FreeField(m2, shape, hop).propagator)[..., : shape[-1] // 2 + 1]  # of the half kept by rfftn
    noise, streams = normals(streams, int(np.prod(shape)))
    axes = tuple(range(1, len(shape) + 1))
    modes = np.fft.rfftn(noise.reshape(-1, *shape), axes=axes)
    return np.fft.irfftn(modes * amplitudes, s=shape, axes=axes), streams
