"""Targets of output: what exists is replaced only if it is recognisably an earlier one of the same kind.

A pipe or a device, such as /dev/stdout, is written to and never replaced; links are followed to their end.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lattice_flows.atomic_files import write_atomically
from lattice_flows.errors import InputError, unwritable, written_to
from lattice_flows.regular_files import kind_of, open_regular, real

_LARGEST = 1 << 28  # bytes; none of ours is larger
_OF_ENSEMBLES = (".h5", ".segments", ".lock")
_OPEN = re.compile(r"/dev/(?:fd/)?(stdout|stderr|\d+)|/proc/self/fd/(\d+)")
_STREAMS = {"stdout": 1, "stderr": 2}
_FIGURES = (".svg", ".pdf", ".csv")
_PAGE_MARKS = (b'<meta name="generator" content="lattice-flows">', b">Skip to the report</a>")  # the second: of before


@dataclass(frozen=True)
class Kind:
    """A kind of file that this package writes: what messages call it, and how one is recognised by its bytes."""

    name: str
    is_one: Callable[[bytes], bool]


def _json_with(*keys: str) -> Callable[[bytes], bool]:
    def is_one(content: bytes) -> bool:
        try:
            held = json.loads(content)
        except (ValueError, RecursionError):
            return False
        return isinstance(held, dict) and set(keys) <= held.keys()

    return is_one


SUMMARY = Kind("the JSON of an analysis", _json_with("theory", "flow", "ensembles"))
PROFILES = Kind("the JSON of free energy profiles", _json_with("theory", "series", "profiles"))
OUTCOME = Kind("a note of how a command ended", _json_with("status", "message"))
FIGURE = Kind("a figure that matplotlib has drawn", lambda content: b"atplotlib" in content)
PAGE = Kind("the page of a report", lambda content: any(mark in content for mark in _PAGE_MARKS))


def check_target(path: Path, kind: Kind) -> None:
    """Raise InputError if there is anything at `path` that is neither empty nor of this kind: before any work."""
    if path.suffix in _OF_ENSEMBLES:
        raise InputError(f"{path}: is the name of an ensemble, and this would be {kind.name}; choose another name")
    if _already_open(path) is not None:
        return
    target = real(path)
    try:
        mode = os.stat(target).st_mode
        if stat.S_ISREG(mode) and not _is_replaceable(target, kind):
            raise InputError(f"{path}: exists, is not {kind.name}, and is not overwritten; choose another name")
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error) from None
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise InputError(f"{path}: is {kind_of(mode)}; give the name of a file")


def write_output(path: Path, content: bytes, kind: Kind) -> None:
    """Write the file, or replace an earlier one of its kind, atomically; a folder that is missing is made.

    Raises InputError as `check_target` does, and if it cannot be written; OSError for a full disk.
    """
    check_target(path, kind)
    with written_to(path):
        if (descriptor := _already_open(path)) is not None:
            _write_through(os.dup(descriptor), content)
            return
        target = real(path)
        if target.exists() and not target.is_file():
            descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK)  # a pipe that nobody reads is an error
            os.set_blocking(descriptor, True)
            _write_through(descriptor, content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)  # durable: what a power failure has torn would not be replaced


def check_report(folder: Path) -> None:
    """Raise InputError if files of the folder would be overwritten that are no report of this package."""
    if folder.suffix in _OF_ENSEMBLES:
        raise InputError(f"{folder}: is the name of an ensemble, and this would be a report; choose another folder")
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries)
        page, summary = folder / "index.html", folder / "summary.json"
        ours = [path.name in found and _is_replaceable(path, kind) for path, kind in ((page, PAGE), (summary, SUMMARY))]
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InputError(f"{folder}: cannot be written: is a file, and a report needs a folder") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    for path, is_ours in zip((page, summary), ours):
        if path.name in found and not is_ours:
            raise InputError(f"{path}: is of no report of lattice-flows, and is not overwritten; choose another folder")
    foreign = [name for name in found if name.endswith(_FIGURES)]
    if foreign and not any(ours):
        raise InputError(
            f"{folder}: holds {foreign[0]} and no report of lattice-flows, and nothing is overwritten; "
            "choose another folder"
        )


def _is_replaceable(path: Path, kind: Kind) -> bool:
    """Whether the file is empty, or of this kind."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return size == 0 or (size <= _LARGEST and kind.is_one(file.read()))


def _already_open(path: Path) -> int | None:
    """The descriptor that a path such as /dev/stdout or /dev/fd/63 stands for; None for any other path."""
    found = _OPEN.fullmatch(os.fspath(path))
    if found is None:
        return None
    name = found[1] or found[2]
    return _STREAMS.get(name) or int(name)


def _write_through(descriptor: int, content: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
