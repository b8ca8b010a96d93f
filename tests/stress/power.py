"""A power failure, as POSIX allows it: bytes that were not fsynced, and names whose folder was not, may be gone.

Of each folder the newest changes since its last fsync are taken back, any number of them; each file may keep any part
of what was written since its own. What was there when the process began counts as safe.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Undo = Callable[[], None]

_rename, _unlink, _link, _truncate, _open = os.rename, os.unlink, os.link, os.truncate, os.open


class Cache:
    """What the disk has not got yet. `stash` is a folder for files that a failure may bring back."""

    def __init__(self, folder: Path, stash: Path) -> None:
        self._folder, self._stash, self._n_stashed = folder, stash, 0
        self._changes: dict[str, list[Undo]] = {}  # folder -> how to take back each change since its last fsync
        self._safe: dict[int, int] = {}  # inode of a file written to -> how many of its bytes are safe

    def before(self, act: str, path: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Undo | None:
        """Note the act that comes; returns what is to be noted once it is done."""
        match act:
            case "open":
                return self._opens(path, arguments, named)
            case "pwrite" | "ftruncate":
                self._safe.setdefault(_inode(arguments[0]), 0)
            case "fsync":
                return lambda: self._synced(arguments[0], path)
            case "mkdir":
                return lambda: self._changed(path, lambda: shutil.rmtree(path, ignore_errors=True))
            case "rmdir":
                return lambda: self._changed(path, lambda: os.makedirs(path, exist_ok=True))
            case "unlink" if os.path.exists(path):
                kept = self._keep(path)
                return lambda: self._changed(path, lambda: _rename(kept, path))
            case "rename" | "replace":
                return self._renames(path, os.path.abspath(arguments[1]))
        return None

    def _opens(self, path: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Undo:
        new = not os.path.exists(path)
        mode = arguments[1] if len(arguments) > 1 else named.get("mode", "r")
        cut = bool(mode & os.O_TRUNC) if isinstance(mode, int) else "w" in mode

        def note() -> None:
            size = 0 if new or cut else os.stat(path).st_size
            self._safe.setdefault(os.stat(path).st_ino, size)
            if new:
                self._changed(path, lambda: _unlink(path) if os.path.exists(path) else None)

        return note

    def _renames(self, source: str, target: str) -> Undo:
        kept = self._keep(target) if os.path.exists(target) else None

        def undo() -> None:
            _rename(target, source)
            if kept:
                _rename(kept, target)

        return lambda: self._changed(target, undo)

    def _keep(self, path: str) -> str:
        self._n_stashed += 1
        kept = str(self._stash / str(self._n_stashed))
        _link(path, kept)
        return kept

    def _changed(self, path: str, undo: Undo) -> None:
        self._changes.setdefault(os.path.dirname(path), []).append(undo)

    def _synced(self, descriptor: int, path: str) -> None:
        if os.path.isdir(path):
            self._changes.pop(path, None)
        else:
            self._safe.pop(_inode(descriptor), None)

    def fail(self, rng: random.Random) -> None:
        """Lose what may be lost."""
        for path in [path for path in self._folder.rglob("*") if path.is_file()]:
            status = path.stat()
            safe = self._safe.get(status.st_ino)
            if safe is not None and status.st_size > safe:
                _truncate(path, rng.choice([safe, rng.randint(safe, status.st_size), status.st_size]))
        for folder in sorted(self._changes, key=len):  # a folder before what is in it
            undone = self._changes[folder][::-1] if os.path.isdir(folder) else []
            for undo in undone[: rng.choice([0, len(undone), rng.randint(0, len(undone))])]:
                undo()


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino
