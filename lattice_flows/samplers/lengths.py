"""The mean length of trajectories, found by what an independent configuration of the slowest observable costs."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lattice_flows.samplers.sampler import Array
from lattice_flows.statistics import MIN_CHANGES, count_crossings, gamma_method
from lattice_flows.theories.action import Action

_LONGEST, _LONGEST_ON_TRIAL = 8.0, 4.0  # the latter while longer ones have not paid yet: pilots should stay cheap.
# Both are in units of the first length.
_ROUNDING = 1e-10  # of a series: what varies less does not move
_BETTER = 0.85  # of the cost: pilots know it to some 20 %, and a change should mean something

Series = Sequence[Array]
"""Series (n, B) of several observables, in a fixed order."""


def settle_length(sampler: Any) -> None:
    """Give a frozen sampler that knows its n_md_steps alone the first length of its theory: it is not to be tuned."""
    if sampler.n_md_steps is not None and sampler.trajectory_length is None:
        object.__setattr__(sampler, "trajectory_length", sampler.action.first_length)


def tuned_length(pilot: Callable[[float], tuple[Series, float]], first: float = 1.0) -> float:
    """The mean length with the smallest cost * tau_int of the slowest observable, of 1/8, 1/4, ... 8 times the first.

    pilot(length) makes trajectories and returns the series that they gave, and the cost of a trajectory. Fluctuations
    are taken about each chain's own mean: pilots may be frozen in different sectors for good. Lengths are
    doubled, or else halved, as long as that saves 15 %. A series that does not move at all is left out: no length is
    known to help it. One that moves, but too rarely for a tau_int, has about 0.6 N / (its passages): then shorter
    trajectories are not tried, and longer ones up to 4 times the first whatever these bring.
    """
    series, cost = _of_chains(pilot(first))
    moving = [k for k, values in enumerate(series) if values.any()]
    if not moving:
        return first
    rare = any(count_crossings(series[k]) < MIN_CHANGES for k in moving)
    best, least = first, cost * _slowest(series, moving)
    for factor in (2.0,) if rare else (2.0, 0.5):
        length = factor * first
        while 1.0 / _LONGEST <= length / first <= (_LONGEST if best == length / factor else _LONGEST_ON_TRIAL):
            series, cost = _of_chains(pilot(length))
            if (found := cost * _slowest(series, moving)) < _BETTER * least:
                best, least = length, found
            elif not (rare and best == first):
                break
            length *= factor
        if best != first:
            break
    return best


def cost_of(series: Series, cost: float) -> float:
    """cost * tau_int of the slowest of the series (n, B); infinite if none moves, as of chains that reject all."""
    moving = [values for values in map(_fluctuations, series) if values.any()]
    return cost * max(map(_tau_int, moving)) if moving else float("inf")


def _of_chains(piloted: tuple[Series, float]) -> tuple[Series, float]:
    """The series about the mean of each chain, zero where only rounding is left, and the cost."""
    series, cost = piloted
    return [_fluctuations(values) for values in series], cost


def _fluctuations(values: Array) -> Array:
    found = values - values.mean(axis=0)
    return np.where(np.abs(found).max() > _ROUNDING * np.abs(values).max(), found, 0.0)


def _slowest(series: Series, moving: Sequence[int]) -> float:
    """tau_int of the slowest of the series."""
    return max(_tau_int(series[k]) for k in moving)


def _tau_int(values: Array) -> float:
    """tau_int, from the passages where there are too few of them for the Gamma method."""
    passages = count_crossings(values)
    return gamma_method(values).tau_int if passages >= MIN_CHANGES else 0.6 * values.size / (passages + 0.5)


def measured_by(action: Action, event: tuple[int, ...]) -> Callable[[Array], list[Array]]:
    """A function that takes x (B, *event) to the theory's standard observables, each (B,); squares of the odd ones."""
    observables = action.observables(_lattice_of(action, event))

    def measure(x: Array) -> list[Array]:
        return [one(x) ** 2 if one.odd else one(x) for one in observables]

    return measure


def _lattice_of(action: Action, event: tuple[int, ...]) -> tuple[int, ...]:
    """The lattice on which configurations of the action are of this shape; () where there is none."""
    for start, stop in combinations(range(len(event) + 1), 2):
        try:
            if action.field(event[start:stop]).shape == event:
                return event[start:stop]
        except ValueError:
            continue
    return ()
