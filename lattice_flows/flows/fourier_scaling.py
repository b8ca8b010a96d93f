"""Linear maps of scalar fields that scale every Fourier mode: from one correlation length to another."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.phi4_prior import FreeFieldPrior
from lattice_flows.flows.plan import FlowPlan, building, check_between
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar

_SOFTEST = 0.1  # phat^2 below which modes are no longer told apart well: a correlation length of about three sites
MOST_KNOTS = 100
_START_MASS_SQUARED = 1.0


def phat_squared(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """phat^2 = sum_mu 4 sin^2(k_mu / 2) of every momentum of a periodic lattice, (*shape)."""
    of_axes = [np.square(2.0 * np.sin(np.pi * np.arange(extent) / extent)) for extent in shape]
    return np.asarray(sum(np.ix_(*of_axes), np.zeros(shape)), dtype=np.float64)


def momentum_basis(shape: tuple[int, ...], n_knots: int) -> Tensor:
    """The functions of the momentum, (n_knots, *shape), that are linear between `n_knots` points equally spaced in
    log(1 + phat^2 / 0.1), from 0 to the largest phat^2, and 1 at one of them and 0 at the others."""
    place = np.log1p(phat_squared(shape) / _SOFTEST) / np.log1p(4.0 * len(shape) / _SOFTEST)
    hats = [np.interp(place, np.linspace(0.0, 1.0, n_knots), row) for row in np.eye(n_knots)]
    return torch.from_numpy(np.stack(hats))


class Spectrum(nn.Module, ABC):
    """A number for every momentum of a lattice, linear in `n_values` parameters."""

    n_values: int

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """values (..., n_values) -> the number of every momentum, (..., *sites)."""


class SmoothSpectrum(Spectrum):
    """A function of phat^2 that is linear between its values at `n_knots` points, see `momentum_basis`: one set of
    parameters for any lattice."""

    basis: Tensor

    def __init__(self, sites: tuple[int, ...], n_knots: int) -> None:
        super().__init__()
        self.n_values = n_knots
        self.register_buffer("basis", momentum_basis(sites, n_knots), persistent=False)  # (n_knots, *sites)

    def forward(self, values: Tensor) -> Tensor:
        return torch.tensordot(values, self.basis.to(values.dtype), 1)


class OrbitSpectrum(Spectrum):
    """A value for every orbit of momenta under reflections, and exchanges of axes of equal length."""

    orbits: Tensor

    def __init__(self, sites: tuple[int, ...]) -> None:
        super().__init__()
        momenta = np.indices(sites).reshape(len(sites), -1).T
        folded = np.minimum(momenta, np.array(sites) - momenta)
        for extent in set(sites):
            alike = np.flatnonzero(np.array(sites) == extent)
            folded[:, alike] = np.sort(folded[:, alike], axis=1)
        representatives, orbits = np.unique(folded, axis=0, return_inverse=True)
        self.n_values = len(representatives)
        self.register_buffer("orbits", torch.from_numpy(orbits.reshape(sites)), persistent=False)  # (*sites)

    def forward(self, values: Tensor) -> Tensor:
        return values[..., self.orbits]


class FourierScaling(Transform):
    """phi(k) -> e^c(k) phi(k) on a periodic lattice: a convolution (arXiv:1901.11137 section 3.2) of positive spectrum.

    c comes from its `spectrum`, for each of the `channels` from values of its own: fields are (B, *channels, *sites).
    All of them zero is the identity. It commutes with all symmetries of the lattice and with the sign of the field.
    """

    domain = codomain = REAL

    def __init__(self, sites: tuple[int, ...], spectrum: Spectrum, channels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.sites, self.spectrum = sites, spectrum
        self.values = nn.Parameter(torch.zeros(*channels, spectrum.n_values))

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the map to the identity."""
        nn.init.zeros_(self.values)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        c = self.exponents(z)
        return self.scaled(z, c), c.sum().expand(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c = self.exponents(x)
        return self.scaled(x, -c), -c.sum().expand(len(x))

    def exponents(self, field: Tensor) -> Tensor:
        """c of every mode, (*channels, *sites), in the dtype of the field."""
        return self.spectrum.forward(self.values.to(field.dtype))

    def scaled(self, field: Tensor, c: Tensor) -> Tensor:
        """The field (B, *channels, *sites) with every mode times e^c."""
        if not len(field):  # which Fourier transforms refuse
            return field
        axes = tuple(range(-len(self.sites), 0))
        half = self.sites[-1] // 2 + 1  # what rfftn keeps of the last axis
        modes = torch.fft.rfftn(field, dim=axes) * torch.exp(c[..., :half])
        return torch.fft.irfftn(modes, s=self.sites, dim=axes)


@forward_with_score.register
def _(transform: FourierScaling, z: Tensor, score: Tensor) -> ScoredField:
    """A symmetric Jacobian that is the same everywhere: the score goes through its inverse."""
    x, log_det = transform.forward(z)
    return ScoredField(x, log_det, transform.scaled(score, -transform.exponents(z).detach()))


@dataclass(frozen=True)
class FourierScalingFlow(FlowPlan):
    """A free field with a learnt factor for every momentum, for phi^4 theories: a layer of stochastic flows.

    It begins at the free field with the action's hopping term and mass 1, and is Gaussian: by itself a flow to free
    fields only. n_knots: values of the exponent, see `SmoothSpectrum`.

    Raises ValueError for a theory that is not phi^4, a lattice with a side of one site, and values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    n_knots: int = 6

    space: ClassVar[Space] = REAL

    def __post_init__(self) -> None:
        check_between("n_knots", self.n_knots, 2, MOST_KNOTS)
        self._hop  # noqa: B018  (checks the theory and the shape)

    @cached_property
    def _hop(self) -> float:
        """The hopping term's coefficient. Raises ValueError for what the flow does not support."""
        if not isinstance(self.action, LocalScalar):
            name = type(self.action).__name__
            raise ValueError(f"fourier_scaling is a flow of phi4 and phi4_hopping, got {name}")
        return self.action.kernel_couplings(tuple(self.shape)).hop

    def assemble(self) -> Flow:
        """The free field and its factors."""
        shape = tuple(self.shape)
        prior = FreeFieldPrior(shape, _START_MASS_SQUARED, self._hop)
        return Flow(prior, Chain(FourierScaling(shape, SmoothSpectrum(shape, self.n_knots))))


fourier_scaling = building(FourierScalingFlow)
