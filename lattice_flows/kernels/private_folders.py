"""Folders and files that nobody else can write.

Compiled kernels are kept as pickles, which run what they say. Loaded are only regular files of our own user in a folder
of our own, which no group and no other user can write; what others put in their place is not ours. Modes and owners
are looked at, for nothing is forbidden to root.
"""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_private(folder: Path) -> bool:
    """Whether a folder is ours and only we can write it, and no folder above is open to all (but as /tmp, sticky)."""
    try:
        itself = folder.lstat()
        above = [parent.stat().st_mode for parent in folder.resolve().parents]
    except (OSError, RuntimeError):  # a cycle of links
        return False
    return stat.S_ISDIR(itself.st_mode) and _is_ours(itself) and not any(map(_is_open_to_all, above))


def read_private(path: Path) -> bytes:
    """The content of a file. Raises OSError, also where it is not ours alone."""
    if not is_private(path.parent):
        raise _not_private(path.parent)
    with open(path, "rb", opener=_opened) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            raise _not_private(path)
        return file.read()


def write_private(path: Path, content: bytes) -> None:
    """Write a new file for us alone. Raises OSError."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)


def make_private(folder: Path) -> bool:
    """Make a folder for us alone, and those above it that are missing. Returns whether it is new.

    Raises OSError, also for one that others can write.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        with contextlib.suppress(FileExistsError):  # made by another process just now
            parent.mkdir(mode=0o700)
    if not is_private(folder):
        raise _not_private(folder)
    return folder in missing


def own_folders() -> Iterator[Path]:
    """Folders to keep kernels in where no better one is private: of the user's cache, and of this machine."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~/.cache")  # as it is where there is no home
    if os.path.isabs(cache := base if os.path.isabs(base) else home):
        yield Path(cache) / "lattice_flows" / "kernels"
    with contextlib.suppress(OSError):  # no place for temporary files
        yield Path(tempfile.gettempdir()) / f"lattice_flows-kernels-{os.getuid()}"


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # without waiting at a FIFO


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS


def _is_open_to_all(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _not_private(path: Path) -> PermissionError:
    return PermissionError(errno.EPERM, "others can write it, or own it", str(path))
