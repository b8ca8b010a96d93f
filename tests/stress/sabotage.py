"""Kills at chosen moments: a process that kills itself before, after or half-way through its k-th act on the disk."""

import functools
import io
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress.power import Cache

ACTS = ("open", "pwrite", "ftruncate", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir")


class Saboteur:
    """Counts what this process does to files below `folder`, and ends it at act number `last`.

    aim     only acts on paths that contain this text count; all do where it is empty.
    when    "before" the act, "after" it, or "half-way": a write then writes a part of its bytes.
    cache   where given, the end is a power failure: what was not synced may be lost. A plain kill loses nothing.
    tell    is told each act, in words.
    """

    def __init__(
        self,
        folder: Path,
        aim: str,
        last: int,
        when: str,
        cache: Cache | None,
        rng: random.Random,
        tell: Callable[[str], None],
    ) -> None:
        self._folder, self._aim, self._last, self._when = str(folder), aim, last, when
        self._cache, self._rng, self._tell, self._done = cache, rng, tell, 0

    def install(self) -> None:
        """Put itself between this process and its files."""
        for act in ACTS:
            setattr(os, act, self._watched(act, getattr(os, act)))
        io.open = self._watched("open", io.open)  # what Path.open calls

    def _watched(self, act: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            path = _path_of(arguments[0])
            if not self._concerns(act, path) or (act == "open" and not _writes(arguments, named)):
                return function(*arguments, **named)
            counts = self._aim in path.removeprefix(self._folder)
            self._done += counts
            here = counts and self._done == self._last
            if here:
                self._tell(f"{self._when} {act}")
            if here and self._when == "before":
                self._end()
            if here and self._when == "half-way" and act == "pwrite":
                descriptor, data, offset = arguments
                arguments = (descriptor, data[: self._rng.randint(0, len(data))], offset)
            note = self._cache.before(act, path, arguments, named) if self._cache else None
            result = function(*arguments, **named)
            if note:
                note()
            if here:
                self._end()
            return result

        return wrapped

    def _concerns(self, act: str, path: str) -> bool:
        """Whether the act is on something in the folder; its own name stands outside, its contents are synced as it."""
        return path.startswith(f"{self._folder}/") or (act == "fsync" and path == self._folder)

    def _end(self) -> None:
        if self._cache:
            self._cache.fail(self._rng)
        os.kill(os.getpid(), signal.SIGKILL)


def _path_of(target: Any) -> str:
    return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.path.abspath(target)


def _writes(arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    mode = arguments[1] if len(arguments) > 1 else named.get("mode", "r")
    return bool(mode & (os.O_WRONLY | os.O_RDWR)) if isinstance(mode, int) else any(letter in mode for letter in "wax+")
