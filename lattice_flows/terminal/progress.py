"""Progress of long work: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lattice_flows.terminal.streams import printable

_LINE_SECONDS = 10.0  # between two log lines
_BAR_SECONDS = 0.2
_FEW = 10.0  # seconds, shown with a decimal


class Meter:
    """The progress of one piece of work and the most important figure about it."""

    def __init__(
        self, console: Console, title: str, total: float, unit: str, bar: Progress | None, counted: str | None = None
    ) -> None:
        self._console, self._title, self._total, self._unit, self._bar = console, title, total, unit, bar
        self._pace = f" {counted}/s" if counted else f" {unit}/s" if bar else "/s"
        self._task = bar.add_task(escape(title), total=total, rate="", figure="") if bar else None
        self._start = self._shown = time.monotonic()
        self._first: tuple[float, float] | None = None

    def update(self, done: float, figure: str, count: float | None = None) -> None:
        """Show `done` of the total and the figure, if an update is due. count: what the pace is of, else `done`."""
        now, count = time.monotonic(), done if count is None else count
        self._first = (done, count) if self._first is None else self._first
        if now - self._shown < (_BAR_SECONDS if self._bar else _LINE_SECONDS) and done < self._total:
            return
        self._shown = now
        rate, pace = ((x - first) / max(now - self._start, 1e-9) for x, first in zip((done, count), self._first))
        speed = f"{pace:.4g}{self._pace}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, rate=speed, figure=figure)
            return
        speed = f", {speed}" if pace > 0 else ""  # not known where the first look is the last one
        eta = f", {(self._total - done) / rate:.0f} s to go" if rate > 0 and done < self._total else ""
        digits = 0 if self._total >= _FEW or isinstance(self._total, int) else 1
        self.line(
            f"{done:.{digits}f} of {self._total:.{digits}f} {self._unit}{speed}{eta}"
            + (f"; {figure}" if figure else "")
        )

    def line(self, text: str) -> None:
        """Print a plain line, above the bar if there is one."""
        self._console.print(f"[bold]{escape(self._title)}[/bold]  {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def meter(console: Console, title: str, total: float, unit: str, counted: str | None = None) -> Iterator[Meter]:
    """A meter for work of `total` units. counted: what is counted by the second, if not these units."""
    title = printable(title)
    if not console.is_terminal:
        yield Meter(console, title, total, unit, None, counted)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[figure]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(console, title, total, unit, bar, counted)
