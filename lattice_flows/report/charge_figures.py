"""Figures of the topological charge: its history, its distribution, its autocorrelation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import EnsembleSummary, Summary
from lattice_flows.report.drawing import Axes, Figure, MaxNLocator
from lattice_flows.report.series_figures import autocorrelations, names
from lattice_flows.report.style import (
    WIDTH,
    FigureData,
    Plot,
    colour,
    legend_above,
    marker,
    outer_labels,
    panel_grid,
)
from lattice_flows.report.summary_lookups import CHARGE, CHARGE_SQUARED, place
from lattice_flows.statistics import MIN_LENGTH, gamma_method, reweighted
from lattice_flows.theories.observable import Quantity
from lattice_flows.theories.u1.closed_forms import ExactU1

Array = NDArray[np.float64]

_MOST_POINTS = 2000  # drawn of one chain
_MOST_CHARGES = 30  # |Q| in a distribution
_MOST_LAGS = 1000  # whose errors are worth their time
_LONG_NAME = 12  # letters that leave no room beside them in half a line


def charge_plots(groups: Sequence[Replicas], summary: Summary, exact: ExactU1 | None) -> list[Plot]:
    """The figures of the ensembles that have a charge; an empty list if none has one."""
    charged = [g for g in groups if g.has(CHARGE) and min(len(chain) for chain in g.series(CHARGE)) >= MIN_LENGTH]
    if not charged:
        return []
    return [
        charge_histories(charged, summary),
        charge_distributions(charged, summary, exact),
        *autocorrelations("charge_autocorrelation", charged, summary, _charge_squared(charged)),
    ]


def charge_histories(groups: Sequence[Replicas], summary: Summary) -> Plot:
    """The history of Q along the chains."""
    figure = Figure(figsize=(WIDTH, 0.6 + 1.05 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharey=True, squeeze=False)[:, 0]
    rows = [row for axes, group in zip(panels, groups) for row in _draw_history(axes, group, summary)]
    largest = max(1, *(abs(charge) for *_, charge in rows))
    panels[0].set_ylim(-largest - 0.4, largest + 0.4)
    panels[0].yaxis.set_major_locator(MaxNLocator(5, integer=True, symmetric=True))
    panels[-1].set_xlabel("configuration")
    frozen = [group.name for group in groups if _is_frozen(group, summary)]
    return Plot(
        "charge_history",
        figure,
        f"Histories of the topological charge of {names(groups)}. Frozen: {', '.join(frozen) or 'none'}.",
        "Topological charge along the first chain of each ensemble, over about a hundred autocorrelation times; note "
        "that the panels differ in length." + (" Frozen ensembles are shown with four whole chains." if frozen else ""),
        FigureData(("ensemble", "chain", "configuration", "topological charge Q"), rows),
    )


def _draw_history(axes: Axes, group: Replicas, summary: Summary) -> list[tuple[str, int, int, int]]:
    """Draw the charge in steps; returns the rows of data drawn: ensemble, chain, configuration, charge."""
    chains, rows = group.series(CHARGE), group.rows(CHARGE)
    frozen, at = _is_frozen(group, summary), place(summary, group.name)
    n = len(chains[0]) if frozen else _stretch(summary["ensembles"][group.name], len(chains[0]))
    part = slice(0, n, -(-n // _MOST_POINTS))
    drawn: list[tuple[str, int, int, int]] = []
    for k, (chain, numbers) in enumerate(zip(chains[: 4 if frozen else 1], rows)):
        charge = np.rint(chain[part])
        axes.step(numbers[part], charge, where="post", color=colour(at), alpha=1.0 - 0.2 * k, linewidth=0.9)
        drawn.extend((group.name, k, int(config), int(q)) for config, q in zip(numbers[part], charge))
    axes.set(title=f"{group.name}{' (frozen)' if frozen else ''}", ylabel="$Q$", xlim=rows[0][[0, n - 1]])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return drawn


def _stretch(ensemble: EnsembleSummary, n_configs: int) -> int:
    """The number of configurations that shows how a chain moves: a hundred tau_int of Q, but at least 200."""
    row = ensemble["observables"].get(CHARGE)
    tau_int = (row["tau_int"] if row else None) or 0.5
    return min(n_configs, max(200, math.ceil(100 * tau_int)))


def charge_distributions(groups: Sequence[Replicas], summary: Summary, exact: ExactU1 | None) -> Plot:
    """P(Q) with errors, against the closed form or, without one, a Gaussian of the measured width."""
    charges = _charges_shown(groups, exact)
    closed_form = np.maximum(exact.charge_distribution(int(charges[-1])), 0.0) if exact else None  # but for rounding
    name = "closed form" if exact else "Gaussian"
    highest = 0.0
    rows: list[tuple[str | int | float, ...]] = []
    figure, panels = panel_grid(len(groups), height=1.7, sharex=True, sharey=True)
    for i, (axes, group) in enumerate(zip(panels, groups)):
        at = place(summary, group.name)
        value, error = _probabilities(group, charges)
        expected = _gaussian(charges, value) if closed_form is None else closed_form
        axes.bar(charges, expected, 0.9, color="0.82", label=name if i == 0 else None)
        axes.errorbar(charges, value, error, fmt=marker(at), color=colour(at), markersize=3, elinewidth=1.0)
        axes.set_title(group.name)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, symmetric=True))
        axes.grid(False, axis="x")
        highest = max(highest, float((value + error).max()), float(expected.max(where=expected >= 0, initial=0.0)))
        rows.extend((group.name, int(q), *row) for q, *row in zip(charges, value, error, expected))
    panels[0].set_ylim(0.0, 1.05 * min(highest, 1.0))
    outer_labels(panels, "$Q$", "$P(Q)$")
    legend_above(figure)
    against = "the closed form" if exact else "the Gaussian of the measured width ⟨Q²⟩"
    return Plot(
        "charge_distribution",
        figure,
        f"Distribution of the topological charge of {names(groups)}, for |Q| up to {charges[-1]}, against {against}.",
        f"Distribution of the topological charge, against {against} (grey). Errors by the Gamma method; of a charge "
        "that an ensemble never visited there is none.",
        FigureData(("ensemble", "topological charge Q", "P(Q)", "error of P(Q)", f"P(Q) of the {name}"), rows),
    )


def _gaussian(charges: NDArray[np.int64], probability: Array) -> Array:
    """The Gaussian over the integers with the variance of these probabilities; not-a-number if that is zero."""
    variance = float(np.sum(charges**2 * probability))
    if not variance > 0:
        return np.full(len(charges), np.nan)
    weight = np.exp(-(charges**2) / (2.0 * variance))
    return weight / weight.sum()


def _charges_shown(groups: Sequence[Replicas], exact: ExactU1 | None) -> NDArray[np.int64]:
    """The charges -q ... q: up to four standard deviations, or eight if the ensembles went that far."""
    seen = max(float(np.abs(np.rint(chain)).max()) for group in groups for chain in group.series(CHARGE))
    spread = 4.0 * math.sqrt(exact.charge_squared) if exact else seen
    q_max = min(math.ceil(max(1.0, spread, min(seen, 2.0 * spread))), _MOST_CHARGES)
    return np.arange(-q_max, q_max + 1)


def _probabilities(group: Replicas, charges: NDArray[np.int64]) -> tuple[Array, Array]:
    """P(Q) with errors, from the indicator series of each charge."""
    chains = [np.rint(chain) for chain in group.series(CHARGE)]
    estimate: Callable[[list[Array]], Any] = gamma_method
    if group.weighted:
        log_w = group.series_like("log_w", CHARGE)

        def estimate(series: list[Array]) -> Any:
            return reweighted(series, log_w, n_particles=group.n_particles)

    found = [estimate([(chain == q).astype(float) for chain in chains]) for q in charges]
    return np.array([one.value for one in found]), np.array([one.error for one in found])


def _charge_squared(groups: Sequence[Replicas]) -> Quantity:
    """<Q^2>."""
    return next(quantity for quantity in groups[0].quantities() if quantity.name == CHARGE_SQUARED)


def _is_frozen(group: Replicas, summary: Summary) -> bool:
    return summary["ensembles"][group.name]["frozen"]
