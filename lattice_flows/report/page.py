"""The report of a run: one self-contained page, and its figures as files."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lattice_flows.atomic_files import write_atomically
from lattice_flows.card.card import Card
from lattice_flows.errors import written_to
from lattice_flows.estimates.analysis import Analysis
from lattice_flows.outputs import check_report
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import page_tables, terminal_tables
from lattice_flows.report.charge_tables import topology_tables
from lattice_flows.report.figures import all_plots
from lattice_flows.report.flow_tables import flow_tables
from lattice_flows.report.style import Plot
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, Record, history_of, read_checkpoint

_POINT = 96 / 72  # pixels of a page


def write_report(folder: RunFolder, card: Card, analysis: Analysis, target: Path) -> None:
    """Write index.html to the folder `target`, and each figure as NAME.svg and NAME.pdf with its data as NAME.csv.

    Each is replaced atomically. analysis: from `analyse_run`, still open. Reads series only. Raises InputError if the
    folder cannot be written, EnsembleError for a broken ensemble.
    """
    check_report(target)
    _write(target, analysis, _history(folder), card.text, card.overrides)


def write_files_report(target: Path, analysis: Analysis) -> None:
    """Write the report of ensemble files to the folder `target`. analysis: from `analyse_files`, still open.

    Raises the same errors as `write_report`, and InputError if files would be overwritten that are no report.
    """
    check_report(target)
    cards = {str(file.attributes["card"]) for group in analysis.groups for file in group.files}
    _write(target, analysis, [], "\n\n".join(sorted(cards)), ())


def _write(target: Path, analysis: Analysis, history: Sequence[Record], card: str, overrides: Sequence[str]) -> None:
    plots = all_plots(analysis, history)
    vectors = {plot.name: plot.render("svg") for plot in plots}
    text = _page(analysis, [_inlined(plot, vectors[plot.name]) for plot in plots], card, overrides)
    # The page comes first: it shows that the other files are of a report. A file's name in it may be any bytes.
    _replace(target / "index.html", text.encode(errors="backslashreplace"))
    for plot in plots:
        _replace(target / f"{plot.name}.svg", vectors[plot.name])
        _replace(target / f"{plot.name}.pdf", plot.render("pdf"))
        _replace(target / f"{plot.name}.csv", plot.data.csv())


def _history(folder: RunFolder) -> list[Record]:
    path = folder.flow / CHECKPOINT_NAME
    return history_of(read_checkpoint(path), folder.flow / HISTORY_NAME) if path.exists() else []


class _Inlined(NamedTuple):
    """A figure whose drawing and data (base64) are part of the page; width and height in pixels."""

    name: str
    drawing: str
    alternative: str
    caption: str
    width: int
    height: int
    csv: str
    data: page_tables.FigureTable


def _page(analysis: Analysis, figures: Sequence[_Inlined], card: str, overrides: Sequence[str]) -> str:
    summary, sources = analysis.summary, analysis.sources
    environment = Environment(
        loader=PackageLoader("lattice_flows.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["symbols"] = _symbols
    return environment.get_template("report.html.j2").render(
        title=page_tables.title(summary["theory"]),
        date=page_tables.date(sources),
        warnings=terminal_tables.warnings(summary),
        findings=page_tables.findings(summary),
        selections=terminal_tables.selections(summary),
        merged=terminal_tables.merged(summary),
        weights=terminal_tables.weight_lines(summary),
        samplers=page_tables.samplers(summary),
        cheapest=page_tables.cheapest(summary),
        observables=page_tables.all_observables(summary),
        topology=topology_tables(summary),
        flow=flow_tables(summary),
        figures=figures,
        provenance=page_tables.provenance(sources),
        files=page_tables.files(sources),
        card=card,
        overrides="\n".join(overrides),
    )


def _symbols(text: str) -> Markup:
    """The text with subscripts and powers of ten typeset, as in χ_top and 1.2e-05; the rest is escaped."""
    markup = re.sub(r"\b([χτn])_(top|int|eff|c)\b", r"\1<sub>\2</sub>", str(escape(text)))
    return Markup(re.sub(r"(?<=[\d)])e([+-])0*(\d+)\b", _power_of_ten, markup))


def _power_of_ten(found: re.Match[str]) -> str:
    sign, power = found.groups()
    return f" × 10<sup>{'−' if sign == '-' else ''}{power}</sup>"


def _inlined(plot: Plot, svg: bytes) -> _Inlined:
    width, height = plot.figure.get_size_inches() * 72 * _POINT
    return _Inlined(
        name=plot.name,
        drawing=base64.b64encode(svg).decode(),
        alternative=plot.alternative,
        caption=plot.caption,
        width=round(width),
        height=round(height),
        csv=base64.b64encode(plot.data.csv()).decode(),
        data=page_tables.figure_table(f"Data of {plot.name}", plot.data),
    )


def _replace(path: Path, data: bytes) -> None:
    """Replace the file atomically."""
    with written_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)  # durable: a page that a power failure has torn would not be replaced
