"""The theories and observables that a card can name."""

from collections.abc import Callable

from lattice_flows.theories.action import Action
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.phi4.action import Phi4, Phi4Hopping
from lattice_flows.theories.phi4.observables import LinkEnergy, LowestMode, Magnetisation, TwoPoint
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.observables import (
    Plaquette,
    PolyakovCorrelator,
    PolyakovLoop,
    PolyakovModulus,
    TopologicalCharge,
    WilsonLoop,
    creutz_ratio,
)
from lattice_flows.theories.u1_improved.action import ImprovedU1

ACTIONS: dict[str, type[Action]] = {
    "u1": WilsonU1,
    "u1_improved": ImprovedU1,
    "phi4": Phi4,
    "phi4_hopping": Phi4Hopping,
}

OBSERVABLES: dict[str, type[Observable]] = {
    "plaquette": Plaquette,
    "topological_charge": TopologicalCharge,
    "wilson_loop": WilsonLoop,
    "polyakov_correlator": PolyakovCorrelator,
    "polyakov_loop": PolyakovLoop,
    "polyakov_modulus": PolyakovModulus,
    "magnetisation": Magnetisation,
    "energy": LinkEnergy,
    "lowest_mode": LowestMode,
    "two_point": TwoPoint,
}

OBSERVABLE_SETS: dict[str, Callable[..., tuple[Observable, ...]]] = {"creutz_ratio": creutz_ratio}
"""Names under which a card may ask for several series at once."""

_NEAR = 4  # lattice spacings of the two-point function that are always measured


def _of_links(shape: tuple[int, ...]) -> tuple[Observable, ...]:
    return Plaquette(), TopologicalCharge(), WilsonLoop(1, 2), WilsonLoop(2, 2)


def _of_scalars(shape: tuple[int, ...]) -> tuple[Observable, ...]:
    return Magnetisation(), LinkEnergy(), LowestMode(), *map(TwoPoint, range(min(_NEAR, shape[0] // 2) + 1))


STANDARD: dict[str, Callable[[tuple[int, ...]], tuple[Observable, ...]]] = {"theta": _of_links, "phi": _of_scalars}
"""The observables that every ensemble measures, by the name of its theory's space, for the shape of its lattice."""
