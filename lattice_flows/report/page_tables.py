"""The texts and tables of a report's page."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from lattice_flows.card.build import action_of, couplings_of, lattice_shape_of
from lattice_flows.card.samplers import needs_flow
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import EnsembleSummary, Observables, Summary, Theory
from lattice_flows.report import terminal_tables
from lattice_flows.report.costs import winners
from lattice_flows.report.style import Cell, FigureData
from lattice_flows.report.summary_lookups import label_of
from lattice_flows.terminal import numbers

Row = tuple[str, ...]

_HEADLINE = ("topological_susceptibility", "susceptibility")  # what an ensemble's sentence is about
_MOST_ROWS = 100  # of a figure's table


class PageTable(NamedTuple):
    """A table of formatted texts; the first cell of a row is its heading."""

    caption: str
    headings: Row
    rows: Sequence[Row]


class FigureTable(NamedTuple):
    """Every step-th row of a figure's data, and the total number of rows."""

    table: PageTable
    step: int
    n_rows: int


def title(theory: Theory) -> str:
    """The title of a theory, such as 2D U(1), 16 × 16, β = 6."""
    action, shape = action_of(theory), lattice_shape_of(theory)
    name, symbols = (action and action.title) or theory["name"], action.symbols if action else {}
    lattice = [f"{len(shape)}D {name}", " × ".join(map(str, shape))] if shape else [name]
    couplings = [
        f"{symbols.get(key, key)} = {f'{value:g}' if isinstance(value, (int, float)) else value}"
        for key, value in couplings_of(theory).items()
    ]
    return ", ".join([*lattice, *couplings])


def date(made: Sequence[Replicas]) -> str:
    """The dates on which the ensembles were begun, according to their files."""
    days = sorted({str(file.attributes["created"])[:10] for group in made for file in group.files})
    if not days:
        return "Nothing was generated yet"
    return f"Generated on {days[0]}" if len(days) == 1 else f"Generated from {days[0]} to {days[-1]}"


def samplers(summary: Summary) -> PageTable:
    counted = terminal_tables.cost_label(summary["ensembles"]).page
    flow = summary["flow"]
    headings = (
        "ensemble",
        "ms / indep. config",
        "training (s)",
        "training pays after",
        "sampler",
        "chains × configs",
        "acceptance",
        f"τ_int({counted})",
        "seconds",
    )
    rows = []
    for name, ensemble in terminal_tables.cheapest_first(summary["ensembles"]):
        sampler, size, acceptance, tau_int, seconds, cost = terminal_tables.sampler_row(ensemble)
        trained = flow is not None and needs_flow(ensemble["sampler"], ensemble["settings"])
        training = numbers.number(flow["train_seconds"]) if flow is not None and trained else "-"
        pays = terminal_tables.break_even(ensemble)
        rows.append((name, cost, training, pays, sampler, size.replace("x", "×"), acceptance, tau_int, seconds))
    return PageTable(f"Cost of an independent configuration ({counted})", headings, rows)


def cheapest(summary: Summary) -> PageTable | None:
    """Who wins at which observable; None where there is nothing to choose from."""
    headings = ("observable", "cheapest", "ms / indep. config", "next", "ms / indep. config", "times as much")
    rows = [(one.label.page, *terminal_tables.winner_row(one)) for one in winners(summary["ensembles"])]
    return PageTable("Cheapest by observable", headings, rows) if rows else None


def findings(summary: Summary) -> list[tuple[str, str]]:
    """The main results, a name and a sentence each: for the flow, then for every ensemble, the cheapest first."""
    told = [(name, _sentence(ensemble)) for name, ensemble in terminal_tables.cheapest_first(summary["ensembles"])]
    trained = summary["flow"]
    if trained is None:
        return told
    doubt = "" if trained["log_z_reliable"] and not trained["dominated"] else " (unreliable)"
    figures = f"ESS {terminal_tables.ess_of(trained)}{doubt}, {terminal_tables.tail(trained).replace(' x ', ' × ')}"
    return [("trained flow", f"{figures}; {terminal_tables.training_cost(trained)}."), *told]


def _sentence(ensemble: EnsembleSummary) -> str:
    """The headline observable against its exact value, and the cost."""
    rows = ensemble["observables"]
    name = next((key for key in (*_HEADLINE, ensemble["cost_observable"]) if key in rows), next(iter(rows), None))
    cost = terminal_tables.milliseconds_per_config(ensemble)
    price = "" if cost == "-" else f", at {cost.replace('> ', 'more than ')} ms per independent configuration"
    if name is None:
        return f"nothing could be estimated{price}."
    row = rows[name]
    value = f"{label_of(rows, name).page} = {numbers.with_error(row['value'], row['error'])}"
    if ensemble["frozen"]:
        return f"frozen; {value} cannot be trusted{price}."
    doubt = "" if row["trusted"] else ", with an error that cannot be trusted"
    exact = (
        "" if row["exact"] is None else f" (exact: {numbers.number(row['exact'], 4)}, pull {numbers.pull(row['pull'])})"
    )
    return f"{value}{exact}{doubt}{price}."


def all_observables(summary: Summary) -> list[PageTable]:
    """One table per ensemble that has estimates."""
    return [
        observables(_caption(name, ensemble), rows)
        for name, ensemble in summary["ensembles"].items()
        if (rows := ensemble["observables"])
    ]


def _caption(name: str, ensemble: EnsembleSummary) -> str:
    """The ensemble, its sampler where that is another word, and whether it is frozen."""
    about = [ensemble["sampler"]] if ensemble["sampler"] != name else []
    about += ["frozen"] if ensemble["frozen"] else []
    return f"{name} ({', '.join(about)})" if about else name


def observables(caption: str, rows: Observables) -> PageTable:
    headings = ("observable", "value", "exact", "pull", "τ_int", "n_eff", "R-hat")
    names = [label_of(rows, name).page for name in rows]
    return PageTable(
        caption, headings, [(name, *row[1:]) for name, row in zip(names, terminal_tables.observable_rows(rows))]
    )


def figure_table(caption: str, data: FigureData) -> FigureTable:
    """As many rows of a figure's data as a page has room for, evenly chosen, and their total number."""
    step = max(1, -(-len(data.rows) // _MOST_ROWS))
    rows = [tuple(_shown(cell) for cell in row) for row in data.rows[::step]]
    return FigureTable(PageTable(caption, data.headings, rows), step, len(data.rows))


def _shown(cell: Cell) -> str:
    """The text of a cell, numbers to six digits; the CSV has all digits."""
    return numbers.number(float(cell), 6) if isinstance(cell, float) else "-" if cell is None else str(cell)


def provenance(made: Sequence[Replicas]) -> PageTable:
    """The facts common to the run; if files differ, all of their values."""
    attributes = [file.attributes for group in made for file in group.files]
    software: dict[str, list[str]] = {}
    for one in attributes:
        for package, version in json.loads(one.get("software", "{}")).items():
            software.setdefault(package, []).append(version)
    facts = {
        "seed": [str(one["seed"]) for one in attributes],
        "device": [str(one.get("device", "-")) for one in attributes],
        "processor": [json.loads(one.get("machine", "{}")).get("processor", "-") for one in attributes],
        "threads": [str(one["threads"]) for one in attributes],
        "git commit": [str(one["git_commit"]) for one in attributes],
        **software,
    }
    return PageTable(
        "Run", ("item", "value"), [(key, ", ".join(dict.fromkeys(values)) or "-") for key, values in facts.items()]
    )


def files(made: Sequence[Replicas]) -> PageTable:
    """One row per ensemble file, or per group of files of one ensemble that differ only in when they were begun."""
    rows = []
    for group in made:
        settings = {k: v for k, v in group.sampler.items() if k != "name"}
        text = ", ".join(f"{key} = {value}" for key, value in settings.items())
        alike: dict[tuple[str, str, str], list[str]] = {}  # when they were begun
        for file in group.files:
            state = "finished" if file.finished else "unfinished"
            kind = state, str(file.header("seed")), str(file.header("threads"))
            alike.setdefault(kind, []).append(str(file.header("created")))
        for (state, seed, threads), begun in alike.items():
            name = group.name if len(begun) == 1 else f"{group.name}, {len(begun)} files"
            rows.append((name, state, " to ".join(dict.fromkeys([min(begun), max(begun)])), seed, threads, text))
    return PageTable("Ensemble files", ("ensemble", "state", "begun", "seed", "threads", "settings"), rows)
