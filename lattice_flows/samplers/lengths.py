"""The mean length of trajectories, found by what an independent configuration of the slowest observable costs."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from lattice_flows.samplers.sampler import Array
from lattice_flows.statistics import MIN_CHANGES, count_crossings, gamma_method
from lattice_flows.theories.action import Action

DEFAULT_LENGTH = 1.0
_LONGEST = 8.0
_BETTER = 0.85  # of the cost: pilots know it to some 20 %, and a change should mean something

Series = Sequence[Array]
"""Series (n, B) of several observables, in a fixed order."""


def settle_length(sampler: Any) -> None:
    """Give a frozen sampler that knows its n_md_steps, but no trajectory_length, that of 1: it is not to be tuned."""
    if sampler.n_md_steps is not None and sampler.trajectory_length is None:
        object.__setattr__(sampler, "trajectory_length", DEFAULT_LENGTH)


def tuned_length(pilot: Callable[[float], tuple[Series, float]]) -> float:
    """The mean length with the smallest cost * tau_int of the slowest observable, of 1/8, 1/4, ... 8.

    pilot(length) makes trajectories and returns the series that they gave, and the cost of a trajectory. Fluctuations
    are taken about each chain's own mean: pilots may be frozen in different sectors for good. Lengths are
    doubled, or else halved, as long as that saves 15 %. What hardly moves at length 1, as a frozen charge, is left out:
    no length is known to help it. At a length at which the others hardly move their tau_int is not known, but too
    long.
    """
    series, cost = _of_chains(pilot(DEFAULT_LENGTH))
    moving = [k for k, values in enumerate(series) if _moves(values)]
    if not moving:
        return DEFAULT_LENGTH
    best, least = DEFAULT_LENGTH, cost * _slowest(series, moving)
    for factor in (2.0, 0.5):
        length = factor * DEFAULT_LENGTH
        while 1.0 / _LONGEST <= length <= _LONGEST:
            series, cost = _of_chains(pilot(length))
            if not (found := cost * _slowest(series, moving)) < _BETTER * least:
                break
            best, least, length = length, found, factor * length
        if best != DEFAULT_LENGTH:
            break
    return best


def _of_chains(piloted: tuple[Series, float]) -> tuple[Series, float]:
    """The series about the mean of each chain, and the cost."""
    series, cost = piloted
    return [values - values.mean(axis=0) for values in series], cost


def _moves(values: Array) -> bool:
    return count_crossings(values) >= MIN_CHANGES


def _slowest(series: Series, moving: Sequence[int]) -> float:
    """tau_int of the slowest of the series; infinite where one hardly moves."""
    return max(gamma_method(series[k]).tau_int if _moves(series[k]) else math.inf for k in moving)


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
