"""How the live state of a run looks in a terminal: rows in columns, histories as sparklines."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console, Group, OverflowMethod
from rich.table import Table
from rich.text import Text

from lattice_flows.workflows.format import number

BLOCKS, ASCII = "▁▂▃▄▅▆▇", ".:-=+*#"  # an odd number of steps: one is the middle

_BAR, _GAP = 8, 2  # characters
_NAME, _HISTORY = (8, 18), (12, 60)  # characters, from and to, of a name and of a sparkline
_STYLES = {"running": "green", "thermalising": "green", "interrupted": "red", "broken": "red", "waiting": "dim"}


class Row(NamedTuple):
    """What is shown of the training or of one ensemble."""

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


def page(title: str, rows: Sequence[Row], console: Console) -> Group:
    """Two lines for each row, in columns as wide as they need to be, the history in what is left; then the notes."""
    unicode = console.encoding.startswith("utf")
    overflow: OverflowMethod = "ellipsis" if unicode else "crop"
    columns = [_columns(row, unicode) for row in rows]
    widths = [max((len(line) for entry in columns for line in entry[i]), default=0) for i in range(5)]
    free = console.width - sum(widths[1:]) - _GAP * len(widths)
    widths[0] = max(_NAME[0], min(widths[0], _NAME[1], free - _HISTORY[0]))  # names give way first
    room = min(max(free - widths[0], _HISTORY[0]), _HISTORY[1])
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for width in [*widths, room]:
        table.add_column(max_width=width, no_wrap=True, overflow=overflow)
    for row, entry in zip(rows, columns):
        history = sparkline(row.history, row.low, row.high, room, BLOCKS if unicode else ASCII)
        last = textwrap.shorten(row.last, room, placeholder=" ...")  # no number is cut in two
        styles = ("bold", _STYLES.get(row.state, ""), "", "", "", "")
        for line, lower in enumerate(("", "dim")):
            texts = [lines[line] for lines in (*entry, (history, last))]
            table.add_row(*[Text(text, lower or style) for text, style in zip(texts, styles)])
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    if any(line.endswith("!") for row in rows for line in row.figures):
        notes.append("! this ESS is not to be trusted: too few effective samples, or too heavy a tail")
    return Group(
        *[_line(text, console, overflow) for text in (title, "")], table, *[_line(n, console, overflow) for n in notes]
    )


def _columns(row: Row, unicode: bool) -> list[tuple[str, str]]:
    """Name, state, progress, rate and figures, two lines each."""
    full, empty = "█░" if unicode else "#."
    done = int(_BAR * row.fraction)
    return [
        (row.name, row.kind),
        (row.state, "" if row.age is None else f"{duration(row.age)} ago"),
        (f"{full * done}{empty * (_BAR - done)} {int(100 * row.fraction)} %", row.progress),
        (
            "" if row.rate is None else f"{number(row.rate)} /s",
            "" if row.seconds_left is None else f"{duration(row.seconds_left)} left",
        ),
        row.figures,
    ]


def _line(text: str, console: Console, overflow: OverflowMethod) -> Text:
    """A line that is cut, not wrapped, and holds nothing that the console cannot print."""
    encoded = text.encode(console.encoding, "replace").decode(console.encoding)
    return Text(encoded, no_wrap=True, overflow=overflow)


def sparkline(values: ArrayLike, low: float, high: float, width: int, ramp: str = BLOCKS) -> str:
    """At most `width` of the values (n,), evenly picked, as characters of the ramp from `low` to `high`.

    What lies outside is drawn at the edge, what is not finite as a blank, and all in the middle where high = low.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) > width:
        x = x[np.linspace(0, len(x) - 1, width).round().astype(int)]  # first and last among them
    height = np.nan_to_num((x - low) / (high - low)) if high > low else np.full(len(x), 0.5)
    levels = np.rint(height.clip(0, 1) * (len(ramp) - 1)).astype(int)
    return "".join(ramp[level] if known else " " for level, known in zip(levels, np.isfinite(x)))


def count(n: float) -> str:
    """9999, 1.2M, 3G: short, for progress."""
    for power, prefix in ((9, "G"), (6, "M")):
        if n >= 10**power:
            return f"{n / 10**power:.3g}{prefix}"
    return f"{n:.0f}"


def duration(seconds: float) -> str:
    """12 s, 5 min, 2.5 h, 3.1 d."""
    seconds = max(0.0, seconds)
    for limit, unit, name, decimals in ((120, 1, "s", 0), (7200, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{decimals}f} {name}"
    return f"{seconds / 86_400:.1f} d"
