"""The differences of two tables, key by key, as they are told to a person."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Places = tuple[str, str]
OF_A_RUN: Places = ("on the card", "in the run")

_LONGEST = 60  # characters of a value
_MOST_TOLD = 6


def differences(
    now: Mapping[str, Any],
    before: Mapping[str, Any],
    where: str,
    places: tuple[str, str] = ("on the card", "in the run"),
) -> list[str]:
    """A text for each key whose values differ, such as "training.max_steps: 60 on the card, 30 in the run".

    now, before  tables ready for JSON; tuples are lists, and a key that is absent is null
    where        the name of the table; of nested tables and arrays the keys are joined with dots
    places       where the two stand
    """
    found = []
    for key in [*now, *(key for key in before if key not in now)]:
        found += _difference(now.get(key), before.get(key), f"{where}.{key}" if where else key, places)
    return found


def _difference(now: Any, before: Any, name: str, places: Places) -> list[str]:
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return differences(now, before, name, places)
    if _is_array(now) and _is_array(before) and len(now) == len(before) and any(isinstance(x, Mapping) for x in now):
        return [text for k, pair in enumerate(zip(now, before)) for text in _difference(*pair, f"{name}.{k}", places)]
    mine, other = json.dumps(now), json.dumps(before)
    return [] if mine == other else [f"{name}: {_short(now)} {places[0]}, {_short(before)} {places[1]}"]


def _is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def few(texts: Sequence[str]) -> str:
    """The texts in one line, the first ones if there are many."""
    more = len(texts) - _MOST_TOLD
    return "; ".join([*texts[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])
