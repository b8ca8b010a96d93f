"""Figures of any observable that asks for them: its history, its distribution, its autocorrelation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import ObservableRow, Summary
from lattice_flows.report.drawing import Axes, Figure, MaxNLocator
from lattice_flows.report.style import GREY, WIDTH, FigureData, Plot, colour, outer_labels, panel_grid
from lattice_flows.report.summary_lookups import place
from lattice_flows.statistics import MIN_LENGTH, autocorrelation
from lattice_flows.terminal.numbers import with_error
from lattice_flows.theories.observable import Observable, Quantity, Term

Array = NDArray[np.float64]

_SHOWN = 500  # configurations of one chain
_BINS = 41
_FINE = 1000  # steps across the range beyond which a series is as good as continuous
_MOST_LAGS = 1000  # whose errors are worth their time
_LONG_NAME = 12  # letters that leave no room beside them in half a line
_MARGIN = 0.04  # of the range, on both sides


def series_plots(groups: Sequence[Replicas], summary: Summary) -> list[Plot]:
    """The figures of every observable that a report draws, of the ensembles that measured it."""
    drawn: dict[str, Observable] = {}
    for group in groups:
        drawn |= {one.name: one for one in group.observables() if one.drawn and group.has(one.name)}
    plots = []
    for observable in drawn.values():
        holders = [group for group in groups if group.has(observable.name) and _is_long(group, observable.name)]
        if holders:
            plots += _Series(observable, holders, summary).plots()
    return plots


def _is_long(group: Replicas, series: str) -> bool:
    return min(len(chain) for chain in group.series(series)) >= MIN_LENGTH


@dataclass(frozen=True)
class _Series:
    """An observable's series and the ensembles that hold it."""

    observable: Observable
    groups: Sequence[Replicas]
    summary: Summary

    @property
    def name(self) -> str:
        return self.observable.name

    @property
    def words(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def quantity(self) -> Quantity:
        """Its mean, whose label is that of the series."""
        return self.observable.quantities(self.groups[0].lattice_shape)[0]

    def plots(self) -> list[Plot]:
        of_mean = autocorrelations(f"{self.name}_autocorrelation", self.groups, self.summary, self.quantity)
        return [self._histories(), self._histograms(), *of_mean]

    def _limits(self) -> tuple[float, float]:
        """Of all values, about zero where a symmetry changes the sign."""
        low = min(float(chain.min()) for group in self.groups for chain in group.series(self.name))
        high = max(float(chain.max()) for group in self.groups for chain in group.series(self.name))
        if self.observable.odd:
            high = max(-low, high)
            low = -high
        margin = _MARGIN * (high - low) or 1.0  # of a series that never moved
        return low - margin, high + margin

    def _histories(self) -> Plot:
        """The history along one chain of each ensemble."""
        figure = Figure(figsize=(WIDTH, 0.6 + 1.05 * len(self.groups)), layout="constrained")
        panels = figure.subplots(len(self.groups), 1, sharey=True, squeeze=False)[:, 0]
        rows: list[tuple[str, int, float]] = []
        for axes, group in zip(panels, self.groups):
            numbers, chain = group.rows(self.name)[0][:_SHOWN], group.series(self.name)[0][:_SHOWN]
            axes.plot(numbers, chain, color=_tint(group, self.summary), linewidth=0.7)
            axes.set(ylabel=self.quantity.short.tex, xlim=numbers[[0, -1]])
            axes.set_title(f"{group.name}{_frozen_note(group, self.summary)}")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            rows.extend((group.name, int(number), float(value)) for number, value in zip(numbers, chain))
        panels[0].set_ylim(*self._limits())
        panels[-1].set_xlabel("configuration")
        frozen = [group.name for group in self.groups if _frozen_note(group, self.summary)]
        return Plot(
            f"{self.name}_history",
            figure,
            f"Histories of the {self.words} of {names(self.groups)}. Frozen: {', '.join(frozen) or 'none'}.",
            f"{self.words.capitalize()} along the first {_SHOWN} configurations of the first chain of each ensemble.",
            FigureData(("ensemble", "configuration", f"{self.words} {self.quantity.short.plain}"), rows),
        )

    def _histograms(self) -> Plot:
        """The share of the configurations of all chains in each bin."""
        values = np.concatenate([chain for group in self.groups for chain in group.series(self.name)])
        edges = bin_edges(values, *self._limits(), symmetric=self.observable.odd)
        figure, panels = panel_grid(len(self.groups), height=1.7, sharex=True, sharey=True)
        rows: list[tuple[str, float, float, float]] = []
        for axes, group in zip(panels, self.groups):
            counts, _ = np.histogram(np.concatenate(group.series(self.name)), edges)
            share = counts / counts.sum()
            axes.stairs(share, edges, fill=True, color=_tint(group, self.summary), alpha=0.6)
            if self.observable.odd:
                axes.axvline(0, color=GREY, linewidth=0.8)
            axes.set_title(f"{group.name}{_frozen_note(group, self.summary)}")
            rows.extend((group.name, *bin_) for bin_ in zip(edges[:-1], edges[1:], share))
        outer_labels(panels, self.quantity.short.tex, "share")
        symmetric = (
            " It is symmetric about zero: a histogram on one side comes from chains that never left it."
            if self.observable.odd
            else ""
        )
        what = f"{self.words} {self.quantity.short.plain}"
        return Plot(
            f"{self.name}_distribution",
            figure,
            f"Histograms of the {self.words} of {names(self.groups)}.",
            f"Histogram of the {self.words} over all chains, without weights.{symmetric}",
            FigureData(("ensemble", f"{what}, lower edge", f"{what}, upper edge", "share"), rows),
        )


def bin_edges(values: Array, low: float, high: float, symmetric: bool) -> Array:
    """Edges of bins of one width from `low` to `high`.

    Values on a grid would fill bins of any width unevenly. Each bin then holds the same number of its points; the
    number is odd, so that a symmetric grid has symmetric bins.
    """
    levels = np.unique(values)
    step = float(np.diff(levels).min(initial=np.inf))
    if len(levels) == 1 or high - low > _FINE * step:
        return np.linspace(low, high, _BINS + 1)
    width = step * (2 * (int((high - low) / step) // (2 * _BINS)) + 1)
    centre = 0.0 if symmetric else float(levels[0])
    first, last = math.floor((low - centre) / width + 0.5), math.ceil((high - centre) / width - 0.5)
    return np.linspace(centre + (first - 0.5) * width, centre + (last + 0.5) * width, last - first + 2)


def autocorrelations(name: str, groups: Sequence[Replicas], summary: Summary, quantity: Quantity) -> list[Plot]:
    """The figure `name`: rho(t) of a mean with the window of tau_int, for the ensembles with a known tau_int."""
    known = {group.name: row for group in groups if (row := _row(group, summary, quantity.name)) is not None}
    shown = [group for group in groups if group.name in known]
    if not shown:
        return []
    figure, panels = panel_grid(len(shown), height=1.7, sharey=True)
    rows: list[tuple[str, int, float, float, int]] = []
    for axes, group in zip(panels, shown):
        rows += _draw_autocorrelation(axes, group, known[group.name], quantity.terms[0], _tint(group, summary))
    panels[0].set_ylim(min(-0.25, min(row[2] for row in rows) - 0.05), 1.05)
    outer_labels(panels, "$t$ (configurations)", rf"$\rho(t)$ of {quantity.short.tex}")
    left_out = [group for group in groups if group not in shown]
    missing = f" Not shown because frozen or weighted: {names(left_out)}." if left_out else ""
    return [
        Plot(
            name,
            figure,
            f"Autocorrelation functions of {quantity.short.page} of {names(shown)}.",
            f"Normalised autocorrelation function of {quantity.short.page} with its error; the dashed line is the "
            f"window up to which it is summed to τ_int.{missing}",
            FigureData(
                (
                    "ensemble",
                    "lag t (configurations)",
                    f"rho(t) of {quantity.short.plain}",
                    "error of rho(t)",
                    "window (configurations)",
                ),
                rows,
            ),
        )
    ]


def _row(group: Replicas, summary: Summary, name: str) -> ObservableRow | None:
    """The estimate, if its tau_int is known, else None."""
    row = summary["ensembles"][group.name]["observables"].get(name)
    if group.weighted or _frozen_note(group, summary) or row is None or row["tau_int"] is None:
        return None
    return row


def _draw_autocorrelation(
    axes: Axes, group: Replicas, row: ObservableRow, term: Term, tint: str
) -> list[tuple[str, int, float, float, int]]:
    """Draw rho(t) with its errors and its window; returns ensemble, t, rho, error and window."""
    max_lag = min(max(10, math.ceil(1.6 * row["window"])), _MOST_LAGS)
    rho, error, window = autocorrelation([term.transform(chain) for chain in group.series(term.series)], max_lag)
    lags = np.arange(len(rho))
    axes.axhline(0, color=GREY, linewidth=0.8)
    if window < len(rho):
        axes.axvline(window, color=GREY, linestyle="--", linewidth=1.0)
    axes.fill_between(lags, rho - error, rho + error, color=tint, alpha=0.25, linewidth=0)
    axes.plot(lags, rho, ".-" if len(lags) < 40 else "-", color=tint)
    tau_int = with_error(row["tau_int"], row["tau_int_error"])
    gap = ",  " if len(group.name) <= _LONG_NAME else "\n"
    axes.set_title(rf"{group.name}{gap}$\tau_\mathrm{{int}} = {tau_int}$")
    axes.set(xlim=(0, max(lags[-1], 1)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return [(group.name, int(t), float(r), float(e), int(window)) for t, r, e in zip(lags, rho, error)]


def _tint(group: Replicas, summary: Summary) -> str:
    return colour(place(summary, group.name))


def _frozen_note(group: Replicas, summary: Summary) -> str:
    return " (frozen)" if summary["ensembles"][group.name]["frozen"] else ""


def names(groups: Sequence[Replicas]) -> str:
    """The ensembles' names, as a list in words."""
    return ", ".join(group.name for group in groups)
