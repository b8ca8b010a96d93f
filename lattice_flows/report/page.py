"""The report of a run: one page that needs nothing beside itself, and its figures."""

import base64
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lattice_flows.card.build import oracle
from lattice_flows.card.card import Card
from lattice_flows.errors import unwritable
from lattice_flows.estimates.of_run import open_run_ensembles
from lattice_flows.estimates.replicas import Replicas, open_replicas
from lattice_flows.estimates.selection import Selection
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import page_tables, terminal_tables
from lattice_flows.report.charge_tables import topology_tables
from lattice_flows.report.figures import all_plots
from lattice_flows.report.flow_tables import flow_tables
from lattice_flows.report.style import Plot
from lattice_flows.training.history import Record, read_history

Summary = dict[str, Any]
_POINT = 96 / 72  # pixels of a page


def write_report(folder: RunFolder, card: Card, summary: Summary) -> None:
    """Write report/index.html, and each figure as NAME.svg and NAME.pdf with its data as NAME.csv, each at once.

    summary: that of `analyse_run`. Reads series only. Raises InputError where the folder cannot be written,
    EnsembleError for a broken ensemble.
    """
    with ExitStack() as stack:
        groups = _of_summary(open_run_ensembles(folder, card, stack), summary)
        samples = open_replicas([folder.evaluation], stack)[0] if summary["flow"] else None
        plots = all_plots(groups, summary, samples, _history(folder), *_oracles(summary, card.theory.as_dict()))
        made = groups + ([samples] if samples else [])
        _write(folder.report, summary, made, plots, card.text, card.overrides)


def write_files_report(target: Path, paths: Sequence[Path], summary: Summary) -> None:
    """The report of ensemble files in the folder `target`; summary: that of `analyse_files`. Raises as write_report."""
    with ExitStack() as stack:
        groups = _of_summary(open_replicas(paths, stack), summary)
        plots = all_plots(groups, summary, None, [], *_oracles(summary, groups[0].sampled_theory))
        cards = {str(file.attributes["card"]) for group in groups for file in group.files}
        _write(target, summary, groups, plots, "\n\n".join(sorted(cards)), ())


def _of_summary(groups: Sequence[Replicas], summary: Summary) -> list[Replicas]:
    """Of those ensembles that the summary holds, what it takes of them."""
    return [_selected(group, summary) for group in groups if group.name in summary["ensembles"]]


def _selected(group: Replicas, summary: Summary) -> Replicas:
    """The part of an ensemble that the summary is of, with its weights."""
    ensemble, own = summary["ensembles"][group.name], group.sampled_theory
    couplings = {key: value for key, value in summary["theory"].items() if value != own[key]}
    return Selection(ensemble.get("thermalisation_dropped", 0), ensemble.get("every", 1), couplings).of(group)


def _oracles(summary: Summary, sampled: Summary) -> tuple[Any, Any]:
    """The closed forms of the summary's theory, and of the one that was sampled."""
    return oracle(summary["theory"]), oracle(sampled)


def _write(
    target: Path,
    summary: Summary,
    made: Sequence[Replicas],
    plots: Sequence[Plot],
    card: str,
    overrides: Sequence[str],
) -> None:
    vectors = {plot.name: plot.render("svg") for plot in plots}
    text = _page(summary, made, plots, vectors, card, overrides)
    for plot in plots:
        _replace(target / f"{plot.name}.svg", vectors[plot.name])
        _replace(target / f"{plot.name}.pdf", plot.render("pdf"))
        _replace(target / f"{plot.name}.csv", plot.data.csv())
    _replace(target / "index.html", text.encode())


def _history(folder: RunFolder) -> list[Record]:
    path = folder.flow / "history.csv"
    return read_history(path) if path.exists() else []


def _page(
    summary: Summary,
    made: Sequence[Replicas],
    plots: Sequence[Plot],
    vectors: dict[str, bytes],
    card: str,
    overrides: Sequence[str],
) -> str:
    environment = Environment(
        loader=PackageLoader("lattice_flows.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["symbols"] = _symbols
    return environment.get_template("report.html.j2").render(
        title=page_tables.title(summary["theory"]),
        date=page_tables.date(made),
        warnings=terminal_tables.warnings(summary),
        findings=page_tables.findings(summary),
        selections=terminal_tables.selections(summary),
        samplers=page_tables.samplers(summary),
        observables=page_tables.all_observables(summary),
        topology=topology_tables(summary),
        flow=flow_tables(summary),
        figures=[_inlined(plot, vectors[plot.name]) for plot in plots],
        provenance=page_tables.provenance(made),
        files=page_tables.files(summary, made),
        card=card,
        overrides="\n".join(overrides),
    )


def _symbols(text: str) -> Markup:
    """The text with subscripts and powers of ten as they are printed: χ_top, 1.2e-05; the rest is escaped."""
    markup = re.sub(r"\b([χτn])_(top|int|eff|c)\b", r"\1<sub>\2</sub>", str(escape(text)))
    return Markup(re.sub(r"(?<=[\d)])e([+-])0*(\d+)\b", _power_of_ten, markup))


def _power_of_ten(found: re.Match[str]) -> str:
    sign, power = found.groups()
    return f" × 10<sup>{'−' if sign == '-' else ''}{power}</sup>"


def _inlined(plot: Plot, svg: bytes) -> Summary:
    """A figure with its drawing and its data in the page itself."""
    width, height = plot.figure.get_size_inches() * 72 * _POINT
    return {
        "name": plot.name,
        "drawing": base64.b64encode(svg).decode(),
        "alternative": plot.alternative,
        "caption": plot.caption,
        "width": round(width),
        "height": round(height),
        "csv": base64.b64encode(plot.data.csv()).decode(),
        "data": page_tables.figure_table(f"Data of {plot.name}", plot.data),
    }


def _replace(path: Path, data: bytes) -> None:
    """Put a file in its place at once."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
