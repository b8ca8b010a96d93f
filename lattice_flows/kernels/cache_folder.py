"""Compiled functions on disk, each in a file of its own, named after the signature and target it was compiled for.

There is no index that processes saving at once could corrupt, and a file appears complete or not at all. So nothing
needs a lock, on any file system. A damaged file counts as absent, and so does one that others could have written.
"""

import contextlib
import hashlib
import os
import pickle
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numba.core.serialize import dumps

from lattice_flows.kernels.private_folders import make_private, read_private, write_private

DAY = 24 * 3600
KEPT = 7 * DAY  # a folder that no process has used for so long belongs to sources that are gone

_OURS = re.compile(r"lattice-flows-[0-9a-f]{16}")
_CHECKSUM_SIZE = hashlib.sha256().digest_size


def folder_name(digest: str) -> str:
    """The name of the folder for code compiled from sources with this digest (hexadecimal)."""
    return f"lattice-flows-{digest[:16]}"


class CacheFolder:
    """The code compiled from one function, in one folder."""

    def __init__(self, folder: Path, function: str, stamp: object) -> None:
        self.folder, self._function, self._stamp = folder, function, stamp

    def load(self, key: object) -> Any:
        """The data saved for the key, or None."""
        try:
            content = read_private(self._path(key))
        except OSError:
            return None
        checksum, content = content[:_CHECKSUM_SIZE], content[_CHECKSUM_SIZE:]
        if hashlib.sha256(content).digest() != checksum:
            return None
        saved_key, data = pickle.loads(content)
        if saved_key != (self._stamp, key):  # another one that is written alike
            return None
        self._mark_as_used()
        return data

    def save(self, key: object, data: object) -> None:
        """Save `data` for the key. Raises OSError if that cannot be written, or if others could write it."""
        content = dumps(((self._stamp, key), data))
        _make(self.folder)
        _write(self._path(key), hashlib.sha256(content).digest() + content)

    def flush(self) -> None:
        """Remove all code compiled from the function."""
        for path in self.folder.glob(f"{self._function}.*.nbc"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, key: object) -> Path:
        name = hashlib.sha256(repr((self._stamp, key)).encode()).hexdigest()[:16]
        return self.folder / f"{self._function}.{name}.nbc"

    def _mark_as_used(self) -> None:
        """Set the folder's time to that of its last use, to the day."""
        with contextlib.suppress(OSError):
            if time.time() - self.folder.stat().st_mtime > DAY:
                os.utime(self.folder)


class CacheFolders:
    """The same in several folders, the first ones preferred. numba's `Cache` calls `load`, `save` and `flush`."""

    def __init__(self, folders: Sequence[CacheFolder]) -> None:
        self.folders = folders

    def load(self, key: object) -> Any:
        """The data saved for the key in any folder, or None."""
        found = (folder.load(key) for folder in self.folders)
        return next((data for data in found if data is not None), None)

    def save(self, key: object, data: object) -> None:
        """Save `data` for the key in the first folder that takes it. Raises the OSError of the last one."""
        *others, last = self.folders
        for folder in others:
            with contextlib.suppress(OSError):
                return folder.save(key, data)
        return last.save(key, data)

    def flush(self) -> None:
        """Remove all code compiled from the function."""
        for folder in self.folders:
            folder.flush()


def _write(path: Path, content: bytes) -> None:
    """Write a file that other processes see complete or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_private(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _make(folder: Path) -> None:
    """Make the folder, and then remove those beside it that are no longer used."""
    if not make_private(folder):
        return
    for other in folder.parent.iterdir():
        if _OURS.fullmatch(other.name) and _is_unused(other):
            shutil.rmtree(other, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > KEPT
    except OSError:  # another process has just removed it
        return False
