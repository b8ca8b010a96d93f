"""Look-ups in a summary that several figures and tables share."""

from lattice_flows.estimates.summary_types import EnsembleSummary, Observables, Summary
from lattice_flows.theories.observable import Label, named

CHARGE, CHARGE_SQUARED = "topological_charge", "topological_charge_squared"


def place(summary: Summary, name: str) -> int:
    """The index of an ensemble in the summary, which gives it the same colour in all figures."""
    return list(summary["ensembles"]).index(name)


def label_of(observables: Observables, name: str) -> Label:
    """The short name of an observable."""
    row = observables.get(name)
    return Label(**row["label"]) if row and "label" in row else named(name)


def has_trusted_sectors(ensemble: EnsembleSummary, observable: str = CHARGE_SQUARED) -> bool:
    """Whether errors of this observable by sector can be trusted, as its own error and that of <Q^2> can."""
    topology, rows = ensemble["topology"], ensemble["observables"]
    return topology is not None and topology["trusted"] and observable in rows and rows[observable]["trusted"]
