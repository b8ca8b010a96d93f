"""Observables of two coordinates (N, 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from lattice_flows.theories.action import NamedObservable
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term

_NAMES = ("x", "y")


class HalfPlane(NamedTuple):
    """The points whose coordinate number `axis` lies above the edge, or below it."""

    axis: int
    edge: float
    above: bool

    def holds(self, x: Array) -> Array:
        """1 where a point of x (N, 2) lies in it, else 0."""
        return ((x[:, self.axis] > self.edge) == self.above).astype(np.float64)

    @property
    def condition(self) -> str:
        """Such as x < 0."""
        return f"{_NAMES[self.axis]} {'>' if self.above else '<'} {self.edge:g}"


class Surface(Protocol):
    """What these observables ask of an action."""

    basin: ClassVar[HalfPlane]

    def potential(self, x: Array) -> Array:
        """u of each point (N, 2) -> (N,)."""


@dataclass(frozen=True)
class Coordinate(Observable):
    """x (axis 0) or y (axis 1). Raises ValueError for another axis."""

    kind: ClassVar[str] = "coordinate"
    drawn: ClassVar[bool] = True
    axis: int

    def __post_init__(self) -> None:
        if self.axis not in (0, 1):
            raise ValueError(f"axis must be 0 or 1, got {self.axis}")

    @property
    def name(self) -> str:
        return f"coordinate_{self.axis}"

    def __call__(self, x: Array) -> Array:
        return x[:, self.axis].copy()

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        name = _NAMES[self.axis]
        return (
            Quantity(
                f"mean_{name}",
                (Term(self.name),),
                exact=lambda oracle: (oracle.mean_x, oracle.mean_y)[self.axis],
                label=Label(name, name, f"${name}$"),
            ),
        )


@dataclass(frozen=True)
class PotentialEnergy(Observable):
    """u, without the scale of the action."""

    kind: ClassVar[str] = "potential"
    name = "potential"
    action: Surface

    def __call__(self, x: Array) -> Array:
        return self.action.potential(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        label = Label("u", "u", "$u$")
        return (Quantity("potential", (Term(self.name),), exact=lambda oracle: oracle.potential, label=label),)


@dataclass(frozen=True)
class Basin(Observable):
    """1 in the basin that the action names, else 0; its mean is the basin's probability."""

    kind: ClassVar[str] = "basin"
    name = "basin"
    action: Surface

    def __call__(self, x: Array) -> Array:
        return self.action.basin.holds(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        condition = self.action.basin.condition
        label = Label(f"P({condition})", f"P({condition})", f"$P({condition})$")
        return (
            Quantity(
                "basin_probability", (Term(self.name),), exact=lambda oracle: oracle.basin_probability, label=label
            ),
        )


NAMED: Mapping[str, NamedObservable] = {one.kind: one for one in (Coordinate, PotentialEnergy, Basin)}
