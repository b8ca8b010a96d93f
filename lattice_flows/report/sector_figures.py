"""Figures from the topological sectors: the dependence on theta, and observables at fixed charge.

They are drawn from the summary's "topology" alone; ensembles without it are left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.estimates.summary_types import EnsembleSummary, FixedCharge, Summary, Topology
from lattice_flows.report.drawing import Axes, Figure
from lattice_flows.report.style import (
    GREY,
    FigureData,
    Plot,
    colour,
    legend_above,
    marker,
    outer_labels,
    panel_grid,
    single,
)
from lattice_flows.report.summary_lookups import CHARGE_SQUARED, has_trusted_sectors, place
from lattice_flows.theories.u1.closed_forms import ExactU1

Array = NDArray[np.float64]

_SHOWN = "plaquette"  # the observable at fixed charge
_BOUND = 2.0  # errors above zero at which an unresolved value is drawn
_LINEAR = 0.05  # a curve that falls no further needs no logarithm


class _Point(NamedTuple):
    """Z(theta)/Z(0) at one angle where it is known."""

    theta: float
    value: float
    error: float | None
    exact: float | None
    resolved: bool


def topology_plots(summary: Summary, exact: ExactU1 | None) -> list[Plot]:
    """All figures of sectors for which the summary has numbers."""
    return [*theta_plots(summary, exact), *sector_plots(summary)]


def theta_plots(summary: Summary, exact: ExactU1 | None) -> list[Plot]:
    """Z(theta)/Z(0) = <exp(i theta Q)> with errors, against the closed form; an empty list if nothing was measured."""
    known = {name: points for name, topology in _topologies(summary) if (points := _points(topology))}
    stuck = [name for name in known if summary["ensembles"][name]["frozen"]]
    doubtful = [name for name in known if name not in stuck and not has_trusted_sectors(summary["ensembles"][name])]
    found = {name: own for name, own in known.items() if name not in stuck + doubtful}
    if not found:
        return []
    figure, logarithmic = _theta_figure(found, summary, exact)
    points = [point for own in found.values() for point in own]
    unresolved = sum(not point.resolved for point in points)
    bounds = f", drawn {_BOUND:g} errors above zero or above their value," if logarithmic else ""
    hollow = f" The {unresolved} open symbols{bounds} are lost in the noise: the sign problem." if unresolved else ""
    closed = " against the closed form" if exact is not None else ""
    left_out = f" Not shown because their charge is frozen: {', '.join(stuck)}." if stuck else ""
    left_out += f" Not shown because their ⟨Q²⟩ cannot be trusted: {', '.join(doubtful)}." if doubtful else ""
    return [
        Plot(
            "theta_dependence",
            figure,
            f"Z(θ)/Z(0) of {', '.join(found)}{closed}, against θ; {unresolved} of {len(points)} points are not "
            "resolved from zero.",
            f"Dependence on θ by reweighting, Z(θ)/Z(0) = ⟨exp(iθQ)⟩{closed}. Points of one ensemble are "
            f"correlated.{hollow}{left_out}",
            FigureData(
                ("ensemble", "theta (radians)", "Z(theta)/Z(0)", "error", "closed form", "resolved"),
                [(name, *point[:4], "yes" if point.resolved else "no") for name, own in found.items() for point in own],
            ),
        )
    ]


def _theta_figure(
    found: Mapping[str, Sequence[_Point]], summary: Summary, exact: ExactU1 | None
) -> tuple[Figure, bool]:
    """The figure, and whether its axis is logarithmic, as for a positive curve that falls by a large factor."""
    points = [point for own in found.values() for point in own]
    largest = max(point.theta for point in points)
    seen = [point.value if point.resolved else _bound(point) for point in points]
    lowest = min((value for value in seen if value > 0), default=1.0)
    figure, axes = single(3.2)
    if exact is not None:
        fine = np.linspace(0.0, largest, 65)
        curve = np.asarray(exact.theta_ratio(fine))
        lowest = max(min(lowest, float(curve.min())), 0.1 * lowest)  # beyond it there are no points
        axes.plot(fine, curve, color="0.25", linewidth=1.0, label="closed form")
    logarithmic = 0 < lowest < _LINEAR
    for i, (name, own) in enumerate(found.items()):
        shift = 0.004 * largest * (i - 0.5 * (len(found) - 1))  # errors of neighbours stay apart
        _draw_theta(axes, own, shift, place(summary, name), name, logarithmic)
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(0.4 * lowest, 2.0)
    else:
        axes.axhline(0.0, color=GREY, linewidth=0.8)
    steps = max(1, round(4 * largest / math.pi))
    axes.set_xticks([0.25 * math.pi * k for k in range(steps + 1)], [_pi_label(k) for k in range(steps + 1)])
    axes.set(xlabel=r"$\theta$", ylabel=r"$Z(\theta)\,/\,Z(0) = \langle e^{i\theta Q} \rangle$")
    axes.set_xlim(-0.02 * largest, 1.02 * largest)
    legend_above(figure)
    return figure, logarithmic


def _bound(point: _Point) -> float:
    """The upper bound on an unresolved value: two errors above it or above zero."""
    return max(point.value, 0.0) + _BOUND * (point.error or 0.0)


def _draw_theta(axes: Axes, points: Sequence[_Point], shift: float, at: int, name: str, logarithmic: bool) -> None:
    """Draw resolved points filled, with errors, and the others open, on a logarithmic axis as upper bounds."""
    style: dict[str, Any] = {"color": colour(at), "linestyle": "none", "zorder": 3}
    resolved = [point for point in points if point.resolved]
    others = [point for point in points if not point.resolved]
    x, value, error = _columns(resolved)
    axes.errorbar(x + shift, value, np.nan_to_num(error), marker=marker(at), elinewidth=1.0, label=name, **style)
    x, value, error = _columns(others)
    if logarithmic:
        bound = np.array([_bound(point) for point in others], dtype=float)
        axes.plot(x + shift, np.where(bound > 0, bound, np.nan), marker="v", markerfacecolor="white", **style)
    else:
        axes.errorbar(
            x + shift, value, np.nan_to_num(error), marker=marker(at), markerfacecolor="white", elinewidth=1.0, **style
        )


def _pi_label(quarters: int) -> str:
    """The label of k pi / 4 in lowest terms."""
    if quarters == 0:
        return "0"
    above, below = quarters // math.gcd(quarters, 4), 4 // math.gcd(quarters, 4)
    over = f"/{below}" if below > 1 else ""
    return rf"${above if above > 1 else ''}\pi{over}$"


def sector_plots(summary: Summary) -> list[Plot]:
    """<O>_Q against Q^2 with the fit and the average that it yields, beside the plain average."""
    found = {name: rows for name, topology in _topologies(summary) if len(rows := _sectors(topology)) >= 2}
    if not found:
        return []
    doubtful = ", ".join(name for name in found if not has_trusted_sectors(summary["ensembles"][name], _SHOWN))
    hollow = f" Open symbols: the errors of {doubtful} cannot be trusted." if doubtful else ""
    bent = ", ".join(name for name in found if (fit := _fit(summary["ensembles"][name])) and not fit["linear"])
    refused = f" The sectors of {bent} are on no straight line, so that their stars are off." if bent else ""
    given = ", ".join(name for name in found if _given_width(summary["ensembles"][name]))
    closed = f" For {given}, ⟨Q²⟩ is taken from the closed form." if given else ""
    figure, panels = panel_grid(len(found), height=1.9, sharex=True, sharey=True)
    data: list[tuple[Any, ...]] = []
    for i, (axes, (name, rows)) in enumerate(zip(panels, found.items())):
        data.extend(_draw_sectors(axes, rows, summary, name, labelled=i == 0))
        axes.set_title(name)
    outer_labels(panels, "$Q^2$", f"{_SHOWN} at charge $Q$")
    legend_above(figure)
    return [
        Plot(
            "fixed_charge",
            figure,
            f"The {_SHOWN} in each topological sector against Q², of {', '.join(found)}, with the fit through the "
            "sectors and the average over all of them.",
            f"The {_SHOWN} at fixed charge against Q². The line is the fit of the sectors; the star is the average "
            "over all charges that it yields, drawn at ⟨Q²⟩; the band is the plain average with its error. They "
            f"agree if every sector has the right weight and a straight line will do.{refused}{closed}{hollow}",
            FigureData(("ensemble", "charge squared Q^2", f"{_SHOWN}", "error", "what"), data),
        )
    ]


def _draw_sectors(
    axes: Axes, rows: Sequence[tuple[int, float, float]], summary: Summary, name: str, *, labelled: bool
) -> list[tuple[Any, ...]]:
    """Draw the points of the sectors, the fit and the average; returns them as rows of data."""
    at, entry = place(summary, name), summary["ensembles"][name]
    drawn: list[tuple[Any, ...]] = [(name, q * q, value, error, f"sector Q = {q}") for q, value, error in rows]
    largest = max(q * q for q, _, _ in rows)
    shift = 0.008 * largest  # Q and -Q stand beside each other
    x = np.array([q * q + shift * np.sign(q) for q, _, _ in rows], dtype=float)
    value, error = np.array([row[1:] for row in rows], dtype=float).T
    face = colour(at) if has_trusted_sectors(entry, _SHOWN) else "white"
    axes.errorbar(x, value, error, fmt=marker(at), color=colour(at), markerfacecolor=face, elinewidth=1.0, zorder=3)
    average = entry["observables"].get(_SHOWN)
    if average is not None and average["value"] is not None and average["error"] is not None:
        band = (average["value"] - average["error"], average["value"] + average["error"])
        axes.axhspan(*band, color="0.82", linewidth=0, label="plain average" if labelled else None)
        drawn.append((name, None, average["value"], average["error"], "plain average"))
    fit, width = _fit(entry), _width(entry)
    if fit is not None and width is not None and fit["value"] is not None and fit["slope"] is not None:
        ends = np.array([0.0, largest])
        axes.plot(ends, fit["value"] + fit["slope"] * (ends - width), color=colour(at), linewidth=1.0)
        axes.errorbar([width], [fit["value"]], [fit["error"] or 0.0], fmt="*", color="0.1", markersize=8,
                      elinewidth=1.0, zorder=4, label="from fixed charge" if labelled else None)  # fmt: skip
        drawn.append((name, width, fit["value"], fit["error"], "from fixed charge, at the mean of Q^2"))
    return drawn


def _fit(entry: EnsembleSummary) -> FixedCharge | None:
    return entry["topology"]["fixed_charge"].get(_SHOWN) if entry["topology"] else None


def _width(entry: EnsembleSummary) -> float | None:
    """<Q^2>, the value of Q^2 at which the fit through the sectors gives the average."""
    row = entry["observables"].get(CHARGE_SQUARED)
    if row is None:
        return None
    return row["exact"] if _given_width(entry) else row["value"]


def _given_width(entry: EnsembleSummary) -> bool:
    """Whether the fit used the closed form of <Q^2>, as for frozen ensembles."""
    fit = _fit(entry)
    return fit is not None and fit["charge_squared"] == "exact"


def _sectors(topology: Topology) -> list[tuple[int, float, float]]:
    """Charge, value and error of the observable shown, for each sector that has it."""
    rows = [(sector["charge"], sector["observables"].get(_SHOWN)) for sector in topology["sectors"]]
    return [(q, o["value"], o["error"]) for q, o in rows if o and o["value"] is not None and o["error"] is not None]


def _topologies(summary: Summary) -> list[tuple[str, Topology]]:
    """The names and topologies of the ensembles that have one."""
    entries = summary["ensembles"].items()
    return [(name, topology) for name, entry in entries if (topology := entry["topology"])]


def _points(topology: Topology) -> list[_Point]:
    return [
        _Point(row["theta"], row["value"], row["error"], row["exact"], row["resolved"])
        for row in topology["theta"]
        if row["value"] is not None
    ]


def _columns(points: Sequence[_Point]) -> tuple[Array, Array, Array]:
    """The angles, values and errors of the points."""
    theta, value, error = np.array([point[:3] for point in points], dtype=float).reshape(-1, 3).T
    return theta, value, error
