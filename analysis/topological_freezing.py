"""Freezing and its cures: python analysis/topological_freezing.py output/freezing analysis/topological_freezing.svg

Integrated autocorrelation time of Q^2, and what an independent configuration costs, of every sampler of runs/freezing:
against beta on 16x16, and towards the continuum in a fixed physical volume. Prints the points as a table.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.summary_types import EnsembleSummary, ObservableRow, Summary, Theory
from lattice_flows.exit_status import run_as_command
from lattice_flows.report.drawing import Axes, Figure, Line2D, rc_context
from lattice_flows.report.figure_script import Standing, draw_figure, or_nan, save_figure, standing_handles
from lattice_flows.report.style import GREY, STYLE
from lattice_flows.statistics import count_changes

# One hue family for each way: local updates freeze, hops of the charge cure, ladders and biases cure at a price.
LOOKS = {
    "metropolis": ("Metropolis", "#E69F00", "o"),
    "overrelaxation": ("heat bath + overrelaxation", "#8C4A00", "s"),
    "hmc": ("HMC", "#D55E00", "D"),
    "hmc_instanton": ("HMC + instanton", "#0072B2", "D"),
    "overrelaxation_instanton": ("h.b. + overrel. + instanton", "#56B4E9", "s"),
    "winding_hmc": ("winding HMC", "#009E73", "^"),
    "tempering": (r"tempering in $\beta$", "#CC79A7", "v"),
    "metadynamics": ("metadynamics", "#6A3D9A", "P"),
    "exchange": ("parallel-temp. metadyn.", "#000000", "X"),
}
DIRECT = "direct"
OUTLIER = 4.0
_TOO_SHORT = "shorter than"  # in the summary's warnings on the length of chains
_APART = 1.5  # R-hat of chains that have not seen each other's sectors: their tau_int is that of a part only
_FEWEST = 50  # effective configurations: weighted chains may have few, though long in units of their tau_int


class Point(NamedTuple):
    """A sampler at a point. tau_int in updates, cost in seconds; where `kind` is "bound" both are at least so much."""

    sampler: str
    beta: float
    side: int
    kind: Standing  # "value", "open" (an error not to be trusted) or "bound"
    tau_int: float
    cost: float
    error: float  # relative, of both
    pull: float | None


def read_points(run: Path) -> list[Point]:
    """The points of all runs below the folder, by side and beta. Raises InputError without any."""
    points = []
    for path in run.glob("*/report/summary.json"):
        summary: Summary = json.loads(path.read_text())
        for name, ensemble in summary["ensembles"].items():
            with Ensemble.open(path.parents[1] / "ensembles" / f"{name}.h5") as file:
                changes = count_changes(file.series("topological_charge"))
            points.append(point(name, summary["theory"], ensemble, changes))
    if not points:
        raise InputError(f"{run}: holds no analysed run, RUN/report/summary.json; make them with runs/freezing/scan.py")
    return sorted(points, key=lambda one: (one.side, one.beta))


def point(name: str, theory: Theory, ensemble: EnsembleSummary, changes: int) -> Point:
    """What an ensemble's summary says of Q^2; `changes` of the charge were seen.

    An independent configuration takes one tunnelling at least, so that a frozen chain bounds both figures from below.
    Weighted chains have fewer effective configurations than their tau_int tells, so tau_int here is N / (2 n_eff).
    """
    charge = ensemble["observables"]["topological_charge_squared"]
    updates = ensemble["n_chains"] * ensemble["n_configs"] * ensemble["settings"]["n_updates"]
    core_seconds = or_nan(ensemble["seconds"]) * ensemble["threads"]
    kind = _kind(ensemble, charge)
    if kind == "bound":
        n_eff, error = max(1.0, changes), 0.0
    else:
        n_eff, error = or_nan(charge["n_eff"]), or_nan(charge["tau_int_error"]) / or_nan(charge["tau_int"])
    place = theory["beta"], theory["shape"][0], kind
    return Point(name, *place, updates / (2 * n_eff), core_seconds / n_eff, error, charge["pull"])


def _kind(ensemble: EnsembleSummary, charge: ObservableRow) -> Standing:
    about = [text for text in ensemble["warnings"] if "topological_charge_squared" in text.partition(":")[0]]
    too_short = any(_TOO_SHORT in text for text in about)
    if ensemble["frozen"] or too_short or (charge["r_hat"] or 1.0) > _APART:
        return "bound"
    return "value" if charge["trusted"] and or_nan(charge["n_eff"]) >= _FEWEST else "open"


def total_chi_squared(points: Sequence[Point]) -> tuple[float, int, float]:
    """chi^2 of the trusted <Q^2> against the exact values, the number of them, and the probability of a larger one."""
    pulls = [one.pull for one in points if one.kind == "value" and one.pull is not None]
    total = float(np.square(pulls).sum())
    return total, len(pulls), float(chi2.sf(total, len(pulls)))


def table(points: Sequence[Point]) -> str:
    """All points, then chi^2 and the outliers."""
    lines = [f"{'sampler':25} {'lattice':>8} {'beta':>4}  {'tau_int(Q^2)':>12} {'s / independent':>17} {'pull':>6}"]
    for one in sorted(points, key=lambda one: (one.side, one.beta, *_order(one.sampler))):
        sign = {"value": " ", "open": "~", "bound": ">"}[one.kind]
        pull = "" if one.kind == "bound" or one.pull is None else f"{one.pull:6.2f}"
        error = " " * 7 if one.kind == "bound" else f"({one.error:5.1%})"
        figures = f"{sign}{one.tau_int:11.4g} {sign}{one.cost:9.3g} {error}"
        lines.append(f"{one.sampler:25} {one.side:>5}^2 {one.beta:>5g}  {figures} {pull}")
    total, n, probability = total_chi_squared(points)
    lines.append(f"<Q^2> against the exact value: chi^2 = {total:.1f} of {n} points, p = {probability:.2g}")
    outliers = [one for one in points if one.kind == "value" and one.pull is not None and abs(one.pull) > OUTLIER]
    lines += [f"outlier: {one.sampler} at beta = {one.beta:g}, {one.side}^2: pull {one.pull:.1f}" for one in outliers]
    return "\n".join(lines)


def _order(sampler: str) -> tuple[int, str]:
    return [*LOOKS, DIRECT].index(sampler), sampler


def draw(points: Sequence[Point]) -> Figure:
    """Two lines of points, each with tau_int above and the cost below."""
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    columns = [
        ("beta", 0.04, [one for one in points if one.side == 16]),
        ("side", 0.22, [one for one in points if one.side**2 == 64 * one.beta]),
    ]
    for column, (x, spread, line) in enumerate(columns):
        for row, y in enumerate(("tau_int", "cost")):
            axes = panels[row, column]
            axes.set_yscale("log")
            draw_direct(axes, [one for one in line if one.sampler == DIRECT], x, y)
            for k, name in enumerate(LOOKS):
                own = [one for one in line if one.sampler == name]
                draw_sampler(axes, own, x, y, shift=spread * (k - len(LOOKS) // 2))
    panels[0, 0].set(ylabel=r"$\tau_{\rm int}(Q^2)$ / updates", title=r"$16 \times 16$")
    panels[0, 1].set(title=r"fixed physical volume, $L^2/\beta = 64$")
    panels[1, 0].set(xlabel=r"$\beta$", ylabel="seconds per independent configuration", xticks=range(1, 11))
    panels[1, 1].set(xlabel=r"$L$, with $\beta = L^2/64$", xticks=range(8, 65, 8))
    figure.legend(handles=legend(), loc="outside upper center", ncols=4)
    return figure


def draw_sampler(axes: Axes, points: Sequence[Point], x: str, y: str, shift: float) -> None:
    """Full symbols for values, open ones for doubtful errors, arrows for lower bounds; `shift` parts equal points."""
    known = [one for one in points if one.kind != "bound"]
    colour = LOOKS[points[0].sampler][1] if points else GREY
    axes.plot([getattr(one, x) + shift for one in known], [getattr(one, y) for one in known], color=colour, alpha=0.5)
    for one in points:
        _, colour, marker = LOOKS[one.sampler]
        height = getattr(one, y)
        draw_figure(axes, getattr(one, x) + shift, height, one.error * height, one.kind, colour, marker)


def draw_direct(axes: Axes, points: Sequence[Point], x: str, y: str) -> None:
    """The yardstick: independent configurations, drawn directly."""
    places, heights = [getattr(one, x) for one in points], [getattr(one, y) for one in points]
    axes.plot(places, heights, color=GREY, linewidth=2.5, linestyle="--", zorder=1)


def legend() -> list[Line2D]:
    """A column for each way, and one for the rest."""
    samplers = [Line2D([], [], color=colour, marker=marker, label=label) for label, colour, marker in LOOKS.values()]
    direct = Line2D([], [], color=GREY, linewidth=2.5, linestyle="--", label="direct sampler")
    return [*samplers, direct, *standing_handles("error not trusted", "at least")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder that the run folders are in")
    parser.add_argument("figure", type=Path, metavar="FIGURE.svg")
    given = parser.parse_args()
    target, points = given.figure, read_points(given.runs)
    print(table(points))
    with rc_context(STYLE):
        save_figure(draw(points), target)


if __name__ == "__main__":
    run_as_command(main)
