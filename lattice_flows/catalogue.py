"""Classes by the names that a card uses: the package's own, those of installed packages, those that a program adds."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version
from pathlib import Path
from typing import TypeVar

Entry = TypeVar("Entry")


class PluginError(Exception):
    """Code of another package that cannot be loaded. The message is one line that says which and why."""


class Catalogue(MutableMapping[str, Entry]):
    """What is known of one kind: "theories", "samplers", "flows" or "observables".

    Installed packages offer theirs as entry points of the group lattice_flows.KIND, which are imported when they are
    asked for. A program adds its own by `catalogue[name] = entry`. Looking one up raises PluginError if it cannot be
    imported.
    """

    def __init__(self, kind: str, own: Mapping[str, Entry]) -> None:
        self.kind, self._known = kind, dict(own)
        self._own = frozenset(own)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._known and name in self._points:
            self._known[name] = self._loaded(self._points[name])
        return self._known[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._known[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter({**self._known, **self._points})

    def __len__(self) -> int:
        return len({**self._known, **self._points})

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        """Of installed packages; names of the package's own are not theirs to change."""
        found = entry_points(group=f"lattice_flows.{self.kind}")
        return {point.name: point for point in found if point.name not in self._own}

    def _loaded(self, point: EntryPoint) -> Entry:
        try:
            return point.load()  # type: ignore[no-any-return]
        except Exception as error:  # whatever another package's code raises
            raise PluginError(f"{point.name!r} of {_package(point.module)} cannot be loaded: {_line(error)}") from None

    def add_named(self, name: str) -> None:
        """Add the class that a name MODULE:CLASS stands for. Raises PluginError if it cannot be imported."""
        module, _, attribute = name.partition(":")
        try:
            self._known[name] = getattr(import_module(module), attribute)
        except Exception as error:  # whatever another package's code raises
            raise PluginError(f"{name!r} cannot be loaded: {_line(error)}") from None

    def source(self, name: str) -> str | None:
        """The package and version of an entry that is not the package's own, or the file's digest; else None."""
        if name in self._own or name not in self:
            return None
        module = name.partition(":")[0] if ":" in name else getattr(self[name], "__module__", "")
        return _package(module)


def _package(module: str) -> str:
    """The installed package that a module belongs to and its version, or the digest of the module's file."""
    for distribution in packages_distributions().get(module.partition(".")[0], []):
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:  # pragma: no cover  (it was found a moment ago)
            continue
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return module
    return f"{module} sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]}"


def _line(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
