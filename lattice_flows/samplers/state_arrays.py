"""Conversion of sampler states to named arrays and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(state: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a (nested) tuple or NamedTuple by name, levels joined by '/'."""
    flat: dict[str, np.ndarray] = {}
    for name, value in _entries(state):
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}/") if isinstance(value, tuple) else {path: value}
    return flat


def restore(template: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """A state of the template's type holding the arrays of `flatten`. Raises KeyError for a missing one.

    A whole tuple that is missing came later than the arrays, and is as in the template.
    """
    fields = [_restored(value, arrays, f"{prefix}{name}") for name, value in _entries(template)]
    return type(template)(*fields) if hasattr(template, "_fields") else tuple(fields)


def _restored(value: Any, arrays: Mapping[str, np.ndarray], path: str) -> Any:
    if not isinstance(value, tuple):
        return arrays[path]
    held = any(name.startswith(f"{path}/") for name in arrays)
    return restore(value, arrays, f"{path}/") if held else value


def _entries(state: Any) -> list[tuple[str, Any]]:
    """The names and values of one level: fields of a NamedTuple, positions of a tuple."""
    names = state._fields if hasattr(state, "_fields") else map(str, range(len(state)))
    return list(zip(names, state))
