"""Files that appear whole or not at all: a temporary name, fsync, rename, fsync of the folder. The rename decides."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The digits are random: nobody can have put a link there, and of two processes each has its own. Names that older
# versions have left have none.
_TEMPORARY = re.compile(r"(?P<target>.+?)(\.[0-9a-f]{8})?\.tmp", re.DOTALL)
_WRITE_BYTES = 1 << 20  # in one call: Linux was seen to need 100 ms for 45 MB at once and 12 ms for them in such pieces


def write_atomically(path: Path, content: bytes | memoryview | Callable[[int], None], *, durable: bool = True) -> None:
    """Let a file appear at `path`, or replace the one that is there; whoever reads it finds one of them, whole.

    content  the bytes, or a function that writes them to the descriptor of a new file which it is given
    durable  whether it is on the disk, safe from a power failure, once this returns

    Several processes may write the same file at once, and the last one prevails; `content` may be called again then.
    What a kill has left of an earlier attempt goes. Raises OSError, which names `path`, where the disk refuses; the
    temporary file is removed then, as it is by whatever else `content` raises.
    """
    with naming(path):
        while not _written(path, content, durable):
            pass
        if durable:
            sync_folder(path.parent)
    with suppress(OSError):  # the file is there, and that is what was asked for
        remove_leftovers(path.parent, path.name)


def _written(path: Path, content: bytes | memoryview | Callable[[int], None], durable: bool) -> bool:
    """One attempt; False where another process took the temporary file for one that a kill had left."""
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
        except FileNotFoundError:  # where the folder is what is gone, the next attempt says so
            return False
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def write_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all bytes of the view, the first one at `offset`."""
    while view:
        written = os.pwrite(descriptor, view[:_WRITE_BYTES], offset)
        view, offset = view[written:], offset + written


def remove_leftovers(folder: Path, target: str | re.Pattern[str]) -> None:
    """Remove from `folder` the temporary files that kills left of `target`, a file's name or a pattern of names.

    Whoever is about to write one of these files meanwhile notices, and writes it again.
    """
    pattern = re.compile(re.escape(target)) if isinstance(target, str) else target
    for name in os.listdir(folder):
        temporary = _TEMPORARY.fullmatch(name)
        if temporary and pattern.fullmatch(temporary["target"]):
            (folder / name).unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make the folder and its parents, each with an fsync of the one it stands in: a power failure forgets no name."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Let the disk have the names in the folder: what was made or renamed there survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError of the system say which file it is about: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
