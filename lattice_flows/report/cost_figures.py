"""The figure of who wins: the cost of an independent configuration by observable."""

from lattice_flows.estimates.summary_types import Summary
from lattice_flows.report.costs import costs, winners
from lattice_flows.report.drawing import Axes, LogLocator, NullFormatter
from lattice_flows.report.style import FigureData, Plot, colour, legend_above, marker, single
from lattice_flows.report.summary_lookups import label_of, place

_ROW, _FEWEST_ROWS = 0.3, 2  # inches
_SHORT = 100.0  # an axis from one end to the other


def cost_plots(summary: Summary) -> list[Plot]:
    """Milliseconds per independent configuration of every ensemble, a row for each observable, on a common axis."""
    ensembles = summary["ensembles"]
    won = {one.observable: one for one in winners(ensembles)}
    found = {name: by_name for name, by_name in costs(ensembles).items() if name in won}
    if not found:
        return []
    drawn = [name for name in ensembles if any(name in by_name for by_name in found.values())]
    figure, axes = single(1.1 + max(_ROW, 0.075 * len(drawn)) * max(len(found), _FEWEST_ROWS))
    for i, name in enumerate(drawn):
        at = place(summary, name)
        axes.plot([], [], marker(at), color=colour(at), label=name)
        for row, by_name in enumerate(found.values()):
            if name not in by_name:
                continue
            seconds, error, trusted = by_name[name]
            axes.errorbar(
                1e3 * seconds, row + 0.6 * ((i + 0.5) / len(drawn) - 0.5), xerr=1e3 * min(error, 0.9 * seconds),
                fmt=marker(at), color=colour(at), markerfacecolor=colour(at) if trusted else "white",
            )  # fmt: skip
    for row in range(1, len(found)):
        axes.axhline(row - 0.5, color="0.8", linewidth=0.6)
    axes.set(xscale="log", ylim=(len(found) - 0.5, -0.5), xlabel="ms per independent configuration")
    axes.set_yticks(range(len(found)), [won[name].label.tex for name in found])
    _plain_ticks(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    legend_above(figure)
    best = ", ".join(f"{one.label.page}: {one.name}" for one in won.values())
    return [
        Plot(
            "costs",
            figure,
            f"The cost of an independent configuration by observable; the cheapest are {best}.",
            "Who wins? Core time per independent configuration, counted by each observable; errors are those of τ_int. "
            "Frozen ensembles are left out. Open symbols: errors that cannot be trusted. Training is not counted.",
            FigureData(
                ("observable", "ensemble", "ms per independent configuration", "error", "trusted"),
                [
                    (
                        label_of(ensembles[name]["observables"], key).page,
                        name,
                        1e3 * cost.seconds,
                        1e3 * cost.error,
                        "yes" if cost.trusted else "no",
                    )
                    for key, by_name in found.items()
                    for name, cost in by_name.items()
                ],
            ),
        )
    ]


def _plain_ticks(axes: Axes) -> None:
    """Numbers at the ticks of the logarithmic axis, at 2 and 5 too where it is short."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < _SHORT * low else (1.0,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
