"""Samplers built from card tables, including samplers nested inside samplers."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from lattice_flows.card.arguments import arguments, built, checked, lookup, readable
from lattice_flows.card.classes import check_sampler_class
from lattice_flows.catalogue import PluginError
from lattice_flows.errors import InputError
from lattice_flows.flows import Chain, Flow, HaarU1, Proposer
from lattice_flows.later_keys import as_before, completed
from lattice_flows.samplers import SAMPLERS, Part, Sampler, SamplerFactory
from lattice_flows.theories.action import Action

_GIVEN = ("action", "flow", "device", "rungs", "backwards", "tuned_kernel")  # arguments that the program gives itself
_NESTED: dict[Any, str] = {tuple[Part, ...]: "array", SamplerFactory: "table"}


class _PartTable(BaseModel):
    """The keys of every part of a mixture in addition to its sampler's arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)
    n_updates: Annotated[int, Field(ge=1, le=10**9)] = 1


def sampler_options(name: Any, table: Mapping[str, Any], where: str, known: Collection[str] = ()) -> dict[str, Any]:
    """The arguments of the sampler of this card name, checked and with defaults; nested samplers stay tables.

    `known` are further keys that belong in the same table. Raises InputError for the first error.
    """
    if name is None:
        raise InputError(f"{where}: the key 'sampler' is missing")
    constructor = lookup(SAMPLERS, name, f"{where}: sampler")
    check_sampler_class(constructor, where)
    if next(iter(inspect.signature(constructor).parameters), None) != "action":
        raise InputError(f"{where}: {constructor.__name__}: the first argument of a sampler must be `action`")
    nested = _nested(constructor)
    model = arguments(constructor, given=(*_GIVEN, *nested), taken=(*known, *_PartTable.model_fields))
    plain = {key: value for key, value in table.items() if key not in nested}
    options = checked(model, plain, where, [*known, *nested])
    for key, kind in nested.items():
        if key not in table:
            raise InputError(f"{where}: the key {key!r} is missing; it names the samplers that make up {name!r}")
        options[key] = _parts(table[key], f"{where}.{key}") if kind == "array" else _part(table[key], f"{where}.{key}")
    return options


def build_sampler(name: str, options: Mapping[str, Any], action: Action, flow: Proposer | None, where: str) -> Sampler:
    """The sampler with these checked options; `flow` is for samplers that take one.

    Raises InputError for options that the sampler refuses.
    """
    constructor = SAMPLERS[name]
    values = dict(options)
    for key, kind in _nested(constructor).items():
        tables = values[key]
        if kind == "array":
            values[key] = tuple(
                Part(_from_table(table, action, flow, f"{where}.{key}"), table["n_updates"]) for table in tables
            )
        else:
            values[key] = lambda rung, table=tables, key=key: _from_table(table, rung, flow, f"{where}.{key}")
    return built(constructor, where, action, *([flow] if _takes_flow(constructor) else []), **values)


def planned_sampler(name: str, options: Mapping[str, Any], action: Action, where: str) -> Sampler:
    """The sampler with these checked options before there is a flow, to check options and read class attributes.

    The identity serves as its flow. Raises InputError for options that the sampler refuses, and for a sampler made of
    others that does not name them.
    """
    sampler = build_sampler(name, options, action, Flow(HaarU1(()), Chain()), where)
    for one in sampler.walk():
        if _nested(type(one)) and not one.inner:
            raise InputError(f"{where}: {type(one).__name__}.inner must name the samplers that it is made of")
    return sampler


def needs_flow(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the sampler of this card name, or one inside it, takes a flow."""
    return any(_takes_flow(sampler) for _, sampler in samplers_in(name, options))


def samplers_in(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, type[Sampler]]]:
    """Yields the sampler of this card name and all samplers inside it, each with its name; skips unknown names."""
    if name not in SAMPLERS:
        return
    yield name, SAMPLERS[name]
    for key, kind in _nested(SAMPLERS[name]).items():
        if key in options:
            for table in options[key] if kind == "array" else [options[key]]:
                yield from samplers_in(table["sampler"], table)


def completed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options of a sampler with those, at any depth, that an older version did not know."""
    return _at_every_depth(completed, name, options)


def options_as_before(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a sampler as an older version wrote them, at any depth, where they mean the same."""
    return _at_every_depth(as_before, name, options)


def options_as_begun(
    name: str, options: Mapping[str, Any], given: Mapping[str, Any], stored: Mapping[str, Any]
) -> dict[str, Any]:
    """Checked options for more chains of a file with these stored options, which an older version may have written.

    A key that is neither there nor on the card (`given`) has the value that it had before it came, and a default that
    changed since is what it was; at any depth.
    """
    try:
        constructor = SAMPLERS[name]
    except (KeyError, PluginError):
        return dict(options)
    later = {key: value for key, value in constructor.added.items() if key not in stored}
    former = {key: one.before for key, one in constructor.changed.items() if one.since in later}
    table = {**options, **{key: value for key, value in {**later, **former}.items() if key not in given}}
    for key, kind in _nested(constructor).items():
        tables = [_as_list(one.get(key, []), kind) for one in (options, given, stored)]
        parts = [
            options_as_begun(part["sampler"], part, own, held) if part["sampler"] == held.get("sampler") else part
            for part, own, held in zip(*tables)
        ]
        if len(parts) == len(tables[0]):
            table[key] = parts if kind == "array" else parts[0]
    return table


def _as_list(tables: Any, kind: str) -> list[Any]:
    return list(tables) if kind == "array" else [tables]


_Change = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def _at_every_depth(change: _Change, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`change` of the options and of those of the samplers inside, each with its class's later arguments."""
    try:
        constructor = SAMPLERS[name]
    except (KeyError, PluginError):  # the code is not installed: the options stay what they are
        return dict(options)
    table = change(options, constructor.added)
    for key, kind in _nested(constructor).items():
        if key in table:
            tables = table[key] if kind == "array" else [table[key]]
            changed = [_at_every_depth(change, part["sampler"], part) for part in tables]
            table[key] = changed if kind == "array" else changed[0]
    return table


def _takes_flow(constructor: Any) -> bool:
    return "flow" in inspect.signature(constructor).parameters


def _nested(constructor: Any) -> dict[str, str]:
    """The arguments that are samplers themselves, each with "array" for an array of tables or "table" for one."""
    with readable(constructor):
        hints = get_type_hints(constructor.__init__)
        return {key: _NESTED[hint] for key, hint in hints.items() if hint in _NESTED}


def _parts(tables: Any, where: str) -> list[dict[str, Any]]:
    if not (isinstance(tables, (list, tuple)) and all(isinstance(table, dict) for table in tables)):
        raise InputError(f"{where} must be an array of tables, such as [{{sampler = 'hmc'}}, {{sampler = 'heatbath'}}]")
    return [counted_part(table, f"{where}[{k}]") for k, table in enumerate(tables)]


def counted_part(table: dict[str, Any], where: str) -> dict[str, Any]:
    """The table of a sampler with a number of its updates, checked and with defaults."""
    counts = checked(_PartTable, {key: value for key, value in table.items() if key == "n_updates"}, where)
    own = {key: value for key, value in table.items() if key != "n_updates"}
    return {**_part(own, where, ["sampler", *_PartTable.model_fields]), **counts}


def _part(table: Any, where: str, known: Collection[str] = ("sampler",)) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"{where} must be a table, such as {{sampler = 'hmc'}}")
    options = {key: value for key, value in table.items() if key != "sampler"}
    return {"sampler": table.get("sampler"), **sampler_options(table.get("sampler"), options, where, known)}


def _from_table(table: Mapping[str, Any], action: Action, flow: Proposer | None, where: str) -> Sampler:
    options = {key: value for key, value in table.items() if key not in ("sampler", "n_updates")}
    return build_sampler(table["sampler"], options, action, flow, where)
