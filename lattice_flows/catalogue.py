"""Classes by the names that a card uses: the package's own, those of installed packages, those that a program adds."""

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

Entry = TypeVar("Entry")

_OWN_PACKAGE = __name__.partition(".")[0]
_foreign: set[str] = set()  # the packages, or single modules, from which a catalogue has loaded something


class PluginError(Exception):
    """Code of another package that cannot be loaded. The message is one line that says which and why."""


class Catalogue(MutableMapping[str, Entry]):
    """What is known of one kind: "theories", "samplers", "flows" or "observables".

    Installed packages offer theirs as entry points of the group lattice_flows.KIND, which are imported when they are
    asked for. A program adds its own by `catalogue[name] = entry`. Entries are subclasses of `base`, or whatever can be
    called where there is none. Adding or looking up one that is not, or that cannot be imported, raises PluginError.
    """

    def __init__(self, kind: str, own: Mapping[str, Entry], base: type | None = None) -> None:
        self.kind, self.base, self._known = kind, base, dict(own)
        self._own = frozenset(own)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._known and name in self._points:
            self._known[name] = self._loaded(self._points[name])
        return self._known[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._known[name] = self._checked(entry, repr(name))

    def add_own(self, name: str, entry: Entry) -> None:
        """Add one of the package's own that stands higher than the catalogue."""
        self[name] = entry
        self._own |= {name}

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
        return self._imported(point.module, point.attr, f"{point.name!r} of {_package(point.module)}")

    def add_named(self, name: str) -> None:
        """Add the class that a name MODULE:CLASS stands for. Raises PluginError as looking one up does."""
        module, _, attribute = name.partition(":")
        self._known[name] = self._imported(module, attribute, repr(name))

    def _imported(self, module: str, attribute: str, what: str) -> Entry:
        try:
            entry = attrgetter(attribute)(import_module(module))
        except (Exception, SystemExit) as error:  # whatever another package's code raises
            raise PluginError(f"{what} cannot be loaded: {one_line(error)}") from None
        _foreign.add(module.partition(".")[0])
        return self._checked(entry, what)

    def _checked(self, entry: Any, what: str) -> Entry:
        """The entry. Raises PluginError if it is none of this kind; `what` begins the message."""
        if self.base is None:
            if not callable(entry):
                raise PluginError(f"{what} is neither a class nor a function, which {self.kind} are made by")
        elif not (inspect.isclass(entry) and issubclass(entry, self.base)):
            raise PluginError(f"{what} is no subclass of {_public_name(self.base)}")
        elif left := sorted(getattr(entry, "__abstractmethods__", ())):
            raise PluginError(f"{what} is abstract: it must define {', '.join(left)}")
        return entry  # type: ignore[no-any-return]

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


def _public_name(base: type) -> str:
    """As it is imported: lattice_flows.theories.Action."""
    return ".".join([*base.__module__.split(".")[:2], base.__qualname__])


def one_line(error: BaseException) -> str:
    """The error in one line."""
    return ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())]))


def is_foreign(thing: Any) -> bool:
    """Whether a class, a function or a method is that of another package."""
    holder = type(thing.__self__) if inspect.ismethod(thing) else thing
    return str(getattr(holder, "__module__", "")).partition(".")[0] != _OWN_PACKAGE


def foreign_place(traceback: TracebackType | None) -> str | None:
    """FILE:LINE of the innermost frame in code that a catalogue has loaded; None for a traceback without any."""
    place = None
    while traceback is not None:
        frame = traceback.tb_frame
        package, file = str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_filename
        if package in _foreign and package != _OWN_PACKAGE and Path(file).is_file():  # a dataclass's __init__ has none
            place = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
