"""Observables of Ising spins (N, L0, L1): the energy, and those of any scalar field."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lattice_flows.theories.action import Action, NamedObservable
from lattice_flows.theories.ising.kernels.fields import bond_sum
from lattice_flows.theories.observable import Array, Field, Label, Observable, Quantity, Term, closed_form
from lattice_flows.theories.phi4.observables import LowestMode, Magnetisation, TwoPoint


@dataclass(frozen=True)
class Energy(Observable):
    """The energy per site e = -(1/V) sum_x sum_mu s(x) s(x+mu), S = beta V e.

    Estimated from it are <e> and the specific heat c = beta^2 V (<e^2> - <e>^2).
    """

    kind: ClassVar[str] = "energy"
    name = "energy"
    action: Action

    def __call__(self, x: Field) -> Array:
        return -bond_sum(x) / math.prod(x.shape[1:])

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        scale = self.action.beta**2 * math.prod(lattice_shape)  # type: ignore[attr-defined]
        mean, square = Term(self.name), Term(self.name, lambda series: series**2)
        return (
            Quantity("energy", (mean,), exact=closed_form("energy"), label=Label("e", "e", "$e$")),
            Quantity(
                "specific_heat",
                (square, mean),
                lambda e2, e: scale * (e2 - e**2),
                exact=closed_form("specific_heat"),
                label=Label("c", "c", "$c$"),
            ),
        )


NAMED: Mapping[str, NamedObservable] = {one.kind: one for one in (Energy, Magnetisation, LowestMode, TwoPoint)}
