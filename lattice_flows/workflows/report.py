"""The report of a run: one page that needs nothing beside itself, and its figures."""

import base64
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lattice_flows.ensembles import Ensemble
from lattice_flows.training.history import Record, read_history
from lattice_flows.workflows import format
from lattice_flows.workflows.assemble import oracle
from lattice_flows.workflows.card import Card
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.figures import all_plots
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.house_style import Plot
from lattice_flows.workflows.replicas import Replicas, open_replicas
from lattice_flows.workflows.sampler_tables import needs_flow

Summary = dict[str, Any]
Row = tuple[str, ...]

_SYMBOLS = {"u1": "U(1)", "phi4": "φ⁴", "phi4_hopping": "φ⁴", "beta": "β", "kappa": "κ", "lam": "λ", "m2": "m²"}
_POINT = 96 / 72  # pixels of a page


class PageTable(NamedTuple):
    """A table of ready texts; the first cell of a row is its heading."""

    caption: str
    headings: Row
    rows: Sequence[Row]


def write_report(folder: RunFolder, card: Card, summary: Summary) -> None:
    """Write report/index.html, and each figure as report/NAME.svg and report/NAME.pdf, replacing each file at once.

    summary: that of `analyse_run`. Reads series only. Raises InputError where the folder cannot be written,
    EnsembleError for a broken ensemble.
    """
    with ExitStack() as stack:
        groups = _open(folder, card, summary, stack)
        samples = open_replicas([folder.evaluation], stack)[0] if summary["flow"] else None
        plots = all_plots(groups, summary, samples, _history(folder), oracle(summary["theory"]))
        made = groups + ([samples] if samples else [])
        vectors = {plot.name: plot.render("svg") for plot in plots}
        page = _page(card, summary, made, plots, vectors)
    for plot in plots:
        _replace(folder.report / f"{plot.name}.svg", vectors[plot.name])
        _replace(folder.report / f"{plot.name}.pdf", plot.render("pdf"))
    _replace(folder.report / "index.html", page.encode())


def _open(folder: RunFolder, card: Card, summary: Summary, stack: ExitStack) -> list[Replicas]:
    """The ensembles of the summary."""
    paths = [folder.ensemble(table.name) for table in card.ensembles]
    groups = open_replicas([path for path in paths if Ensemble.exists(path)], stack)
    return [group for group in groups if group.name in summary["ensembles"]]


def _history(folder: RunFolder) -> list[Record]:
    path = folder.flow / "history.csv"
    return read_history(path) if path.exists() else []


def _page(
    card: Card, summary: Summary, made: Sequence[Replicas], plots: Sequence[Plot], vectors: dict[str, bytes]
) -> str:
    environment = Environment(
        loader=PackageLoader("lattice_flows.workflows", ""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        title=_title(summary["theory"]),
        date=_date(made),
        warnings=format.warnings(summary),
        samplers=_samplers(summary),
        observables=[
            _observables(_caption(name, e), e) for name, e in summary["ensembles"].items() if e["observables"]
        ],
        flow=_flow(summary),
        figures=[_inlined(plot, vectors[plot.name]) for plot in plots],
        provenance=_provenance(card, made),
        files=_files(summary, made),
        card=card.text,
        overrides="\n".join(card.overrides),
    )


def _title(theory: Summary) -> str:
    """2D U(1), 16 × 16, β = 6."""
    couplings = {k: v for k, v in theory.items() if k not in ("name", "shape", "boundary")}
    shape = theory["shape"]
    name = f"{len(shape)}D {_SYMBOLS.get(theory['name'], theory['name'])}"
    return ", ".join(
        [name, " × ".join(map(str, shape)), *(f"{_SYMBOLS.get(k, k)} = {v:g}" for k, v in couplings.items())]
    )


def _date(made: Sequence[Replicas]) -> str:
    """When the ensembles were begun, as they say themselves."""
    days = sorted({str(file.attributes["created"])[:10] for group in made for file in group.files})
    if not days:
        return "Nothing was generated yet"
    return f"Generated on {days[0]}" if len(days) == 1 else f"Generated from {days[0]} to {days[-1]}"


def _samplers(summary: Summary) -> PageTable:
    counted = format.cost_label(summary["ensembles"]).page
    headings = (
        "ensemble",
        "s / indep. config",
        "training (s)",
        "sampler",
        "chains × configs",
        "acceptance",
        f"τ_int({counted})",
        "seconds",
    )
    rows = []
    for name, ensemble in format.cheapest_first(summary["ensembles"]):
        sampler, size, acceptance, tau_int, seconds, cost = format.sampler_row(ensemble)
        trained = summary["flow"] is not None and needs_flow(ensemble["sampler"], ensemble["settings"])
        training = format.number(summary["flow"]["train_seconds"]) if trained else "-"
        rows.append((name, cost, training, sampler, size.replace("x", "×"), acceptance, tau_int, seconds))
    return PageTable(f"Cost of an independent configuration ({counted})", headings, rows)


def _caption(name: str, ensemble: Summary) -> str:
    return f"{name} ({ensemble['sampler']}{', frozen' if ensemble['frozen'] else ''})"


def _observables(caption: str, figures: Summary) -> PageTable:
    headings = ("observable", "value", "exact", "pull", "τ_int", "n_eff", "R-hat")
    names = [format.label(name).page for name in figures["observables"]]
    return PageTable(caption, headings, [(name, *row[1:]) for name, row in zip(names, format.observable_rows(figures))])


def _flow(summary: Summary) -> Summary | None:
    """What is known of the flow's quality, from fresh samples and from the proposals of chains."""
    flow = summary["flow"]
    if flow is None:
        return None
    proposals = {name: e["proposals"] for name, e in summary["ensembles"].items() if e.get("proposals")}
    sources = {"fresh samples": flow, **{f"proposals of {name}": figures for name, figures in proposals.items()}}
    exact = format.number(flow["log_z_exact"], 8)
    headings = ("weights of", "samples", "ESS", "log Z", "exact log Z", "k-hat", "largest share", "verdict")
    rows = [
        (
            name,
            str(figures["n_samples"]),
            format.with_error(figures["ess"], figures["ess_error"]),
            format.with_error(figures["log_z"], figures["log_z_error"]),
            exact,
            format.number(figures["pareto_k"], 2),
            format.number(figures["largest_weight_share"], 2),
            "reliable" if figures["reliable"] else "unreliable",
        )
        for name, figures in sources.items()
    ]
    return {
        "facts": f"{flow['n_parameters']} parameters, trained for {format.number(flow['train_seconds'])} s "
        f"({flow['n_steps']} steps).",
        "unreliable": ", ".join(name for name, figures in sources.items() if not figures["reliable"]),
        "weights": PageTable("Weights", headings, rows),
        "observables": _observables("Fresh samples, reweighted", flow),
    }


def _inlined(plot: Plot, svg: bytes) -> Summary:
    width, height = plot.figure.get_size_inches() * 72 * _POINT
    return {
        "name": plot.name,
        "data": base64.b64encode(svg).decode(),
        "alternative": plot.alternative,
        "caption": plot.caption,
        "width": round(width),
        "height": round(height),
    }


def _provenance(card: Card, made: Sequence[Replicas]) -> PageTable:
    """What is common to the run; where files differ, all that they say."""
    attributes = [file.attributes for group in made for file in group.files]
    software: dict[str, list[str]] = {}
    for one in attributes:
        for package, version in json.loads(one["software"]).items():
            software.setdefault(package, []).append(version)
    facts = {
        "seed": [str(card.seed)],
        "device": [card.device],
        "threads": [str(one["threads"]) for one in attributes],
        "git commit": [str(one["git_commit"]) for one in attributes],
        **software,
    }
    return PageTable(
        "Run", ("item", "value"), [(key, ", ".join(dict.fromkeys(values)) or "-") for key, values in facts.items()]
    )


def _files(summary: Summary, made: Sequence[Replicas]) -> PageTable:
    """One row per ensemble file."""
    rows = []
    for group in made:
        settings = {k: v for k, v in group.sampler.items() if k != "name"}
        text = ", ".join(f"{key} = {value}" for key, value in settings.items())
        for file in group.files:
            told = file.attributes
            state = "finished" if file.finished else "unfinished"
            rows.append((group.name, state, str(told["created"]), str(told["seed"]), str(told["threads"]), text))
    return PageTable("Ensemble files", ("ensemble", "state", "begun", "seed", "threads", "settings"), rows)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in its place at once."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
