"""[[observable]]: the measurements that a card, or `measure`, asks for."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lattice_flows.card.arguments import arguments, built, checked, lookup, unknown_key
from lattice_flows.catalogue import PluginError
from lattice_flows.errors import InputError
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement, flowed, given, observables_of
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.u1.flowed import LONGEST_FLOW

_LONGEST_NAME = 60  # in a message


class _Common(BaseModel):
    """The keys of every [[observable]] in addition to its parameters."""

    model_config = ConfigDict(extra="forbid", strict=True)
    every: Annotated[int, Field(ge=1, le=10**12)] = 1
    flow_time: Annotated[float, Field(ge=0.0, le=LONGEST_FLOW)] = 0.0


def asked_for(tables: Sequence[Mapping[str, Any]], action: Action, theory: str) -> dict[str, Measurement]:
    """The measurements in these [[observable]] tables, by the name of the series, for the theory of this name.

    Sets of observables may overlap. Raises InputError for a wrong table.
    """
    found: dict[str, Measurement] = {}
    for table in tables:
        where = f"[[observable]] {str(table.get('name'))[:_LONGEST_NAME]}"
        measurements = {one.observable.name: one for one in _of_table(table, where, action, theory)}
        for name, one in measurements.items():
            if name in found and found[name].every != one.every:
                raise InputError(f"{where}: {name} is given twice, with every = {found[name].every} and {one.every}")
        if measurements.keys() <= found.keys():
            raise InputError(f"{where}: {', '.join(measurements)} is given twice")
        found |= measurements
    return found


def _of_table(table: Mapping[str, Any], where: str, action: Action, theory: str) -> tuple[Measurement, ...]:
    known, own = observables_of(action), ("name", *_Common.model_fields)
    name = table.get("name")
    if isinstance(name, str) and name not in known and _is_of_another_theory(name):
        raise InputError(f"{where}: is not an observable of {theory}; available: {', '.join(sorted(known))}")
    constructor = lookup(known, name, "[[observable]]: name")
    model = arguments(constructor, given=("action",), taken=("series", *own))
    from_action = given(constructor, action)
    parameters = {key: value for key, value in table.items() if key not in own}
    if unknown := [key for key in parameters if key not in model.model_fields]:
        raise InputError(unknown_key(unknown[0], where, [*own, *model.model_fields]))
    made = built(constructor, where, **from_action, **checked(model, parameters, where))
    observables = require_observables(made if isinstance(made, tuple) else (made,), where)
    common = checked(_Common, {key: table[key] for key in _Common.model_fields if key in table}, where)
    if common["flow_time"] and not all(observable.flowable for observable in observables):
        raise InputError(f"{where}: flow_time: the gradient flow is for gauge fields, but the theory is {theory}")
    return tuple(Measurement(flowed(one, common["flow_time"]), common["every"]) for one in observables)


def _is_of_another_theory(name: Any) -> bool:
    for theory in THEORIES:
        with suppress(PluginError):  # a broken package is no matter of this card
            if name in THEORIES[theory].named_observables:
                return True
    return False


def require_observables(made: Any, where: str) -> tuple[Observable, ...]:
    """The observables that another package's code has made. Raises InputError for anything else."""
    if not isinstance(made, (tuple, list)):
        raise InputError(f"{where}: must be a tuple of lattice_flows.Observable, got {made!r}")
    for one in made:
        if not isinstance(one, Observable):
            raise InputError(f"{where}: must be made of lattice_flows.Observable, got {one!r}")
    return tuple(made)
