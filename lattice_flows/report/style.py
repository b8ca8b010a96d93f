"""The common style of figures (size, fonts, colours, panels), and the type of a figure on a page."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lattice_flows.report.drawing import Axes, Figure, rc_context

# M. Okabe and K. Ito's palette, which colour-blind readers can tell apart. Yellow is left out, and the last two are
# darkened, so that every colour stands at least 3 : 1 against white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#3A91C8", "#B27B00")
MARKERS = "osD^vPX"
GREY = "0.45"
WIDTH = 4.8  # inches: shrunk to the width of a phone, the letters can still be read
_LETTERS = 62  # of a legend in one line
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.labelsize": 10,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it along, so that a page looks the same everywhere
    "font.size": 9,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.fonttype": "path",
    "svg.hashsalt": "lattice_flows",
    "text.usetex": False,
}


Cell = str | int | float | None


@dataclass(frozen=True)
class FigureData:
    """The numbers that a figure shows: headings with units in words, and rows with one cell per heading."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def csv(self) -> bytes:
        """The data as CSV: headings, then rows; numbers with all digits, empty cells for missing numbers."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.headings)
        writer.writerows([_exact_text(cell) for cell in row] for row in self.rows)
        return text.getvalue().encode()


def _exact_text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return repr(float(cell)) if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Plot:
    """A figure with its texts and numbers; `name` is the name of its files."""

    name: str
    figure: Figure
    alternative: str
    caption: str
    data: FigureData

    def render(self, suffix: str) -> bytes:
        """The figure as "svg", "pdf" or "png"; equal numbers give equal bytes."""
        buffer = io.BytesIO()
        date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
        with rc_context(STYLE):
            self.figure.savefig(buffer, format=suffix, metadata=date, dpi=200)
        return buffer.getvalue()


def colour(i: int) -> str:
    """The colour of the i-th ensemble."""
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    """The symbol of the i-th ensemble."""
    return MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]  # the pair with the colour is new for 49 ensembles


def single(height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def panel_grid(n: int, height: float, sharex: bool = False, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, two in a row, each of this height in inches."""
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH, max(2.6, 0.5 + height * rows)), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axes in panels[n:]:
        axes.remove()
    return figure, list(panels[:n])


def legend_above(figure: Figure) -> None:
    """Draw one legend above all panels, in as many columns as its names leave room for."""
    names = [name for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    n_columns = max(1, min(3, _LETTERS // (max(map(len, names)) + 5)))
    figure.legend(loc="outside upper left", ncols=n_columns, columnspacing=1.2)


def outer_labels(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label only the axes at the left and lower edges."""
    columns = min(len(panels), 2)
    for i, axes in enumerate(panels):
        if i % columns == 0:
            axes.set_ylabel(y)
        if i + columns >= len(panels):
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
