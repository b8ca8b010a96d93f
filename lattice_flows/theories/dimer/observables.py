"""Observables of the dimer in its bath, positions (N, n, 2)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from lattice_flows.theories.action import NamedObservable
from lattice_flows.theories.dimer.collective import dimer_distance
from lattice_flows.theories.dimer.kernels.dynamics import MIDDLE
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term, closed_form


class HasEnergy(Protocol):
    """What the energy asks of an action."""

    def energy(self, x: Array) -> Array:
        """Of each configuration (N, n, 2) -> (N,)."""


@dataclass(frozen=True)
class Distance(Observable):
    """d, the length of the dimer."""

    kind: ClassVar[str] = "dimer_distance"
    drawn: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        return dimer_distance(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        exact = closed_form("dimer_distance")
        return (Quantity("dimer_distance", (Term(self.name),), exact=exact, label=Label("d", "d", "$d$")),)


@dataclass(frozen=True)
class Energy(Observable):
    """u, without the scale of the action."""

    kind: ClassVar[str] = "energy"
    drawn: ClassVar[bool] = True
    action: HasEnergy

    def __call__(self, x: Array) -> Array:
        return self.action.energy(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return (Quantity("energy", (Term(self.name),), exact=closed_form("energy"), label=Label("u", "u", "$u$")),)


@dataclass(frozen=True)
class Open(Observable):
    """1 where the dimer is longer than 1.5, on the far side of its barrier, else 0.

    Estimated are P(open) and Delta F = F_open - F_closed = -log[P(open) / P(closed)], in units of kT.
    """

    kind: ClassVar[str] = "open"

    def __call__(self, x: Array) -> Array:
        return (dimer_distance(x) > MIDDLE).astype(np.float64)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        probability = (Term(self.name),)
        return (
            Quantity(
                "open_probability",
                probability,
                exact=closed_form("open_probability"),
                label=Label("P(open)", "P(open)", r"$P(\mathrm{open})$"),
            ),
            Quantity(
                "free_energy_difference",
                probability,
                _free_energy_difference,
                exact=closed_form("free_energy_difference"),
                label=Label("Delta F", "ΔF", r"$\Delta F$"),
            ),
        )


def _free_energy_difference(p_open: float) -> float:
    """In units of kT; not a number where one of the two states was never met."""
    return -math.log(p_open / (1.0 - p_open)) if 0.0 < p_open < 1.0 else math.nan


NAMED: Mapping[str, NamedObservable] = {one.kind: one for one in (Distance, Energy, Open)}
