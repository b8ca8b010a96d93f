"""The layout of a run's live state in a terminal: rows in columns, histories as sparklines."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console, Group, OverflowMethod
from rich.table import Table
from rich.text import Text

from lattice_flows.terminal.numbers import number
from lattice_flows.terminal.streams import printable

BLOCKS, ASCII = "▁▂▃▄▅▆▇", ".:-=+*#"  # an odd number of steps: one is the middle

_BAR = 8  # characters
_NAME, _HISTORY = (8, 18), (12, 60)  # characters, from and to, of a kind below its name and of a sparkline
_STYLES = {"running": "green", "thermalising": "green", "interrupted": "red", "broken": "red", "waiting": "dim"}


class Row(NamedTuple):
    """The data shown for the training or for one ensemble."""

    name: str
    kind: str
    state: str
    fraction: float
    progress: str
    age: float | None = None  # seconds since the last commit
    rate: float | None = None  # per second
    seconds_left: float | None = None
    figures: tuple[str, str] = ("", "")  # a line each
    history: np.ndarray = np.empty(0)
    low: float = 0.0
    high: float = 1.0
    last: str = ""
    note: str = ""


class _Layout(NamedTuple):
    """The columns and lines shown for each row."""

    columns: tuple[str, ...]
    lines: int = 2
    gap: int = 2  # characters between columns


# From wide to narrow: whole columns leave, so that what stays can be read.
_LAYOUTS = (
    _Layout(("name", "state", "bar", "rate", "figures", "history")),
    _Layout(("name", "state", "bar", "rate", "figures")),
    _Layout(("name", "state", "bar", "figures")),
    _Layout(("name", "state", "bar")),
    _Layout(("name", "state", "percent")),
    _Layout(("name", "state", "percent"), lines=1, gap=1),
)
_Cells = dict[str, tuple[str, str]]  # the two lines of each column


def page(title: str, rows: Sequence[Row], console: Console) -> Group:
    """Two lines for each row, in as many columns as the console has room for; then the notes."""
    unicode = console.encoding.startswith("utf")
    overflow: OverflowMethod = "ellipsis" if unicode else "crop"
    cells = [_cells(row, unicode) for row in rows]
    layout, widths = _fitting(cells, console.width)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, layout.gap, 0, 0))
    for column in layout.columns:
        table.add_column(max_width=widths[column], no_wrap=True, overflow=overflow)
    for row, entry in zip(rows, cells):
        if "history" in widths:
            entry["history"] = _history(row, widths["history"], unicode)
        styles = {"name": "bold", "state": _STYLES.get(row.state, "")}
        for line in range(layout.lines):
            table.add_row(*[Text(entry[c][line], "dim" if line else styles.get(c, "")) for c in layout.columns])
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    if "figures" in widths and any(line.endswith("!") for row in rows for line in row.figures):
        notes.append("! this ESS cannot be trusted: few effective samples, a heavy tail, or one weight dominates")
    return Group(
        *[_line(text, console, overflow) for text in (title, "")], table, *[_line(n, console, overflow) for n in notes]
    )


def _fitting(cells: Sequence[_Cells], width: int) -> tuple[_Layout, dict[str, int]]:
    """The first layout that fits into `width` characters, and the width of each of its columns."""
    for layout in _LAYOUTS:
        widths = {
            column: max((len(line) for entry in cells for line in entry[column][: layout.lines]), default=0)
            for column in layout.columns
        }
        if "history" in widths:
            widths["history"] = _HISTORY[0]
        widest = widths["name"]  # of the names and of the kinds below them, which give way first
        names = max((len(entry["name"][0]) for entry in cells), default=0)
        widths["name"] = max(names, min(widest, _NAME[0]))
        spare = width - sum(widths.values()) - layout.gap * (len(widths) - 1)
        if spare >= 0:
            break
    more = min(spare, max(0, min(widest, _NAME[1]) - widths["name"]))  # below zero where nothing fits: names are cut
    widths["name"] = max(1, widths["name"] + more)
    if "history" in widths:
        widths["history"] = min(_HISTORY[0] + spare - more, _HISTORY[1])
    return layout, widths


def _cells(row: Row, unicode: bool) -> _Cells:
    """The two lines of each column; those of the history are made once its width is known."""
    full, empty = "█░" if unicode else "#."
    done = int(_BAR * row.fraction)
    percent = f"{int(100 * row.fraction)} %"
    return {
        "name": (row.name, row.kind),
        "state": (row.state, "" if row.age is None else f"{duration(row.age)} ago"),
        "bar": (f"{full * done}{empty * (_BAR - done)} {percent}", row.progress),
        "percent": (percent, row.progress),
        "rate": (
            "" if row.rate is None else f"{number(row.rate)} /s",
            "" if row.seconds_left is None else f"{duration(row.seconds_left)} left",
        ),
        "figures": row.figures,
        "history": ("", ""),
    }


def _history(row: Row, width: int, unicode: bool) -> tuple[str, str]:
    """The sparkline, and below it the last values, shortened between numbers only."""
    line = sparkline(row.history, row.low, row.high, width, BLOCKS if unicode else ASCII)
    return line, textwrap.shorten(row.last, width, placeholder=" ...")


def _line(text: str, console: Console, overflow: OverflowMethod) -> Text:
    """A line that is cut, not wrapped, and contains only characters that the console can print."""
    encoded = printable(text).encode(console.encoding, "replace").decode(console.encoding)
    return Text(encoded, no_wrap=True, overflow=overflow)


def sparkline(values: ArrayLike, low: float, high: float, width: int, ramp: str = BLOCKS) -> str:
    """At most `width` of the values (n,), evenly picked, as characters of the ramp from `low` to `high`.

    Values outside this range are drawn at its edge, non-finite ones as blanks, and all in the middle if high = low.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) > width:
        x = x[np.linspace(0, len(x) - 1, width).round().astype(int)]  # first and last among them
    height = np.nan_to_num((x - low) / (high - low)) if high > low else np.full(len(x), 0.5)
    levels = np.rint(height.clip(0, 1) * (len(ramp) - 1)).astype(int)
    return "".join(ramp[level] if known else " " for level, known in zip(levels, np.isfinite(x)))


def count(n: float) -> str:
    """The number in short form: 9999, 1.2M, 3G."""
    for power, prefix in ((9, "G"), (6, "M")):
        if n >= 10**power:
            return f"{n / 10**power:.3g}{prefix}"
    return f"{n:.0f}"


def duration(seconds: float) -> str:
    """The duration in a suitable unit: 12 s, 5 min, 2.5 h, 3.1 d."""
    seconds = max(0.0, seconds)
    for limit, unit, name, decimals in ((120, 1, "s", 0), (7200, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{decimals}f} {name}"
    return f"{seconds / 86_400:.1f} d"
