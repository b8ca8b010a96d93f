"""Who wins, maps or hops: python analysis/trivializing.py output/trivializing analysis/trivializing.svg

Core time of an independent configuration of Q^2, and of the plaquette, of every sampler of runs/trivializing: towards
the continuum with a map of its own at each point, and with the weights of 8x8 on larger lattices. Of samplers with 1, 4
and 16 hops the one that is cheapest in Q^2 is drawn. Prints all of them as a table; FIGURE.csv holds it.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lattice_flows.errors import InputError
from lattice_flows.estimates.summary_types import EnsembleSummary, Summary
from lattice_flows.exit_status import run_as_command
from lattice_flows.report.costs import Cost, costs
from lattice_flows.report.drawing import Axes, Figure, Line2D
from lattice_flows.report.figure_script import (
    Standing,
    draw_figure,
    or_nan,
    run_campaign_script,
    split_rows,
    standing_handles,
)
from lattice_flows.terminal.numbers import number, with_error

CHARGE, PLAQUETTE = "topological_charge_squared", "plaquette"
LOOKS = {  # by the name without its hops
    "hmc": ("HMC", "#D55E00", "D"),
    "hmc_hop": ("HMC + hops", "#0072B2", "D"),
    "heatbath_hop": ("heat bath + overrelaxation + hops", "#56B4E9", "s"),
    "flow_metropolis": ("flow_metropolis", "#000000", "o"),
    "flow_hmc_none": ("flow_hmc, no force", "#009E73", "^"),
    "flow_hmc_clipped": ("flow_hmc, clipped", "#CC79A7", "v"),
    "flow_hmc_full": ("flow_hmc, full force", "#6A3D9A", "P"),
    "flow_blocks": ("flow_blocks", "#B27B00", "X"),
}
SCANS = {
    "u1": "u1, exact map",
    "u1_improved": "u1_improved, hybrid trained at each point",
    "coupling": "u1, couplings of 8x8",
    "hybrid": "u1_improved, hybrid of 8x8",
}
NOTHING = Cost(math.nan, math.nan, False)


class Row(NamedTuple):
    """A sampler at a point. Costs in ms; that of a frozen sampler is a bound from below."""

    scan: str
    side: int
    beta: float
    sampler: str
    acceptance: float | None
    tau_int: float | None  # of Q^2, in configurations
    ms_charge: float
    ms_charge_error: float
    ms_plaquette: float
    ms_plaquette_error: float
    frozen: bool
    trusted: bool
    pull_charge: float | None
    pull_plaquette: float | None
    ess: float | None
    train_seconds: float | None


def read_rows(runs: Path) -> list[Row]:
    """All samplers of all runs below the folder. Raises InputError without any."""
    rows = []
    for path in sorted(runs.glob("*/*/report/summary.json")):
        scan = path.parts[-3].rpartition("_")[0]
        if scan in SCANS:
            summary: Summary = json.loads(path.read_text())
            rows += rows_of(scan, summary)
    if not rows:
        raise InputError(f"{runs}: holds no analysed run; make them with runs/trivializing/campaign.py")
    places, looks = list(SCANS), list(LOOKS)
    return sorted(rows, key=lambda row: (places.index(row.scan), row.side, looks.index(family(row)), row.sampler))


def rows_of(scan: str, summary: Summary) -> list[Row]:
    """The samplers of one run."""
    found = costs(summary["ensembles"])
    rows = []
    for name, ensemble in summary["ensembles"].items():
        charge, plaquette = (found.get(key, {}).get(name, NOTHING) for key in (CHARGE, PLAQUETTE))
        bound = ensemble.get("seconds_per_independent_config_at_least")
        observables, flow = ensemble["observables"], summary["flow"]
        uses_flow = name.startswith("flow_") and name != "flow_blocks"
        rows.append(
            Row(
                scan,
                summary["theory"]["shape"][0],
                summary["theory"]["beta"],
                name,
                ensemble["acceptance_rate"],
                figure_of(ensemble, CHARGE, "tau_int"),
                1e3 * (or_nan(bound) if ensemble["frozen"] else charge.seconds),
                1e3 * charge.error,
                1e3 * plaquette.seconds,
                1e3 * plaquette.error,
                ensemble["frozen"],
                charge.trusted,
                observables[CHARGE]["pull"] if CHARGE in observables else None,
                observables[PLAQUETTE]["pull"] if PLAQUETTE in observables else None,
                flow["ess"] if flow and uses_flow else None,
                flow["train_seconds"] if flow and uses_flow else None,
            )
        )
    return rows


def figure_of(ensemble: EnsembleSummary, observable: str, key: str) -> float | None:
    """A figure of an observable's row, if there is one."""
    row = ensemble["observables"].get(observable)
    return None if row is None or ensemble["frozen"] else row[key]  # type: ignore[literal-required]


def family(row: Row) -> str:
    """The sampler without the number of its hops."""
    return re.sub(r"_\d+$", "", row.sampler)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown, the cheapest of each point in Q^2 and in the plaquette with an asterisk."""
    figures = ("acceptance", "tau_int(Q^2)", "ms, Q^2", "ms, plaquette", "pulls", "ESS")
    headings = ("theory and map", "lattice", "beta", "sampler", *figures)
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for point in split_rows(rows, lambda row: (row.scan, row.side)).values():
        best = [cheapest(point, key) for key in ("ms_charge", "ms_plaquette")]
        for row in point:
            stars = [" *" if row is one else "" for one in best]
            lines.append(f"| {' | '.join(cells(row, stars))} |")
    return "\n".join(lines)


def cells(row: Row, stars: Sequence[str]) -> tuple[str, ...]:
    """A row as texts."""
    charge = f"> {number(row.ms_charge)}" if row.frozen else with_error(row.ms_charge, row.ms_charge_error)
    doubt = "" if row.frozen or row.trusted else " !"
    pulls = "-" if row.frozen else f"{or_nan(row.pull_charge):+.1f}, {or_nan(row.pull_plaquette):+.1f}"
    return (
        SCANS[row.scan], f"{row.side}x{row.side}", f"{row.beta:g}", row.sampler, number(row.acceptance),
        "frozen" if row.frozen else number(row.tau_int), charge + doubt + stars[0],
        ("-" if row.frozen else with_error(row.ms_plaquette, row.ms_plaquette_error)) + stars[1], pulls,
        number(row.ess),
    )  # fmt: skip


def cheapest(rows: Sequence[Row], key: str) -> Row | None:
    """The row with the lowest cost that can be trusted."""
    known = [row for row in rows if not row.frozen and row.trusted and math.isfinite(getattr(row, key))]
    return min(known, key=lambda row: getattr(row, key), default=None)


def drawn(rows: Sequence[Row]) -> list[Row]:
    """One row for each family and point: the one that is cheapest in Q^2."""
    groups = split_rows(rows, lambda row: (row.scan, row.side, family(row)))
    return [cheapest(group, "ms_charge") or group[0] for group in groups.values()]


def draw(rows: Sequence[Row]) -> Figure:
    """A panel for each scan."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    shown = split_rows(drawn(rows), lambda row: row.scan)
    for axes, (scan, title) in zip(panels.T.ravel(), SCANS.items()):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(title)
        own = shown.get(scan, [])
        for k, name in enumerate(LOOKS):
            draw_sampler(axes, [row for row in own if family(row) == name], 2 ** (0.03 * (k - len(LOOKS) / 2)))
        sides = {row.side: row.beta for row in own}
        axes.set_xticks(list(sides), [f"{side}\n$\\beta = {beta:g}$" for side, beta in sides.items()])
        axes.minorticks_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("ms per independent configuration of $Q^2$")
    for axes in panels[1]:
        axes.set_xlabel("side")
    used = {family(row) for row in rows}
    lines = [Line2D([], [], color=c, marker=m, label=text) for name, (text, c, m) in LOOKS.items() if name in used]
    figure.legend(
        handles=[*lines, *standing_handles("not trusted", "frozen: at least")], loc="outside upper center", ncols=4
    )
    return figure


def draw_sampler(axes: Axes, rows: Sequence[Row], shift: float) -> None:
    """Full symbols for values, open ones where errors cannot be trusted, arrows for lower bounds."""
    for row in rows:
        _, colour, marker = LOOKS[family(row)]
        standing: Standing = "bound" if row.frozen else "value" if row.trusted else "open"
        error = min(row.ms_charge_error, 0.9 * row.ms_charge)
        draw_figure(axes, shift * row.side, row.ms_charge, error, standing, colour, marker)
    known = [row for row in rows if not row.frozen]
    if known:
        places, heights = [shift * row.side for row in known], [row.ms_charge for row in known]
        axes.plot(places, heights, color=LOOKS[family(known[0])][1], alpha=0.5)


def main() -> None:
    headline = "Core time per independent configuration of Q^2."
    run_campaign_script(__doc__ or "", read_rows, lambda _, rows: table(rows), draw, headline)


if __name__ == "__main__":
    run_as_command(main)
