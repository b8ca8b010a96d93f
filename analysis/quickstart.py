"""The figure of the README, from the quickstart's run: python analysis/quickstart.py output/quickstart quickstart.svg

Left: the topological charge along one chain of each ensemble. Right: its distribution against the closed form.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lattice_flows.ensembles import Ensemble
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ExactU1

COLOURS = {"hmc": "#009E73", "flow_hmc": "#D55E00", "flow": "#0072B2", "direct": "#CC79A7"}
LABELS = {"hmc": "HMC", "flow_hmc": "flow-HMC", "flow": "flow Metropolis", "direct": "direct"}
SHOWN, Q_MAX = 150, 4


def main(run: Path, target: Path) -> None:
    charges = {}
    for name in COLOURS:
        with Ensemble.open(run / "ensembles" / f"{name}.h5") as ensemble:
            charges[name] = np.rint(ensemble.series("topological_charge"))
            theory = json.loads(ensemble.attributes["theory"])
    exact = ExactU1(theory["beta"], int(np.prod(theory["shape"])))

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplot_mosaic([[name, "P"] for name in COLOURS], width_ratios=[1.5, 1])
    for name, charge in charges.items():
        axes = panels[name]
        axes.step(np.arange(SHOWN), charge[:SHOWN, 0], where="post", color=COLOURS[name], linewidth=1.2)
        axes.set(ylim=(-4.6, 4.6), yticks=[-3, 0, 3], xlim=(0, SHOWN - 1), ylabel="$Q$")
        axes.set_title(LABELS[name], loc="left", fontsize=8, pad=2, color=COLOURS[name])
        axes.tick_params(labelbottom=name == "direct", labelsize=8)
    panels["direct"].set_xlabel("configuration")

    axes, values = panels["P"], np.arange(-Q_MAX, Q_MAX + 1)
    axes.bar(values, exact.charge_distribution(Q_MAX), width=0.9, color="0.85", label="exact")
    for index, (name, charge) in enumerate(charges.items()):
        estimates = [gamma_method(charge == q) if (charge == q).any() else None for q in values]
        seen = [(q, e.value, e.error) for q, e in zip(values, estimates) if e]
        q, value, error = map(np.array, zip(*seen))
        x = q + 0.18 * (index - 1.5)
        axes.errorbar(x, value, error, fmt=".", color=COLOURS[name], capsize=2, label=LABELS[name])
    axes.set(yscale="log", ylim=(1e-4, 30), xlabel="$Q$", ylabel="$P(Q)$", xticks=values)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
