"""The report of an analysis: one page that needs nothing beside itself, its figures and their data."""

from lattice_flows.workflows.report.page import write_files_report, write_report

__all__ = ["write_files_report", "write_report"]
