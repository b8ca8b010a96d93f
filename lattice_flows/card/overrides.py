"""Replacement of a card's values from the command line."""

import tomllib
from typing import Any

from lattice_flows.errors import InputError


def apply_override(table: dict[str, Any], override: str) -> None:
    """Apply one `table.key=value` to the card's tables; the key of an ensemble is `ensemble.NAME.key`.

    Raises InputError if the card has no place for such a key.
    """
    where = f"--set {override}"
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"{where}: must be written table.key=value")
    node = table
    for key in keys[:-1]:
        if isinstance(node, list):
            entries = [entry for entry in node if entry.get("name") == key]
            if not entries:
                raise InputError(f"{where}: no entry named {key!r}")
            node = entries[0]
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
    if isinstance(node, list):
        raise InputError(f"{where}: an array of tables is addressed as {keys[0]}.NAME.key=value")
    if not isinstance(node, dict):
        raise InputError(f"{where}: {'.'.join(keys[:-1])} is a value, not a table")
    try:
        found = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        found = {"value": value.strip()}
    if found.keys() != {"value"}:
        raise InputError(f"--set {override!r}: must be one assignment; give --set for each of several")
    node[keys[-1]] = found["value"]
