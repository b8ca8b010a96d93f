"""Sampler states to named arrays and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(state: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """A (nested) NamedTuple of arrays as name -> array, levels joined by '/'."""
    flat: dict[str, np.ndarray] = {}
    for name, value in state._asdict().items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}/") if hasattr(value, "_asdict") else {path: value}
    return flat


def restore(template: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """A state of the template's type holding the arrays of `flatten`. Raises KeyError for a missing one."""
    fields = {
        name: restore(value, arrays, f"{prefix}{name}/") if hasattr(value, "_asdict") else arrays[f"{prefix}{name}"]
        for name, value in template._asdict().items()
    }
    return type(template)(**fields)
