"""What is measured."""

from lattice_flows.observables.observable import Observable, Quantity
from lattice_flows.observables.u1 import Plaquette, PolyakovCorrelator, TopologicalCharge, WilsonLoop

OBSERVABLES: dict[str, type[Observable]] = {
    "plaquette": Plaquette,
    "topological_charge": TopologicalCharge,
    "wilson_loop": WilsonLoop,
    "polyakov_correlator": PolyakovCorrelator,
}

STANDARD: dict[str, tuple[Observable, ...]] = {
    "u1": (Plaquette(), TopologicalCharge(), WilsonLoop(1, 2), WilsonLoop(2, 2)),
}
"""What every ensemble of a theory measures, by the theory's card name."""

__all__ = [
    "OBSERVABLES",
    "STANDARD",
    "Observable",
    "Plaquette",
    "PolyakovCorrelator",
    "Quantity",
    "TopologicalCharge",
    "WilsonLoop",
]
