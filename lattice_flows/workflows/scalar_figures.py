"""The figure of a scalar field's magnetisation: does its sign change, and how is it distributed?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lattice_flows.workflows.house_style import GREY, WIDTH, Plot, colour
from lattice_flows.workflows.replicas import Replicas

Summary = dict[str, Any]

_MAGNETISATION = "magnetisation"
_SHOWN = 500  # configurations of one chain
_BINS = 41


def magnetisation_plots(groups: Sequence[Replicas], summary: Summary) -> list[Plot]:
    """Histories and histograms of those ensembles that have a magnetisation, none where there are none."""
    groups = [group for group in groups if group.has(_MAGNETISATION)]
    if not groups:
        return []
    figure = Figure(figsize=(WIDTH, 0.6 + 1.05 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 2, sharey=True, squeeze=False, width_ratios=[3, 1])
    largest = max(float(np.abs(chain).max()) for group in groups for chain in group.series(_MAGNETISATION))
    edges = np.linspace(-largest, largest, _BINS + 1)
    for row, group in zip(panels, groups):
        _draw(row, group, summary, edges)
    panels[0, 0].set_ylim(-1.08 * largest, 1.08 * largest)
    panels[-1, 0].set_xlabel("configuration")
    panels[-1, 1].set_xlabel("share")
    frozen = [group.name for group in groups if summary["ensembles"][group.name]["frozen"]]
    names = ", ".join(group.name for group in groups)
    return [
        Plot(
            "magnetisation",
            figure,
            f"Histories and histograms of the magnetisation of {names}. Frozen: {', '.join(frozen) or 'none'}.",
            f"Magnetisation along the first {_SHOWN} configurations of the first chain of each ensemble, and its "
            "histogram over all chains. On a finite lattice it is symmetric about zero: a histogram on one side is of "
            "chains that never left it.",
        )
    ]


def _draw(panels: Sequence[Axes], group: Replicas, summary: Summary, edges: np.ndarray) -> None:
    """The history at the left, the histogram at the right."""
    tint = colour(list(summary["ensembles"]).index(group.name))
    chains, numbers = group.series(_MAGNETISATION), group.rows(_MAGNETISATION)[0]
    panels[0].plot(numbers[:_SHOWN], chains[0][:_SHOWN], color=tint, linewidth=0.7)
    panels[0].set(ylabel="$M$", xlim=numbers[[0, min(_SHOWN, len(numbers)) - 1]])
    panels[0].set_title(f"{group.name}{' (frozen)' if summary['ensembles'][group.name]['frozen'] else ''}")
    panels[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    counts, _ = np.histogram(np.concatenate(chains), edges)
    panels[1].stairs(counts / counts.sum(), edges, orientation="horizontal", fill=True, color=tint, alpha=0.6)
    panels[1].axhline(0, color=GREY, linewidth=0.8)
