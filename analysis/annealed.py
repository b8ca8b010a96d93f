"""log Z by paths and by maps: python analysis/annealed.py output/annealed analysis/annealed.svg

What runs/annealed has found: the ESS of annealing, of stochastic flows and of flows alone against the time of a
sample, and the error that each of them has of log Z after a second of one core. Prints all of it as tables; FIGURE.csv
holds the first one.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lattice_flows.errors import InputError
from lattice_flows.estimates.summary_types import EnsembleSummary, Summary, Weights
from lattice_flows.exit_status import run_as_command
from lattice_flows.production.run_folder import find_run
from lattice_flows.report.drawing import Axes, Figure, Line2D
from lattice_flows.report.figure_script import Standing, draw_figure, or_nan, run_campaign_script, split_rows
from lattice_flows.report.style import GREY
from lattice_flows.terminal.numbers import number, with_error

LOOKS = {  # by the method: text, colour, marker
    "annealed": ("annealing", "#D55E00", "D"),
    "smc": ("populations", "#0072B2", "s"),
    "stochastic": ("stochastic flow", "#000000", "o"),
    "alone": ("flow alone", "#009E73", "^"),
}
SYSTEMS = {  # by the campaign's folder
    "phi4_12x12": "phi4, 12x12",
    "phi4_20x20": "phi4, 20x20",
    "u1_16x16": "u1, 16x16",
    "u1_improved_16x16": "u1_improved, 16x16",
}


class Row(NamedTuple):
    """A method at a system."""

    system: str
    method: str
    updates: int  # random ones of a path
    n_samples: int  # populations of smc
    ess: float
    ess_error: float
    ess_reliable: bool
    log_z: float
    log_z_error: float
    log_z_reliable: bool
    exact: float
    milliseconds: float  # a sample, on one core
    in_a_second: float  # the error of log Z after it
    training: float  # seconds
    pareto_k: float


class Yardstick(NamedTuple):
    """The classical chain at a system."""

    system: str
    observable: str
    milliseconds: float  # an independent configuration


def read_rows(runs: Path) -> list[Row]:
    """All methods of all systems. Raises InputError without any."""
    rows = []
    for path in sorted(runs.glob("systems/*/*/report/summary.json")):
        system, run = path.parts[-4:-2]
        if system in SYSTEMS:
            rows += rows_of(system, run, json.loads(path.read_text()), exact_log_z(path.parents[1]))
    if not rows:
        raise InputError(f"{runs}: holds no analysed run; make them with runs/annealed/annealing.py")
    systems, methods = list(SYSTEMS), list(LOOKS)
    return sorted(rows, key=lambda row: (systems.index(row.system), methods.index(row.method), row.updates))


def exact_log_z(folder: Path) -> float:
    """log Z of the run's theory by its closed form; not a number without one."""
    theory = find_run(folder, None)[1].theory
    oracle = theory.action.closed_forms(theory.shape)
    return math.nan if oracle is None else oracle.log_z


def rows_of(system: str, run: str, summary: Summary, exact: float) -> list[Row]:
    """The methods of one run, whose folder is named after its random updates, or "alone"."""
    alone = run == "alone"
    training = or_nan(summary["flow"]["train_seconds"]) if summary["flow"] else 0.0
    rows = []
    for name, ensemble in summary["ensembles"].items():
        if "proposals" in ensemble:
            of_flow = name == "flow"
            method = ("alone" if alone else "stochastic") if of_flow else name
            updates = 0 if alone else int(run.rpartition("_")[2])
            rows.append(row_of(system, method, updates, ensemble, exact, training if of_flow else 0.0))
    return rows


def row_of(system: str, method: str, updates: int, ensemble: EnsembleSummary, exact: float, training: float) -> Row:
    """The figures of one ensemble."""
    weights: Weights = ensemble["proposals"]
    seconds = or_nan(ensemble["seconds"]) * ensemble["threads"]
    return Row(
        system,
        method,
        updates,
        weights["n_samples"],
        weights["ess"],
        weights["ess_error"],
        weights["ess_reliable"],
        weights["log_z"],
        weights["log_z_error"],
        weights["log_z_reliable"],
        exact,
        1e3 * seconds / (ensemble["n_chains"] * ensemble["n_configs"]),
        weights["log_z_error"] * math.sqrt(seconds),
        training,
        or_nan(weights["pareto_k"]),
    )


def yardsticks(runs: Path) -> list[Yardstick]:
    """What an independent configuration costs the classical chains."""
    found = []
    for system in SYSTEMS:
        path = runs / "systems" / system / "alone" / "report" / "summary.json"
        ensembles = json.loads(path.read_text())["ensembles"] if path.exists() else {}
        if chain := ensembles.get("yardstick"):
            seconds = or_nan(chain["seconds_per_independent_config"])
            found.append(Yardstick(system, chain["cost_observable"], 1e3 * seconds))
    return found


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown; "<" where an ESS and ">" where log Z is a bound only."""
    figures = ("ms a sample", "ESS", "log Z", "pull", "error in 1 s", "training", "k-hat")
    headings = ("system", "method", "updates", *figures)
    return markdown(headings, [cells(row) for row in rows])


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts."""
    pull = (row.log_z - row.exact) / row.log_z_error
    return (
        SYSTEMS[row.system],
        LOOKS[row.method][0],
        str(row.updates) if row.updates else "-",
        number(row.milliseconds),
        ess_of(row.ess, row.ess_error, row.ess_reliable),
        with_error(row.log_z, row.log_z_error) if row.log_z_reliable else f"> {row.log_z:.2f}",
        f"{pull:+.1f}" if row.log_z_reliable and math.isfinite(pull) else "-",
        number(row.in_a_second) if row.log_z_reliable else "-",
        f"{row.training:.0f} s" if row.training else "-",
        f"{row.pareto_k:.2f}",
    )


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rule = "|" + "---|" * len(headings)
    return "\n".join([f"| {' | '.join(headings)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def agreement(rows: Sequence[Row]) -> list[str]:
    """chi^2 of the trusted values of log Z of each system about their weighted mean, in a line."""
    lines = []
    for system, own in split_rows([row for row in rows if row.log_z_reliable], lambda row: row.system).items():
        weights = [row.log_z_error**-2 for row in own]
        mean = sum(w * row.log_z for w, row in zip(weights, own)) / sum(weights)
        chi2 = sum(w * (row.log_z - mean) ** 2 for w, row in zip(weights, own))
        lines.append(f"{SYSTEMS[system]}: chi^2 of {len(own)} values of log Z about {mean:.4f} is {chi2:.1f}")
    return lines


def volumes(runs: Path) -> str:
    """The ESS on growing lattices in Markdown: annealing with updates in proportion, flows with the weights of 8x8."""
    lines = []
    for path in sorted(runs.glob("volumes/*/*x*/report/summary.json"), key=place_of):
        ensembles = json.loads(path.read_text())["ensembles"]
        flow = find_run(path.parents[1], None)[1].flow
        assert flow is not None, "a run of the campaign has one"
        line = [path.parts[-4], path.parts[-3]]
        for name, updates in (
            ("annealed", ensembles["annealed"]["settings"]["n_steps"]),
            ("flow", flow.options["n_steps"] * sum(layer.get("n_updates", 0) for layer in flow.options["layers"])),
        ):
            weights = ensembles[name]["proposals"]
            line += [str(updates), ess_of(weights["ess"], weights["ess_error"], weights["ess_reliable"])]
        lines.append(line)
    return markdown(("theory", "lattice", "updates of annealing", "ESS", "updates of the flow", "ESS"), lines)


def place_of(summary: Path) -> tuple[str, int]:
    """The theory of a lattice's summary, and its side."""
    return summary.parts[-4], int(summary.parts[-3].partition("x")[0])


def ess_of(value: float, error: float, reliable: bool) -> str:
    """An ESS, or what it is at most."""
    return with_error(value, error) if reliable else f"< {number(value)}"


def draw(rows: Sequence[Row]) -> Figure:
    """A column for each system."""
    by_system = split_rows(rows, lambda row: row.system)
    figure = Figure(figsize=(3.0 * len(by_system), 6), layout="constrained")
    panels = figure.subplots(2, len(by_system), sharex=True, sharey="row", squeeze=False)
    for (upper, lower), (system, own) in zip(panels.T, by_system.items()):
        upper.set_title(SYSTEMS[system])
        upper.set(xscale="log", ylim=(0, 1.02))
        lower.set(xscale="log", yscale="log", xlabel="ms a sample")
        for method, rows_of_method in split_rows(own, lambda row: row.method).items():
            draw_method(upper, lower, method, rows_of_method)
    panels[0, 0].set_ylabel("ESS")
    panels[1, 0].set_ylabel("error of log Z\nafter a second of a core")
    used = {row.method for row in rows}
    lines = [Line2D([], [], color=c, marker=m, label=text) for name, (text, c, m) in LOOKS.items() if name in used]
    doubtful = Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label="at most")
    figure.legend(handles=[*lines, doubtful], loc="outside upper center", ncols=5)
    return figure


def draw_method(upper: Axes, lower: Axes, method: str, rows: Sequence[Row]) -> None:
    """The ESS of single samples, open symbols where it is a bound; the error of log Z where that can be trusted."""
    _, colour, marker = LOOKS[method]
    if method != "smc":  # whose ESS counts populations
        for row in rows:
            standing: Standing = "value" if row.ess_reliable else "open"
            error = row.ess_error if row.ess_reliable else math.nan
            draw_figure(upper, row.milliseconds, row.ess, error, standing, colour, marker)
        upper.plot([row.milliseconds for row in rows], [row.ess for row in rows], color=colour, alpha=0.5)
    known = [row for row in rows if row.log_z_reliable]
    lower.plot([row.milliseconds for row in known], [row.in_a_second for row in known], marker + "-", color=colour)


def told(runs: Path, rows: Sequence[Row]) -> str:
    """All that is printed."""
    classical = [
        f"{SYSTEMS[one.system]}: {number(one.milliseconds)} ms an independent {one.observable} of the yardstick"
        for one in yardsticks(runs)
    ]
    return "\n".join([table(rows), *agreement(rows), "", volumes(runs), "", *classical])


def main() -> None:
    headline = "log Z by paths and by maps: ESS and error against the time of a sample."
    run_campaign_script(__doc__ or "", read_rows, told, draw, headline)


if __name__ == "__main__":
    run_as_command(main)
