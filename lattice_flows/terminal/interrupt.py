"""Stopping on a signal: finish the step in hand, save, and say so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(Exception):
    """The work was asked to stop by this signal; `kept` says what became of it."""

    def __init__(self, by: str | None, kept: str = "everything is saved, run again to go on") -> None:
        super().__init__(by)
        self.kept = kept


class StopRequest:
    """A request to stop, set by a signal. Calling it returns True once a signal has come."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def raise_if_set(self) -> None:
        """Raise Stopped once a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """A request that the signals TERM, INT, HUP, USR1 and USR2 set. A second INT stops at once."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and request():
            raise KeyboardInterrupt
        request.signal = signal.Signals(number).name

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
