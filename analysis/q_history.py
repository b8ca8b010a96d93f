"""The topological charge along the chains of each ensemble, and its distribution against the closed form.

    python analysis/q_history.py output/quickstart/ensembles/*.h5 --out q_history.pdf

Left: three chains of each, one above the other, over about a hundred autocorrelation times of Q; frozen ones (fewer
than 20 changes in all chains) whole. Right: P(Q) with errors, weighted where the ensemble is; bars are the closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.report.drawing import Axes, Figure, MaxNLocator
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
from lattice_flows.report.style import GREY, WIDTH, colour
from lattice_flows.statistics import MIN_CHANGES
from lattice_flows.theories import ExactU1, Quantity, Term

N_CHAINS, SHORTEST, MOST_POINTS, MOST_CHARGES = 3, 200, 2000, 12


class Row(NamedTuple):
    """Of the history (chain and config are given), or of the distribution (probability, its error, closed form)."""

    ensemble: str
    lattice: str
    beta: float
    frozen: bool
    charge: int
    chain: int | None = None
    config: int | None = None
    probability: float | None = None
    error: float | None = None
    exact: float | None = None


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """Histories and distributions of every ensemble."""
    require_charge(groups)
    return [row for group in groups for row in rows_of(group)]


def rows_of(group: Replicas) -> list[Row]:
    """P(Q) of all charges that were seen, up to |Q| = 12, by the estimators of `lattice-flows analyse`."""
    about = Row(group.name, lattice(group), group.theory["beta"], charge_changes(group) < MIN_CHANGES, 0)
    seen = max(int(np.abs(np.rint(chain)).max()) for chain in group.series(CHARGE))
    q_max = min(seen + 1, MOST_CHARGES)
    sectors = {q: sector(q, q_max) for q in range(-q_max, q_max + 1)}
    with_sectors = replace(group, derived=tuple(sectors.values()))
    charge, *found = estimates_of(with_sectors, CHARGE, *(quantity.name for quantity in sectors.values()))
    distribution = [
        about._replace(charge=q, probability=row["value"], error=row["error"], exact=row["exact"])
        for q, row in zip(sectors, found)
    ]
    return history(group, about, or_nan(charge["tau_int"])) + distribution


def history(group: Replicas, about: Row, tau_int: float) -> list[Row]:
    """The first chains; of very long ones every n-th configuration."""
    chains = list(zip(group.series(CHARGE), group.rows(CHARGE)))[:N_CHAINS]
    n = min(len(charge) for charge, _ in chains)
    if not about.frozen:
        n = min(n, max(SHORTEST, math.ceil(100 * np.nan_to_num(tau_int, nan=0.5))))
    part = slice(0, n, -(-n // MOST_POINTS))
    return [
        about._replace(charge=int(q), chain=k, config=int(number))
        for k, (charge, numbers) in enumerate(chains)
        for q, number in zip(np.rint(charge[part]), numbers[part])
    ]


def sector(q: int, q_max: int) -> Quantity:
    """P(q), the mean of an indicator series."""
    indicator = Term(CHARGE, lambda series: (np.rint(series) == q).astype(float))
    name = f"probability_of_charge_{q}"
    return Quantity(name, (indicator,), exact=lambda oracle: float(closed_form(oracle, q_max)[q_max + q]))


@cache
def closed_form(oracle: ExactU1, q_max: int) -> np.ndarray:
    """P(-q_max) ... P(q_max)."""
    return oracle.charge_distribution(q_max)


def draw(rows: Sequence[Row]) -> Figure:
    """A line of two panels for each ensemble."""
    ensembles = split_rows(rows, lambda row: row[:4])
    figure = Figure(figsize=(1.4 * WIDTH, 0.6 + 1.45 * len(ensembles)), layout="constrained")
    panels = figure.subplots(len(ensembles), 2, width_ratios=[2.2, 1.0], squeeze=False)
    largest = max(1, *(abs(row.charge) for row in rows if row.chain is not None))
    for i, ((name, shape, beta, frozen), members) in enumerate(ensembles.items()):
        draw_history(panels[i, 0], [row for row in members if row.chain is not None], largest, colour(i))
        draw_distribution(panels[i, 1], [row for row in members if row.chain is None], colour(i))
        where = f"{shape.replace('x', '×')}, β = {beta:g}"
        panels[i, 0].set_title(f"{name}, {where}{', frozen' if frozen else ''}")
    panels[-1, 0].set_xlabel("configuration")
    panels[-1, 1].set_xlabel("$Q$")
    return figure


def draw_history(axes: Axes, rows: Sequence[Row], largest: int, tint: str) -> None:
    """Every chain about a zero line of its own."""
    chains, spacing = split_rows(rows, lambda row: row.chain), 2 * largest + 2
    for k, chain in chains.items():
        axes.axhline(-k * spacing, color=GREY, linewidth=0.6)
        height = [row.charge - k * spacing for row in chain]
        axes.step([or_nan(row.config) for row in chain], height, where="post", color=tint, linewidth=0.9)
    ticks = [(q - k * spacing, q) for k in chains for q in (0, largest)]
    axes.set_yticks(*zip(*ticks), fontsize=7)
    axes.grid(False, axis="y")
    numbers = [row.config for row in rows if row.config is not None]
    axes.set(ylabel="$Q$", xlim=(min(numbers), max(numbers)))
    axes.set_ylim(-(len(chains) - 1) * spacing - largest - 1, largest + 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def draw_distribution(axes: Axes, rows: Sequence[Row], tint: str) -> None:
    """Points on the bars of the closed form, open where frozen; a charge that was never seen has no point."""
    charges = [row.charge for row in rows]
    if rows[0].exact is not None:
        axes.bar(charges, [or_nan(row.exact) for row in rows], 0.9, color="0.82")
    look: dict[str, Any] = {"markersize": 3, "markerfacecolor": "white" if rows[0].frozen else tint}
    for row in rows:
        if row.probability:
            axes.errorbar(row.charge, row.probability, row.error, fmt="o", color=tint, elinewidth=1.0, **look)
    axes.set(ylabel="$P(Q)$", ylim=(0.0, None))
    axes.grid(False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, symmetric=True))


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
