"""The theories that a card can name. Their observables are their own, see `Action.named_observables`."""

from lattice_flows.catalogue import Catalogue
from lattice_flows.theories.action import Action, NamedObservable
from lattice_flows.theories.ising.action import Ising
from lattice_flows.theories.phi4.action import Phi4, Phi4Hopping
from lattice_flows.theories.potentials.action import DoubleWell, MuellerBrown
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1_improved.action import ImprovedU1

THEORIES: Catalogue[type[Action]] = Catalogue(
    "theories",
    {
        "u1": WilsonU1,
        "u1_improved": ImprovedU1,
        "phi4": Phi4,
        "phi4_hopping": Phi4Hopping,
        "ising": Ising,
        "double_well": DoubleWell,
        "mueller_brown": MuellerBrown,
    },
)

OBSERVABLES: Catalogue[NamedObservable] = Catalogue("observables", {})
"""Observables for any theory, beside the theory's own; they raise ValueError for an action that is none of theirs."""
