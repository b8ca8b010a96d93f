"""How good flows are on larger lattices: the effective sample size of their weights against the volume.

    python analysis/ess_vs_volume.py output/*/flow/evaluation.h5 --out ess.pdf

Reads the weights of independent samples: flow/evaluation.h5 of a run, or the proposals of a flow_metropolis ensemble.
Errors by the jackknife. The dashed line is ESS(V) = ESS(V0)^(V / V0) from the smallest lattice: what equal mistakes on
every patch of the lattice would make of it. Open symbols: ESS * N < 200 or Pareto k-hat > 0.7, not to be trusted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lattice_flows.workflows.replicas import Replicas
from lattice_flows.workflows.report.house_style import GREY, colour, legend_above, marker, single
from lattice_flows.workflows.scripts import flow_weights, lattice, run_script, split_rows
from lattice_flows.workflows.weights import weights_summary


class Row(NamedTuple):
    """ESS of n_samples weights; extrapolated: from the smallest lattice of the same coupling."""

    ensemble: str
    lattice: str
    n_sites: int
    beta: float
    ess: float
    error: float
    extrapolated: float
    n_samples: int
    pareto_k: float
    reliable: bool


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """A row for each file's weights, by volume."""
    rows = sorted(map(row_of, groups), key=lambda row: row.n_sites)
    lines = split_rows(rows, flow_of)
    return [row._replace(extrapolated=extrapolated(lines[flow_of(row)][0], row.n_sites)) for row in rows]


def row_of(group: Replicas) -> Row:
    """The figures that `lattice-flows analyse` gives of these weights."""
    weights = weights_summary(flow_weights(group))
    n_sites = int(np.prod(group.theory["shape"]))
    about = (group.name, lattice(group), n_sites, group.theory["beta"])
    figures = (weights["ess"], weights["ess_error"], np.nan, weights["n_samples"], weights["pareto_k"])
    return Row(*about, *figures, weights["reliable"])


def flow_of(row: Row) -> tuple[float, str]:
    """What is compared from lattice to lattice."""
    return row.beta, row.ensemble


def extrapolated(smallest: Row, n_sites: float) -> float:
    """ESS(V0)^(V / V0)."""
    return smallest.ess ** (n_sites / smallest.n_sites)


def draw(rows: Sequence[Row]) -> Figure:
    """Both axes logarithmic."""
    figure, axes = single(3.4)
    betas, ensembles = sorted({row.beta for row in rows}), list(split_rows(rows, lambda row: row.ensemble))
    for (beta, name), line in split_rows(rows, flow_of).items():
        volumes = np.geomspace(line[0].n_sites, line[-1].n_sites, 100)
        guide = [extrapolated(line[0], volume) for volume in volumes]
        tint = colour(betas.index(beta))
        symbol = marker(ensembles.index(name) if len(ensembles) > 1 else betas.index(beta))
        axes.plot(volumes, guide, "--", color=tint, linewidth=0.9, zorder=1)
        for row in line:
            face = tint if row.reliable else "white"
            axes.errorbar(row.n_sites, row.ess, row.error, fmt=symbol, color=tint, mfc=face, elinewidth=1.0)
    for i, beta in enumerate(betas):
        axes.plot([], [], "s" if len(ensembles) > 1 else marker(i), color=colour(i), label=rf"$\beta = {beta:g}$")
    for i, name in enumerate(ensembles if len(ensembles) > 1 else []):
        axes.plot([], [], marker(i), color=GREY, label=name)
    axes.plot([], [], "--", color=GREY, linewidth=0.9, label=r"ESS$(V_0)^{V/V_0}$")
    if not all(row.reliable for row in rows):
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="unreliable")
    shapes = split_rows(rows, lambda row: row.n_sites)
    labels = [same[0].lattice.replace("x", "×") for same in shapes.values()]
    axes.set(xscale="log", yscale="log", xlabel="$V$", ylabel="ESS", ylim=(0.5 * min(row.ess for row in rows), 1.2))
    axes.set_xticks(list(shapes), labels)
    axes.xaxis.set_minor_locator(NullLocator())
    legend_above(figure)
    return figure


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
