"""Replacement of a card's values from the command line."""

import tomllib
from typing import Any

from lattice_flows.errors import InputError

_LONGEST = 150  # of an override in a message


def apply_override(table: dict[str, Any], override: str) -> None:
    """Apply one `table.key=value` to the card's tables; the key of an ensemble is `ensemble.NAME.key`.

    Raises InputError if the card has no place for such a key.
    """
    where = f"--set {override if override.isprintable() and len(override) <= _LONGEST else repr(override[:_LONGEST])}"
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"{where}: must be written table.key=value")
    node: Any = table
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, list):
            node = _entry_named(key, node, f"{where}: {'.'.join(keys[:depth])}")
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
        if not isinstance(node, (dict, list)):
            raise InputError(f"{where}: {'.'.join(keys[: depth + 1])} is a value, not a table")
    if isinstance(node, list):
        _tables(node, f"{where}: {'.'.join(keys[:-1])}")
        raise InputError(f"{where}: an array of tables is addressed as {keys[0]}.NAME.key=value")
    try:
        found = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        found = {"value": value.strip()}
    if found.keys() != {"value"}:
        raise InputError(f"{where}: must be one assignment; give --set for each of several")
    node[keys[-1]] = found["value"]


def _tables(entries: list[Any], told: str) -> list[dict[str, Any]]:
    """The entries, which are tables. Raises InputError for a list of values."""
    if not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{told} is a list; give it as a whole, as in [8, 8]")
    return entries


def _entry_named(name: str, entries: list[Any], told: str) -> dict[str, Any]:
    """The table of this name in an array of tables."""
    for table in _tables(entries, told):
        if table.get("name") == name:
            return table
    raise InputError(f"{told}: no entry named {name[:_LONGEST]!r}")
