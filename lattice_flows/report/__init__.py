"""The report of an analysis: one self-contained page, its figures and their data.

Matplotlib is loaded with the first report: most commands write none.
"""

from pathlib import Path

from lattice_flows.card.card import Card
from lattice_flows.estimates.analysis import Analysis
from lattice_flows.production.run_folder import RunFolder


def write_report(folder: RunFolder, card: Card, analysis: Analysis, target: Path) -> None:
    """Write the report of a run; see `page.write_report`."""
    from lattice_flows.report import page

    page.write_report(folder, card, analysis, target)


def write_files_report(target: Path, analysis: Analysis) -> None:
    """Write the report of ensemble files; see `page.write_files_report`."""
    from lattice_flows.report import page

    page.write_files_report(target, analysis)


__all__ = ["write_files_report", "write_report"]
