"""The figure of the README, from the quickstart's run: python analysis/quickstart.py output/quickstart quickstart.svg

Left: the topological charge along one chain of each ensemble. Right: its distribution in all chains against the closed
form; a charge that an ensemble never saw has no point.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lattice_flows.ensembles import Ensemble
from lattice_flows.exit_status import run_as_command
from lattice_flows.report.drawing import Axes, ConstrainedLayoutEngine, Figure, rc_context
from lattice_flows.report.figure_script import save_figure
from lattice_flows.report.style import STYLE
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ExactU1

LOOKS = {
    "hmc": ("HMC", "#009E73"),
    "flow_hmc": ("flow-HMC", "#D55E00"),
    "flow": ("flow Metropolis", "#0072B2"),
    "direct": ("direct", "#CC79A7"),
}
SHOWN = 150  # configurations of a chain
Q_MAX = 3  # beyond it the shortest ensemble has a handful of configurations

Charges = dict[str, NDArray[np.float64]]


def read(run: Path) -> tuple[Charges, ExactU1]:
    """The charges of each ensemble, (n_configs, n_chains), and the closed forms of the run's theory."""
    charges = {}
    for name in LOOKS:
        with Ensemble.open(run / "ensembles" / f"{name}.h5") as ensemble:
            charges[name] = np.rint(ensemble.series("topological_charge"))
            theory = json.loads(ensemble.attributes["theory"])
    return charges, ExactU1(theory["beta"], int(np.prod(theory["shape"])))


def draw(charges: Charges, exact: ExactU1) -> Figure:
    """A narrow panel for each history, one for all distributions."""
    figure = Figure(figsize=(9, 4.2), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    panels = figure.subplot_mosaic([[name, "P"] for name in LOOKS], width_ratios=[1.5, 1])
    first = {name: charge[:SHOWN, 0] for name, charge in charges.items()}
    largest = max(3, *(int(np.abs(charge).max()) for charge in first.values()))
    for name, charge in first.items():
        label, tint = LOOKS[name]
        axes = panels[name]
        axes.step(np.arange(len(charge)), charge, where="post", color=tint)
        axes.set(ylim=(-largest - 0.6, largest + 0.6), yticks=[-3, 0, 3], xlim=(0, SHOWN - 1), ylabel="$Q$")
        axes.set_title(label, color=tint)
        axes.tick_params(labelbottom=name == "direct")
    panels["direct"].set_xlabel("configuration")
    draw_distributions(panels["P"], charges, exact)
    return figure


def draw_distributions(axes: Axes, charges: Charges, exact: ExactU1) -> None:
    """Points side by side on the bars of the closed form."""
    values = np.arange(-Q_MAX, Q_MAX + 1)
    known = exact.charge_distribution(Q_MAX)
    axes.bar(values, known, width=0.9, color="0.85", label="exact")
    for index, (name, charge) in enumerate(charges.items()):
        label, tint = LOOKS[name]
        seen = [q for q in values if (charge == q).any()]
        found = [gamma_method(charge == q) for q in seen]
        at = np.array(seen) + 0.18 * (index - 1.5)
        heights, errors = [one.value for one in found], [one.error for one in found]
        axes.errorbar(at, heights, errors, fmt="o", markersize=3, elinewidth=1.0, color=tint, label=label)
    axes.set(yscale="log", ylim=(0.3 * min(known), 1.0), xlabel="$Q$", ylabel="$P(Q)$", xticks=values)
    axes.grid(False, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.2, handletextpad=0.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("figure", type=Path, metavar="FIGURE.svg")
    given = parser.parse_args()
    with rc_context(STYLE):
        save_figure(draw(*read(given.run)), given.figure)


if __name__ == "__main__":
    run_as_command(main)
