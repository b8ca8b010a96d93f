"""The topological susceptibility towards the continuum: 4 pi^2 beta chi_top, which becomes 1, against 1 / beta.

    python analysis/chi_top_scaling.py output/*/ensembles/direct.h5 --out chi_top.pdf

In two dimensions beta = 1 / (a e)^2, so that 1 / beta is a^2 in units of the charge and chi_top a^2 -> 1 / (4 pi^2
beta). Colours tell lattices, or the physical volume V / beta of a lattice with one beta; dashed lines are the closed
form there, the solid one that of the infinite volume. Open symbols: frozen, or otherwise an error not to be trusted.
Below: differences of the others from the closed form in errors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.report.drawing import Axes, Figure
from lattice_flows.report.figure_script import (
    charge_changes,
    draw_pull_bands,
    estimates_of,
    lattice,
    or_nan,
    require_charge,
    run_script,
    split_rows,
)
from lattice_flows.report.style import GREY, WIDTH, colour, legend_above, marker
from lattice_flows.statistics import MIN_CHANGES
from lattice_flows.theories import ExactU1

CONTINUUM = 4.0 * np.pi**2  # times beta chi_top is 1 in the continuum
INFINITE = 200.0  # V / beta of a volume that counts as infinite: corrections are below exp(-90)


class Row(NamedTuple):
    """scaled: 4 pi^2 beta chi_top; pull: (chi_top - exact) / error; trusted: whether the error means what it says."""

    ensemble: str
    lattice: str
    n_sites: int
    beta: float
    chi_top: float
    error: float
    exact: float
    pull: float | None
    scaled: float
    scaled_error: float
    trusted: bool


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """A row for each ensemble, by beta."""
    require_charge(groups)
    return sorted(map(row_of, groups), key=lambda row: (row.beta, row.n_sites))


def row_of(group: Replicas) -> Row:
    """Trusted is what `lattice-flows analyse` trusts, and not frozen."""
    (estimate,) = estimates_of(group, "topological_susceptibility")
    beta, n_sites, scale = group.theory["beta"], int(np.prod(group.theory["shape"])), CONTINUUM * group.theory["beta"]
    value, error = or_nan(estimate["value"]), or_nan(estimate["error"])
    figures = (value, error, or_nan(estimate["exact"]), estimate["pull"], scale * value, scale * error)
    trusted = estimate["trusted"] and charge_changes(group) >= MIN_CHANGES
    return Row(group.name, lattice(group), n_sites, beta, *figures, trusted)


def draw(rows: Sequence[Row]) -> Figure:
    """The susceptibility above, what it misses below."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1.0])
    scanned = [
        name for name, same in split_rows(rows, lambda row: row.lattice).items() if len({r.beta for r in same}) > 1
    ]
    families = split_rows(rows, lambda row: row.lattice if row.lattice in scanned else physical_volume(row))
    ensembles = list(split_rows(rows, lambda row: row.ensemble))
    top = max(draw_infinite_volume(upper, max(1.0 / row.beta for row in rows)), *(r.scaled for r in rows if r.trusted))
    for i, (family, members) in enumerate(families.items()):
        text = family.replace("x", "×") if isinstance(family, str) else rf"$V/\beta = {family:g}$"
        draw_closed_form(upper, members, isinstance(family, str), colour(i))
        upper.plot([], [], marker(0) if len(ensembles) == 1 else "--", color=colour(i), label=text)
        for row in members:
            symbol = marker(ensembles.index(row.ensemble))
            at = (1.0 + 0.012 * ensembles.index(row.ensemble)) / row.beta
            draw_point(upper, row, at, 1.12 * top, symbol, colour(i))
            if row.trusted and row.pull is not None:
                lower.plot(at, row.pull, symbol, color=colour(i))
    for i, name in enumerate(ensembles if len(ensembles) > 1 else []):
        upper.plot([], [], marker(i), color=GREY, label=name)
    if not all(row.trusted for row in rows):
        upper.plot([], [], "o", color=GREY, markerfacecolor="white", label="error not trusted")
    draw_pull_bands(lower, [row.pull for row in rows if row.trusted])
    upper.set(ylabel=r"$4\pi^2\beta\,\chi_\mathrm{top}$", ylim=(None, 1.15 * top))
    lower.set(xlabel=r"$1/\beta = (ae)^2$", xlim=(0.0, None))
    legend_above(figure)
    return figure


def draw_point(axes: Axes, row: Row, at: float, top: float, symbol: str, tint: str) -> None:
    """Full symbols where the error is trusted; open ones, at the upper edge an arrow for what lies beyond."""
    if row.trusted:
        axes.errorbar(at, row.scaled, row.scaled_error, fmt=symbol, color=tint, elinewidth=1.0)
    else:
        look = {"marker": r"$\uparrow$", "markersize": 9} if row.scaled > top else {"marker": symbol, "mfc": "white"}
        axes.plot(at, min(row.scaled, top), linestyle="", color=tint, **look)


def physical_volume(row: Row) -> float:
    """V / beta."""
    return round(row.n_sites / row.beta, 6)


def draw_infinite_volume(axes: Axes, largest: float) -> float:
    """From the continuum, where the scaled susceptibility is 1, to beyond the largest 1 / beta; returns its maximum."""
    inverse = np.linspace(0.0, 1.05 * largest, 80)[1:]
    scaled = [CONTINUUM / x * ExactU1(1.0 / x, int(np.ceil(INFINITE / x))).susceptibility for x in inverse]
    axes.plot([0.0, *inverse], [1.0, *scaled], color="0.2", linewidth=1.0, label="infinite volume", zorder=1)
    axes.plot(0.0, 1.0, "*", color="0.2", markersize=9, clip_on=False, label="continuum")
    return max(1.0, *scaled)


def draw_closed_form(axes: Axes, members: Sequence[Row], one_lattice: bool, tint: str) -> None:
    """On one lattice at any beta, or at one physical volume on square lattices of any size."""
    betas = np.geomspace(min(row.beta for row in members), max(row.beta for row in members), 60)
    sites = np.full(len(betas), members[0].n_sites)
    if not one_lattice:
        sites = np.rint(physical_volume(members[0]) * betas)
        betas = sites / physical_volume(members[0])
    exact = [ExactU1(b, int(v)).susceptibility for b, v in zip(betas, sites)]
    axes.plot(1.0 / betas, CONTINUUM * betas * exact, "--", color=tint, linewidth=1.0, zorder=1)


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
