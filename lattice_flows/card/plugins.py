"""Names of the form MODULE:CLASS on a card, which run code of that module: only where the user allows it.

The permission holds for the card in hand. Such names in the header of a file or a checkpoint are never imported. Names
of entry points may be: the user has installed their packages.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lattice_flows.catalogue import Catalogue, PluginError
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories.catalogue import OBSERVABLES, THEORIES

OPTION = "--allow-plugins"

_allowed: ContextVar[bool] = ContextVar("plugins allowed", default=False)


@contextmanager
def plugins(allowed: bool) -> Iterator[None]:
    """Allow, or forbid, the cards that are read meanwhile to name code outside of the package."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def are_allowed() -> bool:
    """Whether cards may name code outside of the package."""
    return _allowed.get()


def load_plugins(card: Mapping[str, Any]) -> None:
    """Add what the card names as MODULE:CLASS to the catalogues; modules in the current folder are found, too.

    Raises InputError if that is not allowed, or if it cannot be imported.
    """
    for catalogue, where, name in _names(card):
        if not isinstance(name, str) or ":" not in name:
            continue
        if not are_allowed():
            raise InputError(f"{where} = {name!r}: runs code that is not part of the package; allow it with {OPTION}")
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # where a script of the user's would look, too
        try:
            catalogue.add_named(name)
        except PluginError as error:
            raise InputError(f"{where}: {error}") from None


def sources(card: Mapping[str, Any]) -> dict[str, str]:
    """The package and version of everything on the card that is not the package's own, by its name there."""
    found = {str(name): catalogue.source(str(name)) for catalogue, _, name in _names(card)}
    return {name: source for name, source in found.items() if source is not None}


def _names(card: Mapping[str, Any]) -> Iterator[tuple[Catalogue[Any], str, Any]]:
    """Everything that a card names, with its catalogue and the place; what is misshapen is left for others to tell."""
    for key, catalogue in (("theory", THEORIES), ("flow", FLOWS)):
        table = card.get(key)
        if isinstance(table, Mapping) and "name" in table:
            yield catalogue, f"[{key}]: name", table["name"]
            for name in _named(table, "sampler"):
                yield SAMPLERS, f"[{key}]: sampler", name
            for name in _named(table, "flow"):
                yield FLOWS, f"[{key}]: flow", name
    for table in _tables(card, "observable"):
        yield OBSERVABLES, "[[observable]]: name", table.get("name")
    for table in _tables(card, "ensemble"):
        for name in _named(table, "sampler"):
            yield SAMPLERS, f"[[ensemble]] {table.get('name')}: sampler", name


def _tables(card: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = card.get(key)
    return [table for table in tables if isinstance(table, Mapping)] if isinstance(tables, list) else []


def _named(node: Any, key: str) -> Iterator[Any]:
    """What stands under this key at any depth of a table."""
    if isinstance(node, Mapping):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from _named(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value, key)
