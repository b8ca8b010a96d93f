"""Many independent double wells: 2^n_wells modes of known weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import hmc
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action, Array, NamedObservable, Shape
from lattice_flows.theories.observable import Label, Observable, Quantity, Term, closed_form
from lattice_flows.theories.potentials.action import DoubleWell
from lattice_flows.theories.potentials.kernels.dynamics import DoubleWellCouplings
from lattice_flows.theories.potentials.observables import HalfPlane, PotentialEnergy

_MOST_WELLS = 10_000


@dataclass(frozen=True)
class ExactManyWell:
    """log Z relative to the product of all dx dy, the means of x and of the potential u, and the mean and the variance
    of the number of wells with x < 0."""

    log_z: float
    mean_x: float
    potential: float
    left_wells: float
    left_wells_variance: float


@dataclass(frozen=True)
class MeanX(Observable):
    """The mean of x over the wells."""

    kind: ClassVar[str] = "mean_x"
    drawn: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        return np.asarray(x[:, ::2].mean(1))

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return (Quantity("mean_x", (Term(self.name),), exact=closed_form("mean_x"), label=Label("x", "x", "$x$")),)


@dataclass(frozen=True)
class LeftWells(Observable):
    """The number of wells with x < 0, with its mean and its variance."""

    kind: ClassVar[str] = "left_wells"
    drawn: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        return (x[:, ::2] < DoubleWell.basin.edge).sum(1, dtype=np.float64)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        mean, square = Term(self.name), Term(self.name, np.square)
        return (
            Quantity(
                "left_wells",
                (mean,),
                exact=closed_form("left_wells"),
                label=Label("n_left", "n_left", r"$n_\mathrm{left}$"),
            ),
            Quantity(
                "left_wells_variance",
                (square, mean),
                lambda square, mean: square - mean**2,
                exact=closed_form("left_wells_variance"),
                label=Label("var n_left", "var n_left", r"$\mathrm{var}\,n_\mathrm{left}$"),
            ),
        )


@dataclass(frozen=True)
class ManyWell(Action):
    """S = sum_k S_1(x_k, y_k) of n_wells copies of the double well, coordinates x (B, 2 n_wells) = x_1, y_1, x_2, ...

    arXiv:2208.01893 has 16 copies. Raises ValueError for n_wells outside 1 ... 10000, and for a scale that `DoubleWell`
    refuses.
    """

    n_wells: int = 16
    scale: float = 1.0
    title: ClassVar[str] = "many wells"
    space: ClassVar[Space] = REAL
    dimensions: ClassVar[range] = range(1)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = {
        one.kind: one for one in (MeanX, PotentialEnergy, LeftWells)
    }
    basin: ClassVar[HalfPlane] = DoubleWell.basin

    def __post_init__(self) -> None:
        if not 1 <= self.n_wells <= _MOST_WELLS:
            raise ValueError(f"n_wells must be between 1 and {_MOST_WELLS}, got {self.n_wells}")
        self.well  # noqa: B018 - which checks the scale

    @property
    def well(self) -> DoubleWell:
        """One of them."""
        return DoubleWell(self.scale)

    def potential(self, x: Array) -> Array:
        """u of each configuration (N, 2 n_wells) -> (N,)."""
        return hmc.action(DoubleWellCouplings(1.0), x)

    def kernel_couplings(self, event: Shape) -> DoubleWellCouplings:
        """Always compiled."""
        return DoubleWellCouplings(float(self.scale))

    def multiple_of(self, other: Action) -> float | None:
        """The ratio of the scales, of as many wells."""
        return self.scale / other.scale if isinstance(other, ManyWell) and other.n_wells == self.n_wells else None

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """The coordinates of all wells, x and y in turn."""
        if lattice_shape:
            raise ValueError(f"{type(self).__name__} has no lattice, got the shape {list(lattice_shape)}")
        return FieldSpec("x", ("coordinate",), (2 * self.n_wells,))

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """The mean of x, the potential, and the number of wells on the left."""
        return MeanX(), PotentialEnergy(self), LeftWells()

    def __call__(self, x: Tensor) -> Tensor:
        return self.well(x.reshape(-1, 2)).reshape(len(x), self.n_wells).sum(1)

    def force(self, x: Tensor) -> Tensor:
        return self.well.force(x.reshape(-1, 2)).reshape(x.shape)

    def closed_forms(self, lattice_shape: Shape) -> ExactManyWell:
        """Of one well, by quadrature."""
        one, n = self.well.closed_forms(()), self.n_wells
        p = one.basin_probability
        return ExactManyWell(n * one.log_z, one.mean_x, n * one.potential, n * p, n * p * (1.0 - p))
