"""Infos whose fields depend on the sampler's arguments, and the infos of several steps as that of one."""

import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PROPOSALS = "proposal_log_w"
"""The field (n, B) with the weights of all proposals of a step; all others are series."""
IMPROVED = "improved_"
"""How the names of estimators begin that an update makes of configurations of its own."""

Column = NDArray[Any]

_mean = partial(np.mean, axis=0)
_OF_UPDATES: Mapping[str, Callable[[Sequence[Column]], Any]] = {
    "accepted": _mean,
    "winding_accepted": _mean,
    "swap_acceptance": _mean,
    "cluster_size": _mean,
    "round_trips": partial(np.sum, axis=0),
    "rejection_run": partial(np.max, axis=0),
}


def info_of(columns: Mapping[str, Column]) -> NamedTuple:
    """The info with these fields: (B,) each, or (n, B) where it holds something of n proposals."""
    return _type(tuple(columns))(*columns.values())


@cache
def _type(names: tuple[str, ...]) -> Any:
    return namedtuple("Info", names)


@cache
def quantity_of(name: str) -> str:
    """What a series tells, without the numbers of the part of which it tells it: round_trips of round_trips_0_1."""
    return re.sub(r"(_\d+)+$", "", name)


def tells_of_updates(name: str) -> bool:
    """Whether a series tells how the updates of a step went, whatever they sample."""
    return quantity_of(name) in _OF_UPDATES


def over_steps(name: str, values: Sequence[Column]) -> Any:
    """What one step of all the updates would have told: values is a field (B,) of the infos of successive steps.

    Rates and improved estimators are averaged, round trips are added up, and of runs of rejections the longest counts.
    Anything else belongs to the configuration, and is that of the last step.
    """
    if len(values) == 1:
        return values[0]
    quantity = quantity_of(name)
    if quantity in _OF_UPDATES:
        return _OF_UPDATES[quantity](values)
    return _mean(values) if quantity.startswith(IMPROVED) else values[-1]
