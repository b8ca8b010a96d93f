"""How good flows are on larger lattices: the effective sample size of their weights against the volume.

    python analysis/ess_vs_volume.py output/*/flow/evaluation.h5 --out ess.pdf

Reads the weights of independent samples: flow/evaluation.h5 of a run, or the proposals of a flow_metropolis ensemble.
Errors by the jackknife. Trainings of one flow with several seeds are points of one line. The dashed line is
ESS(V) = ESS(V0)^(V / V0) from the smallest lattice (the median of its seeds): what equal mistakes on every patch of the
lattice would make of it. Open symbols: ESS * N < 200 or Pareto k-hat > 0.3, where
the ESS is at most what is shown.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.card.build import couplings_of
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Theory
from lattice_flows.estimates.weights import weights_summary
from lattice_flows.report.drawing import Axes, Figure, NullLocator
from lattice_flows.report.figure_script import flow_weights, lattice, require_lattice, run_script, split_rows
from lattice_flows.report.style import GREY, colour, legend_above, marker, single
from lattice_flows.training import CHECKPOINT_NAME, load_flow_weights

PLAIN = "u1"
LETTERS = {"beta": r"$\beta$", "lam": r"$\lambda$", "m2": "$m^2$", "c1": "$c_1$", "kappa": r"$\kappa$"}

TICKS = (1e-4, 0.01, 0.3, 0.7, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.99999)


class Row(NamedTuple):
    """ESS of n_samples weights; extrapolated: from the smallest lattice of the same flow and theory."""

    flow: str
    lattice: str
    n_sites: int
    theory: str
    ess: float
    error: float
    extrapolated: float
    n_samples: int
    pareto_k: float | None
    reliable: bool


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """A row for each file's weights, by volume."""
    require_lattice(groups)
    rows = sorted(map(row_of, groups), key=lambda row: row.n_sites)
    lines = split_rows(rows, line_of)
    return [row._replace(extrapolated=extrapolated(lines[line_of(row)], row.n_sites)) for row in rows]


def row_of(group: Replicas) -> Row:
    """The figures that `lattice-flows analyse` gives of these weights."""
    weights = weights_summary(flow_weights(group))
    n_sites = int(np.prod(group.theory["shape"]))
    figures = (weights["ess"], weights["ess_error"], np.nan, weights["n_samples"], weights["pareto_k"])
    return Row(flow_name(group), lattice(group), n_sites, theory_name(group.theory), *figures, weights["ess_reliable"])


def flow_name(group: Replicas) -> str:
    """Of the run's flow, where its checkpoint is beside the weights; else of the ensemble."""
    checkpoint = group.files[0].path.with_name(CHECKPOINT_NAME)
    if not checkpoint.exists():
        return group.name
    flow = load_flow_weights(checkpoint).header["flow"]
    return " ".join(flow[key] for key in ("name", "conditioner") if key in flow)


def theory_name(theory: Theory) -> str:
    """The couplings, and what theory they are of where it is not the plain one."""
    couplings = [f"{name} = {value:.4g}" for name, value in couplings_of(theory).items()]
    return ", ".join(couplings if theory["name"] == PLAIN else [theory["name"], *couplings])


def in_letters(theory: str) -> str:
    """The name of a theory, in the letters of its couplings."""
    words = (LETTERS.get(word, word) for word in theory.split(" "))
    return " ".join(words)


def line_of(row: Row) -> tuple[str, str]:
    """What is compared from lattice to lattice."""
    return row.theory, row.flow


def extrapolated(line: Sequence[Row], n_sites: float) -> float:
    """ESS(V0)^(V / V0), from the rows of one line by volume."""
    smallest = line[0].n_sites
    return float(np.median([row.ess for row in line if row.n_sites == smallest])) ** (n_sites / smallest)


def draw(rows: Sequence[Row]) -> Figure:
    """-log ESS against V, both logarithmic and the better above: equal mistakes on every patch make a straight line."""
    lines = split_rows(rows, line_of)
    figure, axes = single(3.2 + 0.2 * len(lines))  # a line of the legend each
    for i, ((theory, flow), line) in enumerate(lines.items()):
        volumes = np.array([line[0].n_sites, line[-1].n_sites])
        axes.plot(volumes, [defect(extrapolated(line, volume)) for volume in volumes], "--", color=colour(i), zorder=1)
        axes.plot([], [], marker(i), color=colour(i), label=f"{flow}, {in_letters(theory)}")
        for row in line:
            face = colour(i) if row.reliable else "white"
            error = row.error / row.ess
            axes.errorbar(row.n_sites, defect(row.ess), error, fmt=marker(i), color=colour(i), mfc=face, elinewidth=1.0)
    if any(line[0].n_sites < line[-1].n_sites for line in lines.values()):
        axes.plot([], [], "--", color=GREY, label=r"ESS$(V_0)^{V/V_0}$: equal mistakes on every patch")
    if not all(row.reliable for row in rows):
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="at most")
    shapes = {row.n_sites: row.lattice.replace("x", "×") for row in rows}
    axes.set(xscale="log", yscale="log", xlabel="$V$", ylabel="ESS")
    axes.set_xticks(list(shapes), list(shapes.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    draw_ess_axis(axes, [row.ess for row in rows])
    legend_above(figure)
    return figure


def defect(ess: float) -> float:
    """-log ESS, of which the axis shows no less than 1e-7."""
    return max(1e-7, -float(np.log(ess)))


def draw_ess_axis(axes: Axes, values: Sequence[float]) -> None:
    """Room for these, and what they are at the ticks."""
    bottom, top = 2.5 * defect(min(values)), 0.4 * defect(max(values))
    ticks = [ess for ess in TICKS if top < defect(ess) < bottom]
    axes.set_ylim(bottom, top)
    axes.set_yticks([defect(ess) for ess in ticks], [f"{ess:g}" for ess in ticks])
    axes.yaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
