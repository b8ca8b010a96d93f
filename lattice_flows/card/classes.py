"""Checks of what a class of another package says of itself, before a card is read by it."""

from collections.abc import Mapping
from typing import Any

from lattice_flows.errors import InputError
from lattice_flows.lattice import Space
from lattice_flows.samplers import Sampler, Windows
from lattice_flows.theories.action import Action

_MAPPINGS = ("added", "symbols", "named_observables", "collective_variables")


def check_theory_class(constructor: type[Action], where: str) -> None:
    """Raise InputError for class attributes that no card can be read by."""
    name = constructor.__name__
    if not hasattr(constructor, "space"):
        raise InputError(f"{where}: {name} needs an attribute `space`, such as lattice_flows.lattice.REAL")
    sides: Any = constructor.dimensions
    if not isinstance(sides, (range, tuple)) or not sides or not all(isinstance(n, int) and n >= 0 for n in sides):
        raise InputError(f"{where}: {name}.dimensions = {sides!r}: must be a range that is not empty, as range(1, 3)")
    check_later_keys(constructor, where)


def check_action(action: Action, where: str) -> None:
    """Raise InputError for an action whose variables live nowhere."""
    if not isinstance(space := action.space, Space):
        told = f"{type(action).__name__}.space = {space!r}"
        raise InputError(f"{where}: {told}: must be an object such as lattice_flows.lattice.REAL")


def check_sampler_class(constructor: type[Sampler], where: str) -> None:
    """Raise InputError for class attributes that no card can be read by."""
    check_later_keys(constructor, where)
    windows: Any = constructor.windows
    if windows is not None and not isinstance(windows, Windows):
        raise InputError(f"{where}: {constructor.__name__}.windows = {windows!r}: must be Windows(...) or None")
    if windows is not None and not constructor.weighted:
        raise InputError(f"{where}: {constructor.__name__} has windows: it must have weighted = True, and tell log_w")


def chains_per_set_of(sampler: Sampler, where: str) -> int | None:
    """How many chains of the sampler form a set. Raises InputError for what is no number, in it or inside it, and for
    populations without weights or particles."""
    for one in reversed(list(sampler.walk())):  # from within: that of a whole comes from its parts
        in_set: Any = one.chains_per_set
        if in_set is not None and not (isinstance(in_set, int) and in_set >= 1):
            told = f"{type(one).__name__}.chains_per_set = {in_set!r}"
            raise InputError(f"{where}: {told}: must be None or a whole number >= 1")
        if one.populations and not (one.weighted and in_set):
            name = type(one).__name__
            raise InputError(f"{where}: {name} makes populations: it must have weighted = True, and chains_per_set")
    return sampler.chains_per_set


def check_later_keys(constructor: Any, where: str) -> None:
    """Raise InputError if the later keys of a class, or what else is a mapping, are none."""
    for key in _MAPPINGS:
        if not isinstance(value := getattr(constructor, key, {}), Mapping):
            raise InputError(f"{where}: {constructor.__name__}.{key} = {value!r}: must be a dictionary")
