"""The figures of a report, drawn from series, never from fields."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lattice_flows.exact import ExactU1
from lattice_flows.training.history import Record
from lattice_flows.workflows.format import label
from lattice_flows.workflows.replicas import Replicas
from lattice_flows.workflows.report.charge_figures import charge_plots
from lattice_flows.workflows.report.house_style import (
    GREY,
    STYLE,
    WIDTH,
    FigureData,
    Plot,
    colour,
    legend_above,
    marker,
    single,
)
from lattice_flows.workflows.report.scalar_figures import magnetisation_plots
from lattice_flows.workflows.report.topology_figures import topology_plots

Array = NDArray[np.float64]
Summary = dict[str, Any]

_FRESH = "fresh flow samples"
_MOST_ERRORS = 8.0  # that a difference is drawn at
_MOST_POINTS = 2000  # of a training history


def all_plots(
    groups: Sequence[Replicas],
    summary: Summary,
    samples: Replicas | None,
    history: Sequence[Record],
    exact: ExactU1 | None,
    sampled: ExactU1 | None,
) -> list[Plot]:
    """Every figure that the run has the numbers for.

    groups: the open ensembles of the summary, in its order; samples: the flow's evaluation; history: its training;
    exact: closed forms of the summary's theory; sampled: of the theory that was sampled, where it was reweighted.
    """
    with matplotlib.rc_context(STYLE):
        return [
            *pulls(summary),
            *charge_plots(groups, summary, exact),
            *topology_plots(summary, exact),
            *magnetisation_plots(groups, summary),
            *weights(groups, samples, summary, sampled),
            *training(history, sampled),
        ]


def pulls(summary: Summary) -> list[Plot]:
    """(value - exact) / error of everything that has a closed form."""
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
    axes.set_yticks(range(len(observables)), [label(key).tex for key in observables])
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
            f"({within} points lie within 2). Values of one ensemble are correlated. Arrows point at what lies beyond "
            f"{edge:g}. Open symbols: errors that are not to be trusted, for which the warnings give the reasons.",
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


class _Pull(NamedTuple):
    value: float
    trusted: bool  # whether the error means what it says


def _known_pulls(summary: Summary) -> dict[str, dict[str, _Pull]]:
    """Source -> observable -> pull, where there is one. Unreliable weights make all that the flow says doubtful."""
    sources = {name: (entry["observables"], True) for name, entry in summary["ensembles"].items()}
    if summary["flow"]:
        sources[_FRESH] = (summary["flow"]["observables"], summary["flow"]["reliable"])
    found = {
        name: {
            key: _Pull(row["pull"], reliable and row["trusted"]) for key, row in rows.items() if row["pull"] is not None
        }
        for name, (rows, reliable) in sources.items()
    }
    return {name: values for name, values in found.items() if values}


def _face(at: int, trusted: bool) -> str:
    """Symbols are open where the error is not to be trusted."""
    return colour(at) if trusted else "white"


def _index(summary: Summary, name: str) -> int:
    """The place of an ensemble in the summary, so that it has one colour in all figures; fresh samples come last."""
    return [*summary["ensembles"], _FRESH].index(name)


def weights(
    groups: Sequence[Replicas], samples: Replicas | None, summary: Summary, exact: ExactU1 | None
) -> list[Plot]:
    """log w - log Z of fresh flow samples and of the proposals of flow chains."""
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
            "Log weights of flow samples about log Z (the closed form where there is one). A perfect flow has all of "
            f"them at zero; what lies far to the right is what the flow proposes too rarely.{clipped}",
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
    """The closed form, or the first estimate there is."""
    if exact is not None:
        return exact.log_z
    sources = [summary["flow"], *(entry.get("proposals") for entry in summary["ensembles"].values())]
    return next(source["log_z"] for source in sources if source)


def _edges(values: Array) -> Array:
    """Bins from almost the lowest value to the highest, zero among them."""
    low, high = min(float(np.quantile(values, 0.002)), 0.0), max(float(values.max()), 0.0)
    margin = 0.03 * max(high - low, 1e-6)
    return np.linspace(low - margin, high + margin, 61)


def training(history: Sequence[Record], exact: ExactU1 | None) -> list[Plot]:
    """The bound on log Z and the ESS against the seconds of training."""
    rows = [row for row in history if math.isfinite(row.log_z_bound)]
    if not rows:
        return []
    rows = [*rows[: -1 : -(-len(rows) // _MOST_POINTS)], rows[-1]]
    seconds = np.array([row.seconds for row in rows])
    bound, ess = np.array([row.log_z_bound for row in rows]), np.array([row.ess for row in rows])
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    style = "o-" if len(rows) < 40 else "-"
    upper.plot(seconds, bound, style, color=colour(0), label=r"$\langle \log w \rangle$")
    bottom, top = bound[len(bound) // 8 :].min(), bound.max()  # the first steps come from far below
    ending, against = f"{bound[-1]:.2f}", ""
    if exact is not None:
        top, against = max(top, exact.log_z), f" (exact log Z: {exact.log_z:.2f})"
        upper.axhline(exact.log_z, color="0.2", linestyle="--", linewidth=1.0, label=r"exact $\log Z$")
    margin = 0.08 * max(top - bottom, 1e-3)
    upper.set(ylim=(bottom - margin, top + margin), ylabel=r"bound on $\log Z$")
    legend_above(figure)
    lower.plot(seconds, ess, style, color=colour(0), clip_on=False)
    lower.set(xlabel="seconds of training", ylabel="ESS", ylim=(0, 1), xlim=(0, 1.03 * seconds[-1] or 1))
    return [
        Plot(
            "training",
            figure,
            f"Training history over {seconds[-1]:.0f} seconds: the bound on log Z ends at {ending}{against}, "
            f"the ESS at {ess[-1]:.3f}.",
            "Training: the variational bound ⟨log w⟩ ≤ log Z (minus the loss) and the effective sample size, both of "
            f"fresh samples of the averaged weights. The bound ends at {ending}{against}.",
            FigureData(
                ("training (seconds)", "step", "bound on log Z", "ESS"),
                [(row.seconds, row.step, row.log_z_bound, row.ess) for row in rows],
            ),
        )
    ]
