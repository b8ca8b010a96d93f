"""Errors in the user's input, told apart from failures of the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lattice_flows.ensembles.errors import DISK_ERRORS

_PATTERN = frozenset("*?[")  # of a shell, which hands on what matches no file


class InputError(ValueError):
    """Wrong input from the user. The message is one line: what is wrong, where, and what would be right."""


def unwritable(path: Path, error: OSError) -> Exception:
    """The error to raise if `path` cannot be written: an OSError that names it for a full disk, else an InputError."""
    if error.errno in DISK_ERRORS:
        return OSError(error.errno, error.strerror, str(path))
    return InputError(f"{path}: cannot be written: {error.strerror}")


def nothing_at(path: Path, what: str) -> InputError:
    """The error for a path that should lead to something: `what` is wrong, or it is a pattern that matches nothing."""
    return InputError(f"{path}: {'no file matches' if _PATTERN & set(str(path)) else what}")


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Turn an OSError raised while `path` is written into the exception that `unwritable` returns."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None
