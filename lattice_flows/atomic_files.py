"""Files that appear complete or not at all: write under a temporary name, fsync, rename, fsync the folder."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The eight digits are random, so that nobody can have put a link there, and two processes do not share a file. What has
# none may be somebody else's, and is not taken for a leftover.
_TEMPORARY = re.compile(r"(?P<target>.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
_WRITE_BYTES = 1 << 20  # in one call: Linux was seen to need 100 ms for 45 MB at once and 12 ms for them in such pieces


def write_atomically(path: Path, content: bytes | memoryview | Callable[[int], None], *, durable: bool = True) -> None:
    """Write the file `path`, or replace it; a reader finds the old file or the new one, never a part of it.

    content  the bytes, or a function that is given the descriptor of a new file and writes them to it
    durable  whether the file must survive a power failure once this function has returned

    Several processes may write the same file at once: the last one wins, and `content` may be called a second time.
    Temporary files that killed processes left of the same file are removed. Raises OSError, which names `path`, if it
    cannot be written; then, and if `content` raises anything, the temporary file is removed.
    """
    if not path.name:  # as that of "/"
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with naming(path):
        while not _written(path, content, durable):
            pass
        if durable:
            sync_folder(path.parent)
    with suppress(OSError):  # the file itself is written
        remove_leftovers(path.parent, path.name)


def _written(path: Path, content: bytes | memoryview | Callable[[int], None], durable: bool) -> bool:
    """Make one attempt; returns False if another process took the temporary file for a leftover and removed it."""
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            if callable(content):
                content(descriptor)
            else:
                write_at(descriptor, memoryview(content), 0)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.rename(temporary, path)
        except FileNotFoundError:  # if the folder is gone, the next attempt raises
            return False
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def write_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all bytes of `view` to the file, beginning at `offset`."""
    while view:
        written = os.pwrite(descriptor, view[:_WRITE_BYTES], offset)
        view, offset = view[written:], offset + written


def remove_leftovers(folder: Path, target: str | re.Pattern[str]) -> None:
    """Remove the temporary files of `target` (a file's name, or a pattern of names) that killed processes left.

    A process that is writing one of these files right now notices that its temporary file is gone, and starts again.
    """
    pattern = re.compile(re.escape(target)) if isinstance(target, str) else target
    for name in os.listdir(folder):
        temporary = _TEMPORARY.fullmatch(name)
        if temporary and pattern.fullmatch(temporary["target"]):
            (folder / name).unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make the folder and its parents, each with an fsync of its parent: a power failure loses no name."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk: files made or renamed in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(path: Path) -> None:
    """Flush a file, or a folder and all that is in it, to the disk."""
    if path.is_dir():
        for entry in path.iterdir():
            sync_all(entry)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
