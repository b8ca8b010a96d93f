"""What a look at a training says of the flow, as a bar, a table and a figure show it."""

from lattice_flows.statistics import MIN_EFFECTIVE_SAMPLES
from lattice_flows.training.history import Record
from lattice_flows.workflows.format import ess
from lattice_flows.workflows.weights import is_dominated


def ess_of(record: Record) -> str:
    """The ESS of fresh samples with its error; '-' where too few samples have none."""
    return ess({"ess": record.ess, "ess_error": record.ess_error, "n_samples": record.n_samples or 0})


def is_trusted(record: Record) -> bool:
    """Whether the samples are enough for the ESS, and no single weight of them decides it."""
    n = record.n_samples or 0
    enough = record.ess * n >= MIN_EFFECTIVE_SAMPLES
    return enough and not is_dominated(record.ess, n, record.largest_share or 0.0)
