"""The files that decide what compiled code does, and whether they still are what this process imported.

What is kept on disk is found again by the content of these files. Python reads a file when it imports it, and the file
may have been edited by the time a function of it is compiled: then nothing is kept, and nothing is looked for.
"""

import ast
import contextlib
import functools
import hashlib
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]

_OWN = __name__.partition(".")[0]
_COMPILES = (b"import numba", b"from numba", b"from lattice_flows.kernels.compiled import")
_VERSIONED = {_OWN, "numba", "llvmlite", "numpy"}  # counted in `compiled`
_STANDARD = sysconfig.get_path("stdlib") + os.sep

Stamp = tuple[int, int, int, int]


class Source(NamedTuple):
    """A file, as it was when it was read."""

    name: str
    """below the folder of its package, which may be anywhere"""
    path: str
    stamp: Stamp
    content: bytes


@dataclass(frozen=True)
class Sources:
    """All files that decide what some compiled code does."""

    digest: str
    stamps: dict[str, Stamp]

    def are_as_imported(self) -> bool:
        """Whether none has changed since the process began: what it imported is what was read for the digest."""
        return all(stamp[-1] < BEGAN and _stamp(path) == stamp for path, stamp in self.stamps.items())


def module_of(function: Callable[..., Any]) -> str:
    """The module in whose file the function stands; empty if it stands in none, or was made by another function."""
    if not isinstance(function, FunctionType) or function.__closure__ is not None:
        return ""
    return function.__module__ if function.__code__.co_filename == _file(function.__module__) else ""


@functools.cache
def sources_of(modules: frozenset[str]) -> Sources | None:
    """The files behind the compiled code of these modules, or None where they cannot be known.

    Of this package these are the files that may hold compiled code; of another package all its modules; of a module
    that stands alone its file. The same holds for all that these import, unless it is installed and not among the
    packages asked for: then it counts by when it was installed. What stands in a script, a notebook or an archive
    cannot be known.
    """
    asked = {_top(module) for module in modules}
    found, waiting, seen = [*own_sources(PACKAGE)], asked - {_OWN}, set(_VERSIONED)
    while waiting:
        name = min(waiting)
        seen.add(name)
        more = list(_sources(name, name in asked))
        found += more
        waiting = (waiting | {top for source in more for top in _imported(source)}) - seen
    paths = {os.path.realpath(source.path) for source in found}
    if "__main__" in asked or not all(os.path.realpath(_file(module)) in paths for module in modules):
        return None
    contents = sorted((source.name, hashlib.sha256(source.content).hexdigest()) for source in found)
    digest = hashlib.sha256(repr(contents).encode()).hexdigest()
    return Sources(digest, {source.path: source.stamp for source in found})


@functools.cache
def own_sources(package: Path) -> tuple[Source, ...]:
    """The files of this package that may hold compiled code.

    These are all modules of folders named `kernels`, and the modules elsewhere that import numba or `kernel`.
    """
    return tuple(
        source
        for source in _below(package, _OWN)
        if "kernels" in source.name.split("/") or any(words in source.content for words in _COMPILES)
    )


def _sources(name: str, asked: bool) -> Iterator[Source]:
    """The files of a package or module of the top level; one of them stands for an installed one, unless asked for."""
    file, folders = _file(name), getattr(sys.modules.get(name), "__path__", ())
    installed = not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)
    if file.startswith(_STANDARD) and not installed:
        return
    if installed and not asked:
        yield from (source._replace(content=repr(source.stamp).encode()) for source in _read(file, name))
    elif folders:
        for folder in folders:
            yield from _below(folder, name)
    else:
        yield from _read(file, name)


def _below(folder: str | Path, name: str) -> Iterator[Source]:
    """All modules of a folder; what has no module's name cannot be imported, such as an editor's lock."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one.isidentifier() and one != "__pycache__")
        for file in sorted(files):
            stem, extension = os.path.splitext(file)
            if extension == ".py" and stem.isidentifier():
                path = os.path.join(place, file)
                yield from _read(path, f"{name}/{os.path.relpath(path, folder)}")


def _read(path: str, name: str) -> Iterator[Source]:
    """The file, if there is one that can be read: others cannot be imported."""
    stamp = _stamp(path)
    with contextlib.suppress(OSError):
        if stamp is not None:
            yield Source(name, path, stamp, Path(path).read_bytes())


def _stamp(path: str) -> Stamp | None:
    """What changes when a file is edited or replaced, in any way; last the time of its change, in nanoseconds."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _imported(source: Source) -> set[str]:
    """The packages and modules of the top level that a file imports."""
    try:
        nodes = list(ast.walk(ast.parse(source.content)))
    except (SyntaxError, ValueError):  # a template, say
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {_top(name) for name in names}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _file(module: str) -> str:
    """The file of a module that was imported; empty if there is none."""
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _beginning() -> int:
    """When this process began, in nanoseconds since the epoch; now, on a system that does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine was booted
        since_boot = (ticks + 2) * 10**9 // os.sysconf("SC_CLK_TCK")  # not earlier: a file may just have been written
        return since_boot - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + time.time_ns()
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time_ns()


BEGAN = _beginning()
