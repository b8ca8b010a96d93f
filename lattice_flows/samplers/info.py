"""Infos whose fields depend on the sampler's arguments."""

from collections import namedtuple
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


def info_of(columns: Mapping[str, NDArray[np.generic]]) -> NamedTuple:
    """The info with these fields: (B,) each, or (n, B) where it holds something of n proposals."""
    return _type(tuple(columns))(*columns.values())


@cache
def _type(names: tuple[str, ...]) -> Any:
    return namedtuple("Info", names)
