"""Keys that came later: a table that lacks one means the former behaviour, and holds the same with its former value.

`added` are the later keys of a constructor, each with the value that stands for the former behaviour.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Changed(NamedTuple):
    """A default of before: what the silence of a card means for chains whose file lacks the later key `since`."""

    before: Any
    since: str


def completed(table: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the former values of the later keys that it lacks."""
    return {**table, **{key: value for key, value in added.items() if key not in table}}


def as_before(table: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """The table as it was written before there were these keys: without those that have their former value."""
    return {
        key: value
        for key, value in table.items()
        if key not in added or json.dumps(value) != json.dumps(added[key])  # where tuples are lists
    }
