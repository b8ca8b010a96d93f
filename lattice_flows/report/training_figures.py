"""The learning curves of a flow, from history.csv."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lattice_flows.report.drawing import Axes, Figure
from lattice_flows.report.style import WIDTH, FigureData, Plot, colour, legend_above
from lattice_flows.terminal.numbers import ess, number, with_error
from lattice_flows.theories.u1.closed_forms import ExactU1
from lattice_flows.training.history import Record

Array = NDArray[np.float64]

_MOST_POINTS = 2000
_FEW = 40  # points that get a symbol each
_START = 8  # of the history, the first part in so many is left out of the limits of an axis: it comes from far away


def training_plots(history: Sequence[Record], exact: ExactU1 | None) -> list[Plot]:
    """Loss, ESS and log Z against the seconds of training. exact: closed forms of the theory that was sampled."""
    rows = [row for row in history if math.isfinite(row.log_z_bound)]
    if not rows:
        return []
    rows = [*rows[: -1 : -(-len(rows) // _MOST_POINTS)], rows[-1]]
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    loss, ess_axes, log_z = figure.subplots(3, 1, sharex=True)
    _draw_loss(loss, rows)
    _draw_ess(ess_axes, rows)
    _draw_log_z(log_z, rows, exact)
    log_z.set(xlabel="seconds of training", xlim=(0, 1.03 * rows[-1].seconds or 1))
    legend_above(figure)
    last = rows[-1]
    shown = ess(last.ess, last.ess_error, last.n_samples or 0)
    if last.step_error is not None:
        shown += f" (log w good to {number(last.step_error, 1)})"
    against = "" if exact is None else f" (exact log Z: {exact.log_z:.2f})"
    return [
        Plot(
            "training",
            figure,
            f"Training history over {last.seconds:.0f} seconds: the bound on log Z ends at {last.log_z_bound:.2f}"
            f"{against}, the ESS at {shown}.",
            "Training: the loss of single batches, the effective sample size and log Z; the latter two from fresh "
            f"samples of the averaged weights, with their errors. The ESS ends at {shown}{_of_samples(last)}. "
            "⟨log w⟩ over the flow's samples lies below log Z by the divergence of flow and target; it ends at "
            f"{last.log_z_bound:.2f}{against}."
            f"{_about_data(last)}",
            FigureData(_HEADINGS, [_cells(row) for row in rows]),
        )
    ]


_HEADINGS = (
    "training (seconds)", "step", "loss of the batch", "ESS", "its error", "log Z", "its error",
    "bound on log Z", "its error", "upper bound on log Z", "its error",
)  # fmt: skip


def _cells(row: Record) -> tuple[float | None, ...]:
    return (
        row.seconds, row.step, row.loss, row.ess, row.ess_error, row.log_z, row.log_z_error,
        row.log_z_bound, row.log_z_bound_error, row.log_z_upper, row.log_z_upper_error,
    )  # fmt: skip


def _of_samples(last: Record) -> str:
    """The part of the caption on the number of samples and the largest of their weights."""
    if last.n_samples is None or last.largest_share is None:
        return ""
    return (
        f", of {last.n_samples:.0f} samples whose largest weight is {number(last.largest_share * last.n_samples, 2)} "
        "times the mean"
    )


def _about_data(last: Record) -> str:
    if last.log_z_upper is None:
        return ""
    upper = with_error(last.log_z_upper, last.log_z_upper_error)
    return f" The same over configurations of the target lies above log Z by the other divergence; it ends at {upper}."


def _draw_loss(axes: Axes, rows: Sequence[Record]) -> None:
    loss = _column(rows, "loss")
    _curve(axes, rows, loss, None, 0, None)
    axes.set(ylabel="loss", ylim=_limits(loss, []))


def _draw_ess(axes: Axes, rows: Sequence[Record]) -> None:
    ess, error = _column(rows, "ess"), _column(rows, "ess_error")
    _curve(axes, rows, ess, error, 0, None)
    highest = float((ess + np.nan_to_num(error)).max())
    axes.set(ylabel="ESS", ylim=(0, min(1.0, max(1.2 * highest, 1e-6))))


def _draw_log_z(axes: Axes, rows: Sequence[Record], exact: ExactU1 | None) -> None:
    bound, upper = _column(rows, "log_z_bound"), _column(rows, "log_z_upper")
    _curve(axes, rows, _column(rows, "log_z"), _column(rows, "log_z_error"), 2, "log⟨w⟩")
    if np.isfinite(upper).any():
        _curve(axes, rows, upper, _column(rows, "log_z_upper_error"), 1, "⟨log w⟩ over data")
    _curve(axes, rows, bound, _column(rows, "log_z_bound_error"), 0, "⟨log w⟩ of the flow")
    known = [] if rows[-1].log_z is None else [rows[-1].log_z]
    if exact is not None:
        known.append(exact.log_z)
        axes.axhline(exact.log_z, color="0.2", linestyle="--", linewidth=1.0, label="exact log Z")
    axes.set(ylabel=r"$\log Z$", ylim=_limits(np.concatenate([bound, upper]).reshape(2, -1).T, known))


def _curve(axes: Axes, rows: Sequence[Record], y: Array, error: Array | None, at: int, label: str | None) -> None:
    seconds = _column(rows, "seconds")
    style = "o-" if len(rows) < _FEW else "-"
    if error is not None and len(rows) < _FEW:
        axes.errorbar(seconds, y, error, fmt="none", ecolor=colour(at), elinewidth=1.0)
    elif error is not None:
        axes.fill_between(seconds, y - error, y + error, color=colour(at), alpha=0.25, linewidth=0)
    axes.plot(seconds, y, style, color=colour(at), label=label)


def _limits(y: Array, known: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis that shows all but the first values y (n, ...) and the known values."""
    seen = np.concatenate([y[len(y) // _START :].ravel(), known])
    seen = seen[np.isfinite(seen)]
    low, high = float(seen.min()), float(seen.max())
    margin = 0.08 * max(high - low, 1e-3)
    return low - margin, high + margin


def _column(rows: Sequence[Record], name: str) -> Array:
    """One column of the records, with nan for unknown values."""
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)
