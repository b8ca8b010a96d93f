"""Standard output and error, whatever they lead to: nowhere (`>&-`), a full disk, a pipe that nobody reads."""

import io
import os
import sys
from contextlib import suppress


def open_streams() -> None:
    """Open what the command was started without, and let no character be refused: a file's name may be any bytes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (it lasts as long as the process)
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_nowhere() -> None:
    """Let standard output lead nowhere: it can no longer be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> OSError | None:
    """Write what was printed; the error if that fails, such as a BrokenPipeError: then output leads nowhere."""
    failure: OSError | None = None
    if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # what typer leaves there when it met a closed pipe
        failure = BrokenPipeError()
    try:
        sys.stdout.flush()
    except OSError as error:
        failure = error
    if failure is not None:
        print_nowhere()
    return failure


def tell(message: str) -> None:
    """Print one line to standard error, if that can be written."""
    with suppress(OSError):
        print(printable(message), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text in one line, without what would control a terminal; names of files may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
