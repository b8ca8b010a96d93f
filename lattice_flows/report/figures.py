"""The figures of a report. They are drawn from series, never from fields."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.estimates.analysis import Analysis
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Summary, Weights
from lattice_flows.report.charge_figures import charge_plots
from lattice_flows.report.cost_figures import cost_plots
from lattice_flows.report.drawing import rc_context
from lattice_flows.report.sector_figures import topology_plots
from lattice_flows.report.series_figures import series_plots
from lattice_flows.report.style import GREY, STYLE, FigureData, Plot, colour, legend_above, marker, single
from lattice_flows.report.summary_lookups import label_of, place
from lattice_flows.report.training_figures import training_plots
from lattice_flows.theories.u1.closed_forms import ExactU1
from lattice_flows.training.history import Record

Array = NDArray[np.float64]

_FRESH = "fresh flow samples"
_MOST_ERRORS = 8.0  # that a difference is drawn at


def all_plots(analysis: Analysis, history: Sequence[Record]) -> list[Plot]:
    """All figures for which there are numbers. history: that of the flow's training."""
    summary, groups = analysis.summary, analysis.groups
    exact, sampled = analysis.exact, analysis.sampled
    with rc_context(STYLE):
        return [
            *pulls(summary),
            *cost_plots(summary),
            *charge_plots(groups, summary, exact),
            *topology_plots(summary, exact),
            *series_plots(groups, summary),
            *weights(groups, analysis.samples, summary, sampled),
            *training_plots(history, sampled),
        ]


def pulls(summary: Summary) -> list[Plot]:
    """(value - exact) / error of every estimate that has a closed form."""
    found = _known_pulls(summary)
    if not found:
        return []
    observables = list(dict.fromkeys(key for values in found.values() for key in values))
    every = np.abs([known.value for values in found.values() for known in values.values()])
    edge = min(max(3.5, math.ceil(every.max()) + 0.5), _MOST_ERRORS)
    figure, axes = single(1.2 + max(0.26, 0.075 * len(found)) * len(observables) + 0.05 * len(found))
    for sigma, shade in ((2, "0.93"), (1, "0.85")):
        axes.axvspan(-sigma, sigma, color=shade, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for i, (name, values) in enumerate(found.items()):
        at = _index(summary, name)
        some = any(known.trusted for known in values.values())
        axes.plot([], [], marker(at), color=colour(at), markerfacecolor=_face(at, some), label=name)
        for key, (value, trusted) in values.items():
            row = observables.index(key) + 0.7 * ((i + 0.5) / len(found) - 0.5)
            symbol = marker(at) if abs(value) <= edge else "<" if value < 0 else ">"
            axes.plot(
                np.clip(value, -edge, edge), row, symbol, clip_on=False, color=colour(at),
                markerfacecolor=_face(at, trusted),
            )  # fmt: skip
    for row in range(1, len(observables)):
        axes.axhline(row - 0.5, color="0.8", linewidth=0.6)
    axes.set(xlim=(-edge, edge), ylim=(len(observables) - 0.5, -0.5), xlabel="(value − exact) / error")
    axes.set_yticks(range(len(observables)), [_tex(summary, key) for key in observables])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    legend_above(figure)
    within = f"{np.sum(every <= 2)} of {every.size}"
    return [
        Plot(
            "pulls",
            figure,
            f"Differences from the exact values in units of their errors: {within} lie within 2, the largest is "
            f"{every.max():.1f}.",
            f"Does it agree? Differences from the closed forms in units of their errors, with bands at 1 and 2 "
            f"({within} points lie within 2). Values of one ensemble are correlated. Arrows point to values beyond "
            f"{edge:g}. Open symbols: errors that cannot be trusted, for the reasons given in the warnings.",
            FigureData(
                ("ensemble", "observable", "(value - exact) / error", "trusted"),
                [
                    (name, key, value, "yes" if trusted else "no")
                    for name, values in found.items()
                    for key, (value, trusted) in values.items()
                ],
            ),
        )
    ]


def _tex(summary: Summary, observable: str) -> str:
    """The short name of an observable, from the first source that has it."""
    sources = [entry["observables"] for entry in summary["ensembles"].values()]
    sources += [summary["flow"]["observables"]] if summary["flow"] else []
    return label_of(next(rows for rows in sources if observable in rows), observable).tex


class _Pull(NamedTuple):
    value: float
    trusted: bool  # whether the error means what it says


def _known_pulls(summary: Summary) -> dict[str, dict[str, _Pull]]:
    """The pulls that exist, by source and observable. With unreliable weights, none of the flow's is trusted."""
    sources = {name: (entry["observables"], True) for name, entry in summary["ensembles"].items()}
    if summary["flow"]:
        sources[_FRESH] = (summary["flow"]["observables"], summary["flow"]["log_z_reliable"])
    found = {
        name: {
            key: _Pull(row["pull"], reliable and row["trusted"]) for key, row in rows.items() if row["pull"] is not None
        }
        for name, (rows, reliable) in sources.items()
    }
    return {name: values for name, values in found.items() if values}


def _face(at: int, trusted: bool) -> str:
    """The fill colour of a symbol, which is open if the error cannot be trusted."""
    return colour(at) if trusted else "white"


def _index(summary: Summary, name: str) -> int:
    """The place of a source as `place` gives it for ensembles; fresh samples come last."""
    return len(summary["ensembles"]) if name == _FRESH else place(summary, name)


def weights(
    groups: Sequence[Replicas], samples: Replicas | None, summary: Summary, exact: ExactU1 | None
) -> list[Plot]:
    """The histogram of log w - log Z of fresh flow samples and of the proposals of flow chains."""
    found = _log_weights(groups, samples)
    if not found:
        return []
    log_z = _log_z(summary, exact)
    edges = _edges(np.concatenate(list(found.values())) - log_z)
    figure, axes = single(2.8)
    rows: list[tuple[str, float, float, float]] = []
    for name, log_w in found.items():
        density = np.histogram(log_w - log_z, edges)[0] / (log_w.size * np.diff(edges))
        filled: dict[str, Any] = {"fill": True, "alpha": 0.4} if name == _FRESH else {"linewidth": 1.3}
        text = name if name == _FRESH else f"proposals of {name}"
        rows.extend((text, *bin_) for bin_ in zip(edges[:-1], edges[1:], density))
        axes.stairs(density, edges, color=colour(_index(summary, name)), label=text, **filled)
    axes.axvline(0, color="0.2", linestyle="--", linewidth=1.0, label=r"mean weight, $w = Z$")
    axes.set(xlabel=r"$\log w - \log Z$", ylabel="density", xlim=edges[[0, -1]])
    axes.set_ylim(bottom=0)
    legend_above(figure)
    outside = max(float(np.mean(log_w < edges[0] + log_z)) for log_w in found.values())
    clipped = f" Up to {100 * outside:.1g} % of them lie further left." if outside > 0 else ""
    return [
        Plot(
            "weights",
            figure,
            f"Histogram of the log weights of {', '.join(found)} about log Z.",
            "Log weights of flow samples about log Z (the closed form if available). A perfect flow has all of "
            f"them at zero; those far to the right belong to fields that the flow proposes too rarely.{clipped}",
            FigureData(("weights of", "log w - log Z, lower edge", "log w - log Z, upper edge", "density"), rows),
        )
    ]


def _log_weights(groups: Sequence[Replicas], samples: Replicas | None) -> dict[str, Array]:
    """The finite log weights by source."""
    found = {group.name: log_w for group in groups if (log_w := group.proposals("log_w")) is not None}
    if samples is not None and samples.has("log_w"):
        found = {_FRESH: np.concatenate(samples.series("log_w")), **found}
    finite = {name: log_w[np.isfinite(log_w)] for name, log_w in found.items()}
    return {name: log_w for name, log_w in finite.items() if log_w.size}


def _log_z(summary: Summary, exact: ExactU1 | None) -> float:
    """log Z: the closed form, or else the first estimate available."""
    if exact is not None:
        return exact.log_z
    sources: list[Weights | None] = [summary["flow"]]
    sources += [entry.get("proposals") for entry in summary["ensembles"].values()]
    return next(source["log_z"] for source in sources if source)


def _edges(values: Array) -> Array:
    """The edges of bins from almost the lowest value to the highest, zero included."""
    low, high = min(float(np.quantile(values, 0.002)), 0.0), max(float(values.max()), 0.0)
    margin = 0.03 * max(high - low, 1e-6)
    return np.linspace(low - margin, high + margin, 61)
