"""Batch jobs for the stages of a run: they run the same commands that a person would type."""

from lattice_flows.cluster.cancellation import cancel
from lattice_flows.cluster.overview import status
from lattice_flows.cluster.submission import require_no_jobs, submit

__all__ = ["cancel", "require_no_jobs", "status", "submit"]
