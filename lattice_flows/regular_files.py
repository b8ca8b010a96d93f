"""Files that a person names: `~` stands for the home folder, and only regular files are opened.

A pipe would make a command wait for ever, and /dev/zero never ends.
"""

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_LONGEST_TEXT = 1 << 26  # bytes; the record of a hundred thousand tasks is shorter
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def at_home(path: str | Path) -> Path:
    """The path with the home folder in place of `~` or `~NAME`; as it is where there is no such folder."""
    return Path(os.path.expanduser(path))


def arguments_at_home(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command with the home folder in place of `~` in `~/FILE` and `--option=~/FILE`.

    A shell leaves it there in the second, and within quotes.
    """
    parts = (re.fullmatch(r"(--[\w-]+=)?(.*)", argument, re.DOTALL) for argument in arguments)
    return [(part[1] or "") + os.path.expanduser(part[2]) for part in parts if part]


def real(path: Path) -> Path:
    """The path without links, also of a file that does not exist; a cycle of links stays what it is."""
    return Path(os.path.realpath(path))


def require_regular(path: Path) -> None:
    """Raise OSError unless there is a regular file, which can be opened without waiting.

    Its `strerror` says what is there instead; a folder is an IsADirectoryError, and nothing a FileNotFoundError.
    """
    _require_regular(path, os.stat(path).st_mode)


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"is {kind_of(mode)}, not a file", str(path))


def kind_of(mode: int) -> str:
    """What is there instead of a regular file, in words."""
    return "a folder" if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def open_regular(path: Path, most: int | None = None) -> BinaryIO:
    """The regular file, opened for reading. Raises OSError as `require_regular` does, if it may not be read, and if it
    has more than `most` bytes: one with holes can be longer than memory.
    """
    return os.fdopen(_descriptor(path, most), "rb")


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, without the byte order mark that some editors put first.

    Raises OSError as `open_regular` does, also for one that is too long to be a card or a record of jobs,
    UnicodeDecodeError for other bytes.
    """
    with os.fdopen(_descriptor(path, _LONGEST_TEXT), encoding="utf-8-sig") as file:
        return file.read()


def _descriptor(path: Path, most: int | None) -> int:
    require_regular(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # what has been exchanged in the meantime does not wait
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status.st_mode)
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"has {status.st_size} bytes, which is too many to be one", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
