"""Work in a folder that only one process may do at a time: a training, a submission."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lattice_flows.errors import InputError, unwritable
from lattice_flows.lock_files import hold, open_lock


@contextmanager
def locked(path: Path, busy: str) -> Iterator[int]:
    """Hold the lock file at `path`, which stays; yields its descriptor.

    Raises InputError, with the text `busy` if another process holds it, else with what is wrong with the file.
    """
    try:
        descriptor = open_lock(path)
    except FileExistsError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        _hold(descriptor, path, busy)
        yield descriptor
    finally:
        os.close(descriptor)


def _hold(descriptor: int, path: Path, busy: str) -> None:
    try:
        hold(descriptor, path)
    except BlockingIOError:
        raise InputError(busy) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
