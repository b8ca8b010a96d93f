"""Actions of planar spins on a square lattice."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.molecular_dynamics import Couplings
from lattice_flows.kernels.sweeps import Metropolis, sweeps
from lattice_flows.kernels.wolff import wolff
from lattice_flows.lattice import CIRCLE, TWO_PI, Space, shift
from lattice_flows.theories.action import (
    Action,
    Array,
    ClusterUpdates,
    DirectSampler,
    Field,
    LocalUpdates,
    NamedObservable,
    Shape,
    Streams,
)
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.xy.kernels.dynamics import Cosine
from lattice_flows.theories.xy.kernels.updates import HeatBath, Images, Overrelaxation
from lattice_flows.theories.xy.observables import NAMED, Energy, HelicityModulus, Magnetisation, VortexDensity

_MOST = 1e6


class ClusterInfo(NamedTuple):
    """The mean fraction of the sites that an update flipped, and the estimate of V <|m|^2> from the clusters, (B,)."""

    cluster_size: Array
    improved_susceptibility: Array


@dataclass(frozen=True)
class PlanarSpins(Action):
    """S = sum_n,mu V(theta(n + mu) - theta(n)) of angles theta (B, L0, L1), with an even V of period 2 pi.

    The target is exp(-S)/Z relative to d theta / 2 pi per site. On a side of two sites a pair has two links.
    """

    beta: float
    space: ClassVar[Space] = CIRCLE
    symbols: ClassVar[Mapping[str, str]] = {"beta": "β"}
    dimensions: ClassVar[range] = range(2, 3)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    least_beta: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not self.least_beta <= self.beta <= _MOST:
            raise ValueError(f"beta must be a number between {self.least_beta:g} and {_MOST:g}, got {self.beta}")

    @abstractmethod
    def of_links(self, d: Tensor) -> Tensor:
        """V of each difference d (...)."""

    @abstractmethod
    def kernel_couplings(self, event: Shape) -> Couplings:
        """The couplings of V, of any shape."""

    def __call__(self, x: Tensor) -> Tensor:
        along = [self.of_links(shift(x, mu) - x).flatten(1).sum(1, dtype=torch.float64) for mu in range(2)]
        return along[0] + along[1]

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """One angle per site of a plane."""
        if len(lattice_shape) != 2 or min(lattice_shape) < 2:
            raise ValueError(f"planar spins need two sides of two sites or more, got the shape {list(lattice_shape)}")
        return FieldSpec("theta", ("x0", "x1"), lattice_shape)

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """Energy, magnetisation, helicity modulus and vortex density."""
        return Energy(self), Magnetisation(), HelicityModulus(self), VortexDensity()

    def local_updates(self, event: Shape, backwards: bool = False) -> LocalUpdates:
        """Metropolis."""
        v = self.kernel_couplings(event)
        return LocalUpdates(lambda x, streams, width, n: sweeps(Metropolis(width), v, x, streams, n, backwards))

    def cluster_updates(self, event: Shape) -> ClusterUpdates:
        """Reflections about a random line through the origin."""

        def update(x: Field, streams: Streams, n: int) -> tuple[Field, Streams, ClusterInfo]:
            x, streams, size, square = wolff(self.kernel_couplings(event), x, streams, n)
            return x, streams, ClusterInfo(size, 2.0 * square)  # of one of two components

        return ClusterUpdates(wolff=update)


@dataclass(frozen=True)
class XY(PlanarSpins):
    """The XY model, S = -beta sum_<nm> cos(theta_n - theta_m).

    Raises ValueError for a beta outside 0 ... 1e6.
    """

    title: ClassVar[str] = "XY model"

    def of_links(self, d: Tensor) -> Tensor:
        return -self.beta * torch.cos(d)

    def kernel_couplings(self, event: Shape) -> Cosine:
        return Cosine(float(self.beta))

    def direct_sampler(self) -> DirectSampler | None:
        """Independent spins at beta = 0."""
        if self.beta > 0:
            return None
        return DirectSampler(draw=lambda event, streams: self.hot(streams, event), log_q=lambda x: np.zeros(len(x)))

    def local_updates(self, event: Shape, backwards: bool = False) -> LocalUpdates:
        """Metropolis, heat bath and overrelaxation, which changes S by no more than roundings."""
        v, updates = self.kernel_couplings(event), super().local_updates(event, backwards)
        return updates._replace(
            heatbath=lambda x, streams, n: sweeps(HeatBath(), v, x, streams, n, backwards)[:2],
            overrelaxation=lambda x, streams, n: sweeps(Overrelaxation(), v, x, streams, n, backwards),
        )

    def multiple_of(self, other: Action) -> float | None:
        """beta / beta_other."""
        return self.beta / other.beta if isinstance(other, XY) and other.beta > 0 else None

    def scaled(self, factor: float) -> "XY":
        """Of coupling factor * beta."""
        return XY(factor * self.beta)

    def toward(self, other: Action, t: float) -> Action:
        """Of the coupling in between, where the other is an XY model too."""
        return XY((1.0 - t) * self.beta + t * other.beta) if isinstance(other, XY) else super().toward(other, t)


@dataclass(frozen=True)
class Villain(PlanarSpins):
    """Villain's form of it, S = -sum_<nm> log sum_k exp(-beta/2 (theta_n - theta_m + 2 pi k)^2).

    J. Villain, J. Phys. (Paris) 36 (1975) 581.

    Raises ValueError for a beta outside 0.15 ... 1e6: below, the sum needs more terms than are added up.
    """

    title: ClassVar[str] = "Villain model"
    least_beta = 0.15

    def of_links(self, d: Tensor) -> Tensor:
        images = CIRCLE.wrap(d)[..., None] + TWO_PI * torch.arange(-3, 4, dtype=d.dtype, device=d.device)
        return -torch.logsumexp(-0.5 * self.beta * images**2, dim=-1)

    def kernel_couplings(self, event: Shape) -> Images:
        gap = 4.0 * math.pi**2 * self.beta
        return Images(float(self.beta), math.exp(-gap), math.exp(-3.0 * gap))
