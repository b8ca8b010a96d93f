"""What several figures and tables look up in a summary."""

from lattice_flows.estimates.summary_types import EnsembleSummary, Summary

CHARGE, CHARGE_SQUARED = "topological_charge", "topological_charge_squared"


def place(summary: Summary, name: str) -> int:
    """The place of an ensemble in the summary, so that it has one colour in all figures."""
    return list(summary["ensembles"]).index(name)


def has_trusted_sectors(ensemble: EnsembleSummary, observable: str = CHARGE_SQUARED) -> bool:
    """Whether errors of this observable by sector mean what they say: if its own and that of <Q^2> do."""
    topology, rows = ensemble["topology"], ensemble["observables"]
    return topology is not None and topology["trusted"] and observable in rows and rows[observable]["trusted"]
