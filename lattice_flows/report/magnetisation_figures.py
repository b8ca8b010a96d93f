"""Figures of a scalar field's magnetisation: its history, which shows changes of sign, and its distribution."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Summary
from lattice_flows.report.style import GREY, WIDTH, FigureData, Plot, colour, outer_labels, panel_grid
from lattice_flows.report.summary_lookups import place

_MAGNETISATION = "magnetisation"
_SHOWN = 500  # configurations of one chain
_BINS = 41


def magnetisation_plots(groups: Sequence[Replicas], summary: Summary) -> list[Plot]:
    """Histories and histograms of the ensembles that have a magnetisation; an empty list if none has one."""
    groups = [group for group in groups if group.has(_MAGNETISATION)]
    if not groups:
        return []
    largest = max(float(np.abs(chain).max()) for group in groups for chain in group.series(_MAGNETISATION))
    return [_histories(groups, summary, largest), _histograms(groups, summary, largest)]


def _histories(groups: Sequence[Replicas], summary: Summary, largest: float) -> Plot:
    """The history of M along one chain of each ensemble."""
    figure = Figure(figsize=(WIDTH, 0.6 + 1.05 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharey=True, squeeze=False)[:, 0]
    rows: list[tuple[str, int, float]] = []
    for axes, group in zip(panels, groups):
        numbers, chain = group.rows(_MAGNETISATION)[0][:_SHOWN], group.series(_MAGNETISATION)[0][:_SHOWN]
        axes.plot(numbers, chain, color=_tint(group, summary), linewidth=0.7)
        axes.set(ylabel="$M$", xlim=numbers[[0, -1]], title=f"{group.name}{_frozen_note(group, summary)}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        rows.extend((group.name, int(number), float(value)) for number, value in zip(numbers, chain))
    panels[0].set_ylim(-1.08 * largest, 1.08 * largest)
    panels[-1].set_xlabel("configuration")
    frozen = [group.name for group in groups if _frozen_note(group, summary)]
    return Plot(
        "magnetisation_history",
        figure,
        f"Histories of the magnetisation of {_names(groups)}. Frozen: {', '.join(frozen) or 'none'}.",
        f"Magnetisation along the first {_SHOWN} configurations of the first chain of each ensemble.",
        FigureData(("ensemble", "configuration", "magnetisation M"), rows),
    )


def _histograms(groups: Sequence[Replicas], summary: Summary, largest: float) -> Plot:
    """The histogram of M: the share of the configurations of all chains in each bin."""
    edges = np.linspace(-largest, largest, _BINS + 1)
    figure, panels = panel_grid(len(groups), height=1.7, sharex=True, sharey=True)
    rows: list[tuple[str, float, float, float]] = []
    for axes, group in zip(panels, groups):
        counts, _ = np.histogram(np.concatenate(group.series(_MAGNETISATION)), edges)
        share = counts / counts.sum()
        axes.stairs(share, edges, fill=True, color=_tint(group, summary), alpha=0.6)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_title(f"{group.name}{_frozen_note(group, summary)}")
        rows.extend((group.name, *bin_) for bin_ in zip(edges[:-1], edges[1:], share))
    outer_labels(panels, "$M$", "share")
    return Plot(
        "magnetisation_distribution",
        figure,
        f"Histograms of the magnetisation of {_names(groups)}.",
        "Histogram of the magnetisation over all chains, without weights. On a finite lattice it is symmetric about "
        "zero: a histogram on one side comes from chains that never left it.",
        FigureData(("ensemble", "magnetisation M, lower edge", "magnetisation M, upper edge", "share"), rows),
    )


def _tint(group: Replicas, summary: Summary) -> str:
    return colour(place(summary, group.name))


def _frozen_note(group: Replicas, summary: Summary) -> str:
    return " (frozen)" if summary["ensembles"][group.name]["frozen"] else ""


def _names(groups: Sequence[Replicas]) -> str:
    return ", ".join(group.name for group in groups)
