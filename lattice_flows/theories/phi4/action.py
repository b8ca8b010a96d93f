"""Actions of the one-component phi^4 theory on a hypercubic lattice of any dimension."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice import REAL, Space, shift
from lattice_flows.theories.action import (
    Action,
    Array,
    ClusterUpdates,
    DirectSampler,
    Field,
    LocalUpdates,
    NamedObservable,
    Streams,
)
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.phi4.collective import COLLECTIVE
from lattice_flows.theories.phi4.free_field import FreeField, sample_free_field
from lattice_flows.theories.phi4.kernels import cluster, local
from lattice_flows.theories.phi4.kernels.dynamics import LocalCouplings
from lattice_flows.theories.phi4.observables import NAMED, standard


class ClusterInfo(NamedTuple):
    """The mean fraction of the sites that an update flipped, (B,)."""

    cluster_size: Array


class LocalScalar(Action):
    """A scalar theory phi (B, *lattice_shape) that is a local form once the dimension is known.

    The target is exp(-S)/Z relative to prod d phi.
    """

    space: ClassVar[Space] = REAL
    title: ClassVar[str] = "φ⁴"
    symbols: ClassVar[Mapping[str, str]] = {"m2": "m²", "lam": "λ", "kappa": "κ"}
    dimensions: ClassVar[range] = range(1, 5)
    clusters_reach_all: ClassVar[bool] = False  # they keep |phi|
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    collective_variables: ClassVar[Mapping[str, CollectiveVariable]] = COLLECTIVE

    @abstractmethod
    def couplings(self, dimension: int) -> LocalCouplings:
        """Of the local form. Raises ValueError where exp(-S) cannot be normalised in this dimension."""

    def __call__(self, x: Tensor) -> Tensor:
        hop, quad, quart = self.couplings(x.ndim - 1)
        forward = sum(shift(x, mu) for mu in range(x.ndim - 1))
        density = x * (x * (quad + quart * x * x) - 2.0 * hop * forward)
        return density.flatten(1).sum(1, dtype=torch.float64)

    def force(self, x: Tensor) -> Tensor:
        """-dS/dphi = 2 hop sum_mu [ phi(x+mu) + phi(x-mu) ] - 2 quad phi - 4 quart phi^3, shaped like x."""
        hop, quad, quart = self.couplings(x.ndim - 1)
        near = sum(shift(x, mu) + shift(x, mu, -1) for mu in range(x.ndim - 1))
        return 2.0 * hop * near - x * (2.0 * quad + 4.0 * quart * x * x)

    def hot(self, streams: Streams, event: tuple[int, ...]) -> tuple[Field, Streams]:
        """Uniform where quad phi^2 + quart phi^4 < 2: a single site far outside would hold up molecular dynamics."""
        _, quad, quart = self.couplings(len(event))
        # The positive root, in the form that does not cancel.
        root = math.sqrt(quad * quad + 8.0 * quart)
        square = 4.0 / (quad + root) if quad > 0 else (root - quad) / (2.0 * quart)
        u, streams = uniforms(streams, math.prod(event))
        return math.sqrt(square) * (2.0 * u.reshape(-1, *event) - 1.0), streams

    def scaled(self, factor: float) -> "LocalScalar":
        """A theory with all coefficients of the local form multiplied."""
        return CombinedScalar(((factor, self),))

    def toward(self, other: Action, t: float) -> Action:
        """A theory with coefficients in between."""
        if isinstance(other, LocalScalar):
            return CombinedScalar(((1.0 - t, self), (t, other)))
        return super().toward(other, t)

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """One real number per site."""
        self.kernel_couplings(lattice_shape)
        return FieldSpec("phi", tuple(f"x{axis}" for axis in range(len(lattice_shape))), lattice_shape)

    def observables(self, lattice_shape: tuple[int, ...]) -> tuple[Observable, ...]:
        """Magnetisation, link energy, lowest mode and two-point function."""
        return standard(lattice_shape)

    def kernel_couplings(self, event: tuple[int, ...]) -> LocalCouplings:
        """Compiled in every dimension."""
        if not event or min(event) < 2:
            raise ValueError(f"a scalar field needs extents of 2 or more, got the shape {list(event)}")
        return self.couplings(len(event))

    def local_updates(self, event: tuple[int, ...], backwards: bool = False) -> LocalUpdates:
        """Compiled in every dimension."""
        c = self.couplings(len(event))
        return LocalUpdates(
            metropolis=lambda x, streams, width, n: local.metropolis(x, streams, *c, width, n, backwards),
            heatbath=lambda x, streams, n: local.heatbath(x, streams, *c, n, backwards),
            overrelaxation=lambda x, streams, n: local.overrelaxation(x, streams, *c, n, backwards),
        )

    def cluster_updates(self, event: tuple[int, ...]) -> ClusterUpdates:
        """Of the signs, in every dimension."""
        c = self.couplings(len(event))

        def wolff(x: Field, streams: Streams, n: int) -> tuple[Field, Streams, ClusterInfo]:
            x, streams, flipped = cluster.cluster(x, streams, *c, n)
            return x, streams, ClusterInfo(flipped)

        return ClusterUpdates(wolff=wolff)

    def closed_forms(self, lattice_shape: tuple[int, ...]) -> FreeField | None:
        """Closed forms of the free field."""
        dimension = len(lattice_shape)
        hop, quad, quart = self.couplings(dimension)
        return FreeField(quad / hop - 2.0 * dimension, lattice_shape, hop) if quart == 0 and hop > 0 else None

    def direct_sampler(self) -> DirectSampler | None:
        """Independent Gaussian momenta of the free field."""

        def draw(event: tuple[int, ...], streams: Streams) -> tuple[Array, Streams]:
            free = self._free(event)
            return sample_free_field(free.m2, event, streams, free.hop)

        def log_q(x: Field) -> Array:
            return -self.evaluate(x) - self._free(x.shape[1:]).log_z

        _, _, quart = self.couplings(1)
        return DirectSampler(draw, log_q) if quart == 0 else None

    def _free(self, lattice_shape: tuple[int, ...]) -> FreeField:
        free = self.closed_forms(lattice_shape)
        assert free is not None
        return free


@dataclass(frozen=True)
class CombinedScalar(LocalScalar):
    """S = sum_k weight_k S_k of such theories."""

    terms: tuple[tuple[float, LocalScalar], ...]

    def couplings(self, dimension: int) -> LocalCouplings:
        parts = np.array([np.multiply(weight, theory.couplings(dimension)) for weight, theory in self.terms])
        return LocalCouplings(*map(float, parts.sum(0)))


def _require_finite(**couplings: float) -> None:
    for name, value in couplings.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def _require_bounded(lam: float) -> None:
    if lam < 0:
        raise ValueError(f"lam must be >= 0 for the action to be bounded below, got {lam}")


@dataclass(frozen=True)
class Phi4(LocalScalar):
    """S = sum_x [ phi(x) sum_mu (2 phi(x) - phi(x+mu) - phi(x-mu)) + m2 phi^2 + lam phi^4 ], arXiv:2101.08176.

    There is no 1/2 on the kinetic term: the free propagator is 1 / (2 (phat^2 + m2)).

    Raises ValueError for couplings that are not finite, lam < 0, and m2 <= 0 at lam = 0.
    """

    m2: float
    lam: float

    def __post_init__(self) -> None:
        _require_finite(m2=self.m2, lam=self.lam)
        _require_bounded(self.lam)
        if self.lam == 0 and self.m2 <= 0:
            raise ValueError(f"without a quartic term (lam = 0) m2 must be > 0, got {self.m2}")

    def couplings(self, dimension: int) -> LocalCouplings:
        return LocalCouplings(1.0, 2.0 * dimension + self.m2, float(self.lam))

    def to_hopping(self, dimension: int) -> "Phi4Hopping":
        """The same theory of the field phi / sqrt(kappa): log Z is that of the result plus (V/2) log kappa."""
        # lam_hopping = lam kappa^2 and m2 + 2D = (1 - 2 lam kappa^2) / kappa: the positive root of a quadratic.
        a, c = self.lam, 2.0 * dimension + self.m2
        root = math.sqrt(c * c + 8.0 * a)
        kappa = 2.0 / (c + root) if c > 0 else (root - c) / (4.0 * a)  # the form that does not cancel
        return Phi4Hopping(kappa, a * kappa * kappa)


@dataclass(frozen=True)
class Phi4Hopping(LocalScalar):
    """S = sum_x [ -2 kappa sum_mu phi(x) phi(x+mu) + (1 - 2 lam) phi^2 + lam phi^4 ].

    Raises ValueError for couplings that are not finite, lam < 0, kappa <= 0 and, at lam = 0 and where the dimension D
    is known, 2 D kappa >= 1.
    """

    kappa: float
    lam: float

    def __post_init__(self) -> None:
        _require_finite(kappa=self.kappa, lam=self.lam)
        _require_bounded(self.lam)
        if self.kappa <= 0:
            raise ValueError(f"kappa must be > 0, got {self.kappa}")

    def couplings(self, dimension: int) -> LocalCouplings:
        if self.lam == 0 and 2 * dimension * self.kappa >= 1:
            raise ValueError(
                f"without a quartic term (lam = 0) kappa must be below {1 / (2 * dimension):g} in {dimension} "
                f"dimensions, got {self.kappa}"
            )
        return LocalCouplings(float(self.kappa), 1.0 - 2.0 * self.lam, float(self.lam))

    def to_phi4(self, dimension: int) -> Phi4:
        """The same theory of the field sqrt(kappa) phi, whose log Z is that of this one plus (V/2) log kappa."""
        self.couplings(dimension)
        return Phi4((1.0 - 2.0 * self.lam) / self.kappa - 2.0 * dimension, self.lam / self.kappa**2)
