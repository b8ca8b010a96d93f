"""Actions of two coordinates, with modes that a sampler may miss: small enough for quadrature."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice import REAL, Interval, Product, Space
from lattice_flows.theories.action import Action, Array, Field, NamedObservable, Shape, Streams
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.potentials import closed_forms
from lattice_flows.theories.potentials.closed_forms import ExactPotential
from lattice_flows.theories.potentials.kernels.dynamics import (
    HIGH,
    LOW,
    MUELLER_BROWN,
    DoubleWellCouplings,
    MuellerBrownCouplings,
)
from lattice_flows.theories.potentials.observables import NAMED, Basin, Coordinate, HalfPlane, PotentialEnergy

_LARGEST_SCALE = 10.0  # which the quadrature of the closed forms resolves
_TRIES = 64  # of a hot start


class Potential(Action):
    """S = scale u(x, y) of points x (B, 2), without a lattice. The target is exp(-S)/Z relative to dx dy."""

    scale: float
    dimensions: ClassVar[range] = range(1)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    basin: ClassVar[HalfPlane]
    """A half plane with one of the minima, whose probability is measured."""

    @abstractmethod
    def couplings(self, scale: float) -> Any:
        """Those of the compiled action scale * u."""

    def potential(self, x: Array) -> Array:
        """u of each point (N, 2) -> (N,)."""
        return hmc.action(self.couplings(1.0), x)

    def kernel_couplings(self, event: Shape) -> Any:
        """Always compiled."""
        return self.couplings(float(self.scale))

    def multiple_of(self, other: Action) -> float | None:
        """The ratio of the scales."""
        return self.scale / other.scale if isinstance(other, Potential) and type(other) is type(self) else None

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """The two coordinates."""
        if lattice_shape:
            raise ValueError(f"{type(self).__name__} has no lattice, got the shape {list(lattice_shape)}")
        return FieldSpec("x", ("coordinate",), (2,))

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """Both coordinates, the potential and the basin."""
        return Coordinate(0), Coordinate(1), PotentialEnergy(self), Basin(self)


@dataclass(frozen=True)
class DoubleWell(Potential):
    """S = scale (x^4 - 6 x^2 - x/2 + y^2/2): minima at x = -1.71 and x = 1.75, the right one deeper by 1.73.

    arXiv:2208.01893 multiplies 16 copies of it. Raises ValueError for a scale that is not above 0 and at most 10.
    """

    scale: float = 1.0
    title: ClassVar[str] = "double well"
    space: ClassVar[Space] = REAL
    basin: ClassVar[HalfPlane] = HalfPlane(axis=0, edge=0.0, above=False)

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def couplings(self, scale: float) -> DoubleWellCouplings:
        return DoubleWellCouplings(scale)

    def __call__(self, x: Tensor) -> Tensor:
        first, second = x.unbind(1)
        square = first * first
        return self.scale * (square * (square - 6.0) - 0.5 * first + 0.5 * second * second).double()

    def force(self, x: Tensor) -> Tensor:
        """-scale (4 x^3 - 12 x - 1/2, y)."""
        first, second = x.unbind(1)
        return -self.scale * torch.stack([first * (4.0 * first * first - 12.0) - 0.5, second], 1)

    def closed_forms(self, lattice_shape: Shape) -> ExactPotential:
        """By quadrature."""
        return closed_forms.double_well(self.scale, self.basin.edge)


@dataclass(frozen=True)
class MuellerBrown(Potential):
    """S = scale u of the potential of K. Mueller and L. D. Brown, Theor. Chim. Acta 53 (1979) 75, between walls.

    Four Gaussians, the last one inverted, on [-1.8, 1.4] x [-0.8, 2.4]: three minima at u = -146.7, -108.2 and -80.8,
    the deepest at (-0.56, 1.44), with bent paths between them. The default scale is a temperature of 10 in the paper's
    units. S is infinite outside. Raises ValueError for a scale that is not above 0 and at most 10.
    """

    scale: float = 0.1
    title: ClassVar[str] = "Müller–Brown potential"
    space: ClassVar[Space] = Product(tuple(map(Interval, LOW, HIGH)))
    basin: ClassVar[HalfPlane] = HalfPlane(axis=1, edge=0.75, above=True)

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def couplings(self, scale: float) -> MuellerBrownCouplings:
        return MuellerBrownCouplings(scale)

    def __call__(self, x: Tensor) -> Tensor:
        inside = torch.stack([(x[:, k] >= LOW[k]) & (x[:, k] <= HIGH[k]) for k in range(2)]).all(0)
        u = torch.stack([value for value, _, _ in _gaussians(x)]).sum(0)
        return self.scale * torch.where(inside, u, math.inf).double()

    def force(self, x: Tensor) -> Tensor:
        """That of the four terms, inside as outside."""
        slopes = [torch.stack([value * by_x, value * by_y], 1) for value, by_x, by_y in _gaussians(x)]
        return -self.scale * torch.stack(slopes).sum(0)

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        """Uniform where u < 0: near the corners its force is a thousand times that in the minima."""
        u, streams = uniforms(streams, 2 * _TRIES)
        low, high = np.array(LOW), np.array(HIGH)
        tries = low + (high - low) * u.reshape(-1, _TRIES, 2)
        heights = self.potential(tries.reshape(-1, 2)).reshape(-1, _TRIES)
        found = (heights < 0.0).any(1)
        chosen = np.where(found, (heights < 0.0).argmax(1), heights.argmin(1))
        return tries[np.arange(len(tries)), chosen], streams

    def closed_forms(self, lattice_shape: Shape) -> ExactPotential:
        """By quadrature."""
        return closed_forms.mueller_brown(self.scale, self.basin.edge)


def _gaussians(x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each of the four terms at x (B, 2), and the derivatives of its logarithm by x and y, (B,)."""
    for amplitude, a, b, c, x0, y0 in MUELLER_BROWN.tolist():  # numbers, which no device has to wait for
        dx, dy = x[:, 0] - x0, x[:, 1] - y0
        value = amplitude * torch.exp(a * dx * dx + b * dx * dy + c * dy * dy)
        yield value, 2.0 * a * dx + b * dy, b * dx + 2.0 * c * dy


def _check_scale(scale: float) -> None:
    if not 0 < scale <= _LARGEST_SCALE:
        raise ValueError(f"scale must be above 0 and at most {_LARGEST_SCALE:g}, got {scale}")
