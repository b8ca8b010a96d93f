"""The target of an export or import, which appears complete or not at all; nothing beside it is touched."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lattice_flows.atomic_files import sync_all, sync_folder
from lattice_flows.lock_files import hold, is_on, open_lock, sign

_LOCK = "being_made.lock"


@contextmanager
def made_apart(target: Path) -> Iterator[Path]:
    """Yield a path in a new folder beside `target`; what the block writes there becomes `target` if it succeeds.

    All of it is on the disk before it has its name. A block that raises leaves nothing behind. The folder's name is
    random, and a lock in it shows that its process is at work: what a killed one has left is removed here at the next
    call with the same target. Raises FileExistsError if the target has appeared in the meantime, OSError if something
    cannot be written.
    """
    remove_leftovers(target)
    folder, lock = _locked_folder(target)
    try:
        made = folder / target.name
        yield made
        sync_all(made)
        if target.exists() or target.is_symlink():
            raise FileExistsError(errno.EEXIST, "has appeared in the meantime and is not overwritten", str(target))
        made.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    sync_folder(target.parent)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor of the lock in it."""
    while True:
        folder = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
        folder.mkdir()
        try:
            lock = open_lock(folder / _LOCK)
        except FileNotFoundError:  # another process took the folder for a leftover while it was empty
            continue
        except BaseException:
            folder.rmdir()
            raise
        with suppress(OSError):  # a file system without locks, on which nothing is taken for a leftover
            hold(lock, folder / _LOCK)
        sign(lock)
        return folder, lock


def remove_leftovers(target: Path) -> None:
    """Remove the folders of processes that no longer hold the lock in theirs."""
    if not is_on():
        return
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):  # a folder that may not be read
        for name in filter(pattern.fullmatch, os.listdir(target.parent)):
            with suppress(OSError):  # its process is at work, or it is somebody else's
                _remove(target.parent / name)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()  # killed before it had a lock
        return
    if not (folder / _LOCK).is_file():
        return
    lock = open_lock(folder / _LOCK)
    try:
        hold(lock, folder / _LOCK)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
