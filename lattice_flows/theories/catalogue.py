"""The theories that a card can name. Their observables are their own, see `Action.named_observables`."""

from collections.abc import Mapping
from typing import Any

from lattice_flows.catalogue import Catalogue, PluginError
from lattice_flows.later_keys import as_before, completed
from lattice_flows.theories.action import Action, NamedObservable
from lattice_flows.theories.dimer.action import DimerBath
from lattice_flows.theories.dimer.labelled import LabelledDimerBath
from lattice_flows.theories.ising.action import Ising
from lattice_flows.theories.molecules.action import AlanineDipeptide, OpenMMSystem, Peptide
from lattice_flows.theories.phi4.action import Phi4, Phi4Hopping
from lattice_flows.theories.potentials.action import DoubleWell, MuellerBrown
from lattice_flows.theories.potentials.many_well import ManyWell
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1_improved.action import ImprovedU1
from lattice_flows.theories.xy.action import XY, Villain

THEORIES: Catalogue[type[Action]] = Catalogue(
    "theories",
    {
        "u1": WilsonU1,
        "u1_improved": ImprovedU1,
        "phi4": Phi4,
        "phi4_hopping": Phi4Hopping,
        "ising": Ising,
        "xy": XY,
        "xy_villain": Villain,
        "double_well": DoubleWell,
        "mueller_brown": MuellerBrown,
        "openmm_system": OpenMMSystem,
        "alanine_dipeptide": AlanineDipeptide,
        "peptide": Peptide,
        "many_well": ManyWell,
        "dimer_bath": DimerBath,
        "labelled_dimer_bath": LabelledDimerBath,
    },
    base=Action,
)

OBSERVABLES: Catalogue[NamedObservable] = Catalogue("observables", {})
"""Observables for any theory, beside the theory's own; they raise ValueError for an action that is none of theirs."""


def completed_theory(table: Mapping[str, Any]) -> dict[str, Any]:
    """A stored [theory] table with the couplings that an older version did not know."""
    return completed(table, _added(table))


def theory_as_before(table: Mapping[str, Any]) -> dict[str, Any]:
    """A [theory] table as an older version wrote it, where it means the same."""
    return as_before(table, _added(table))


def _added(table: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return THEORIES[table["name"]].added
    except (KeyError, PluginError):  # the code is not installed: the table stays what it is
        return {}
