"""What the header of an ensemble file says, held against its data and against what this version knows."""

import json
from collections.abc import Mapping
from typing import Any

from lattice_flows.card.build import couplings_of
from lattice_flows.catalogue import PluginError, one_line
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories.action import Action, Unavailable
from lattice_flows.theories.catalogue import THEORIES, completed_theory
from lattice_flows.theories.measurement import Measurement
from lattice_flows.theories.observable import Stored

# Whole numbers, and the least of each.
_COUNTS = {"seed": 0, "threads": 1, "weighted": 0, "chains_per_set": 1, "populations": 0}
_TABLES = {
    **dict.fromkeys(("theory", "sampler", "plugins", "software", "machine"), dict),
    **dict.fromkeys(("observables", "overrides"), list),
}
_KINDS = {dict: "a table", list: "an array"}


def check_header(file: Ensemble) -> list[str]:
    """What the header names that this version does not know, a line each: its series can be analysed all the same.

    Attributes that the file does not have are not asked for. Raises InputError for those that are of another type, and
    for a theory whose configurations are not those of the file.
    """
    try:
        return _checked(file)
    except _Wrong as error:
        raise InputError(f"{file.path}: {error}") from None


class _Wrong(ValueError):
    pass


def _checked(file: Ensemble) -> list[str]:
    tables = {key: _table(file, key) for key in _TABLES if file.header(key) is not None}
    for key, least in _COUNTS.items():
        value = file.header(key)
        if value is not None and not (isinstance(value, int) and value >= least):
            raise _Wrong(f"its attribute {key!r} is {value!r}: it must be a whole number of at least {least}")
    theory, action = tables.get("theory"), None
    unknown = []
    if theory is not None:
        action = _action(theory)
        try:
            _check_field(file, theory, action)
        except Unavailable as error:
            unknown.append(f"made with theory {theory['name']!r}, which needs what is not here: {error}")
        if _is_newer(THEORIES, theory["name"]):
            unknown.append(f"made with theory {theory['name']!r}, which this version does not know")
    sampler = tables.get("sampler")
    if sampler is not None and _is_newer(SAMPLERS, _name(sampler, "sampler")):
        unknown.append(f"made by the sampler {sampler['name']!r}, which this version does not know")
    named = [_measurement(table, action) for table in tables.get("observables", [])]
    strange = [table["name"] for table, one in named if isinstance(one.observable, Stored)]
    if strange and action is not None:
        names = ", ".join(map(repr, dict.fromkeys(strange)))
        unknown.append(f"holds the observable {names}, which this version does not know")
    if unknown:
        unknown[-1] += "; what can be analysed are the stored series"
    return unknown


def _table(file: Ensemble, key: str) -> Any:
    text, kind = file.header(key), _TABLES[key]
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise _Wrong(f"its attribute {key!r} is not {_KINDS[kind]} in JSON: {str(text)[:80]!r}")
    return value


def _name(table: Mapping[str, Any], key: str) -> str:
    if not isinstance(name := table.get("name"), str):
        raise _Wrong(f"its attribute {key!r} has no name: {str(dict(table))[:80]}")
    return name


def _is_known(catalogue: Mapping[str, Any], name: str) -> bool:
    try:
        catalogue[name]
    except (KeyError, PluginError):
        return False
    return True


def _is_newer(catalogue: Mapping[str, Any], name: str) -> bool:
    """Whether the name stands for nothing here, though it is neither MODULE:CLASS nor that of an import."""
    return not _is_known(catalogue, name) and ":" not in name and name != "imported"


def _action(theory: Mapping[str, Any]) -> Action | None:
    """The action of the stored [theory]; None where this version does not know it."""
    if not _is_known(THEORIES, _name(theory, "theory")):
        return None
    try:
        return THEORIES[theory["name"]](**couplings_of(completed_theory(theory)))
    except (TypeError, ValueError) as error:
        raise _Wrong(f"its attribute 'theory' is of no {theory['name']} of this version: {one_line(error)}") from None


def _check_field(file: Ensemble, theory: Mapping[str, Any], action: Action | None) -> None:
    """Raise _Wrong unless the configurations are those of this theory on this lattice, Unavailable where it cannot be
    told."""
    held = file.field
    told = theory.get("shape", list(held.lattice_shape))
    if not isinstance(told, list) or not all(isinstance(side, int) and side > 0 for side in told):
        raise _Wrong(f"its attribute 'theory' has the shape {told!r}: it must be a list of whole numbers")
    if tuple(told) != held.lattice_shape:
        sides = list(held.lattice_shape)
        raise _Wrong(f"its attribute 'theory' has the shape {told}, but its configurations are on {sides}")
    if action is None:
        return
    try:
        field = action.field(tuple(told))
    except Unavailable:
        raise
    except ValueError as error:
        raise _Wrong(f"its attribute 'theory': {error}") from None
    if (field.name, field.shape) != (held.name, held.shape):
        raise _Wrong(
            f"its configurations are {held.name} {list(held.shape)}, but those of the theory {theory['name']!r} are "
            f"{field.name} {list(field.shape)}"
        )


def _measurement(table: Any, action: Action | None) -> tuple[Mapping[str, Any], Measurement]:
    if not isinstance(table, dict):
        raise _Wrong(f"its attribute 'observables' holds {table!r}: it must hold tables")
    _name(table, "observables")
    every = table.get("every", 1)
    if not isinstance(every, int) or every < 1 or not isinstance(table.get("series", ""), str):
        raise _Wrong(f"its attribute 'observables' holds {table}: every must be a whole number, and series a name")
    try:
        return table, Measurement.from_dict(table, action)
    except (TypeError, ValueError, AssertionError) as error:
        raise _Wrong(f"its attribute 'observables' holds {table}: {one_line(error)}") from None
