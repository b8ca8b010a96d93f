"""Freezing: the integrated autocorrelation time of Q^2 and of the plaquette against beta, a line for each sampler.

    python analysis/tau_int_vs_beta.py output/scan/*/ensembles/*.h5 --out tau_int.pdf

In updates; a series that was measured at every n-th update cannot show less than n / 2. Where the charge changed fewer
than 20 times an arrow stands for "at least so much". Weighted chains count by their effective number of configurations,
N / (2 n_eff). Files of one card, theory and sampler are replicas.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.report.drawing import Axes, Figure, LogFormatter
from lattice_flows.report.figure_script import (
    CHARGE,
    charge_changes,
    estimates_of,
    lattice,
    or_nan,
    require_charge,
    run_script,
    split_rows,
)
from lattice_flows.report.style import GREY, WIDTH, colour, legend_above, marker
from lattice_flows.statistics import MIN_CHANGES

SERIES = {"topological_charge_squared": CHARGE, "plaquette": "plaquette"}
TEX = {"topological_charge_squared": "$Q^2$", "plaquette": "the plaquette"}


class Row(NamedTuple):
    """tau_int in updates. kind: "value", "doubtful" (an error not to be trusted) or "bound" (tau_int is larger)."""

    ensemble: str
    sampler: str
    lattice: str
    beta: float
    observable: str
    kind: str
    tau_int: float
    error: float | None
    updates_per_measurement: int
    changes_of_charge: int


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """Both observables of every ensemble, by beta."""
    require_charge(groups)
    rows = [row for group in groups for row in rows_of(group)]
    return sorted(rows, key=lambda row: row.beta)


def rows_of(group: Replicas) -> list[Row]:
    """An independent Q^2 takes one tunnelling at least, so that a frozen charge bounds its tau_int from below."""
    changes, rows = charge_changes(group), []
    for (name, series), estimate in zip(SERIES.items(), estimates_of(group, *SERIES)):
        numbers = group.rows(series)
        spacing = int(numbers[0][1] - numbers[0][0]) * group.sampler["n_updates"]
        n_updates = sum(map(len, numbers)) * spacing
        about = (group.name, group.sampler["name"], lattice(group), group.theory["beta"], name)
        frozen, n_eff = changes < MIN_CHANGES, or_nan(estimate["n_eff"])
        if (frozen and series == CHARGE) or not n_eff > 0:
            rows.append(Row(*about, "bound", n_updates / (2 * max(1, changes)), None, spacing, changes))
            continue
        tau_int = n_updates / (2 * n_eff)
        error = tau_int * or_nan(estimate["tau_int_error"]) / or_nan(estimate["tau_int"])
        kind = "value" if estimate["trusted"] and not frozen else "doubtful"
        rows.append(Row(*about, kind, tau_int, error, spacing, changes))
    return rows


def draw(rows: Sequence[Row]) -> Figure:
    """Q^2 above, the plaquette below."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    several = len({row.lattice for row in rows}) > 1
    lines = split_rows(rows, lambda row: (row.ensemble, row.lattice))
    betas = sorted({row.beta for row in rows})
    spread = 0.08 * float(np.diff(betas).min()) if len(betas) > 1 else 0.01
    for i, ((ensemble, shape), line) in enumerate(lines.items()):
        text = f"{ensemble}, {shape.replace('x', '×')}" if several else ensemble
        for axes, name in zip(panels, SERIES):
            shift = spread * (i - (len(lines) - 1) / 2) / max(1, (len(lines) - 1) / 2)
            draw_line(axes, [row for row in line if row.observable == name], i, shift)
        panels[0].plot([], [], marker(i), linestyle="-", color=colour(i), label=text)
    if any(row.kind == "bound" for row in rows):
        panels[0].plot([], [], marker=r"$\uparrow$", markersize=8, linestyle="", color=GREY, label="at least")
    if any(row.kind == "doubtful" for row in rows):
        panels[0].plot([], [], "o", markerfacecolor="white", linestyle="", color=GREY, label="error not trusted")
    for axes, name in zip(panels, SERIES):
        axes.set(yscale="log", ylabel=rf"$\tau_\mathrm{{int}}$ of {TEX[name]} / updates")
        axes.yaxis.set_minor_formatter(LogFormatter())
    panels[1].set_xlabel(r"$\beta$")
    legend_above(figure)
    return figure


def draw_line(axes: Axes, line: Sequence[Row], i: int, shift: float) -> None:
    """Full symbols for values, open ones for doubtful errors, arrows without a value for bounds."""
    known = [row for row in line if row.kind != "bound"]
    axes.plot([row.beta + shift for row in known], [row.tau_int for row in known], color=colour(i), alpha=0.5)
    for row in known:
        face = colour(i) if row.kind == "value" else "white"
        at = row.beta + shift, row.tau_int
        axes.errorbar(*at, row.error, fmt=marker(i), color=colour(i), markerfacecolor=face, elinewidth=1.0)
    for row in line:
        if row.kind == "bound":
            axes.errorbar(row.beta + shift, row.tau_int, row.tau_int, lolims=True, fmt="_", color=colour(i))


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
