"""The run card: a TOML file that is read and checked completely before anything runs."""

import inspect
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lattice_flows.card.abilities import check_sampler, check_training
from lattice_flows.card.arguments import arguments, built, checked, lookup, shown
from lattice_flows.card.classes import chains_per_set_of, check_action, check_later_keys, check_theory_class
from lattice_flows.card.flow_layers import keys_of_layers, layer_options, layer_plans
from lattice_flows.card.observables import asked_for, require_observables
from lattice_flows.card.overrides import apply_override
from lattice_flows.card.plugins import load_plugins, sources
from lattice_flows.card.samplers import needs_flow, planned_sampler, sampler_options
from lattice_flows.card.sources import DIRECT, check_data, check_start, existing_ensemble
from lattice_flows.catalogue import foreign_place
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, FlowPlan, Proposer
from lattice_flows.regular_files import at_home, read_text
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement
from lattice_flows.training import TrainingSettings, recommended

_STRICT = ConfigDict(extra="forbid", strict=True)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ACTION = "action"  # the series of S, of every ensemble
_CONFIGS = 1000  # where a card says neither n_configs nor max_seconds
MANY = 10**12  # configurations: more than any ensemble will hold
_LONGEST_NAME = 180  # a file system ends at 255; what is added for tasks, segments and temporary files takes less

Extent = Annotated[int, Field(ge=2, le=4096)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Positive = Annotated[int, Field(ge=1, le=10**12)]


class _Lattice(BaseModel):
    """The keys of every [theory] on a lattice, in addition to its couplings."""

    model_config = _STRICT
    shape: tuple[Extent, ...]
    boundary: Literal["periodic"] = "periodic"


class _NoLattice(BaseModel):
    """The keys of every [theory] without a lattice, in addition to its couplings: none."""

    model_config = _STRICT


class _Production(BaseModel):
    """The keys of every [[ensemble]] in addition to its sampler's arguments."""

    model_config = _STRICT
    n_chains: Annotated[int, Field(ge=1, le=100_000)] = 4
    n_configs: Positive | None = None  # None: as many as max_seconds allows, or 1000
    max_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # of production
    n_updates: Annotated[int, Field(ge=1, le=10**6)] = 1  # one compiled call, in which no signal is heard
    n_thermalisation: Count = 100
    start: str | None = None  # None: "flow" where the sampler takes one, else "hot"
    store_fields: bool = True
    compression: Literal["none", "gzip"] = "none"
    field_dtype: Literal["float64", "float32"] | None = None  # None: that of the theory's fields


class _Run(BaseModel):
    """The keys of a card outside all tables."""

    model_config = _STRICT
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


@dataclass(frozen=True)
class TheoryTable:
    """[theory]: the action with its couplings, and the lattice, where there is one."""

    name: str
    action: Action
    couplings: dict[str, Any]
    shape: tuple[int, ...] = ()
    boundary: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The table with its defaults, ready for JSON."""
        lattice = {"shape": list(self.shape), "boundary": self.boundary} if self.shape else {}
        return {"name": self.name, **lattice, **self.couplings}


@dataclass(frozen=True)
class FlowTable:
    """[flow]: the name of a flow with its plan's arguments."""

    name: str
    options: dict[str, Any]
    plan: FlowPlan = field(compare=False, repr=False)  # what follows from these and [theory]

    @cached_property
    def built_flow(self) -> Proposer:
        """The flow, built on first access and kept; copy it, never change it.

        Raises InputError for errors that show only when the flow is built.
        """
        return built(self.plan.build, "[flow]")

    def as_dict(self) -> dict[str, Any]:
        """The table with its defaults, ready for JSON."""
        return json.loads(json.dumps({"name": self.name, **self.options}))


@dataclass(frozen=True)
class EnsembleTable:
    """[[ensemble]]: an ensemble to generate, with its sampler."""

    name: str
    sampler: str
    n_chains: int
    n_configs: int  # MANY where time alone is the limit
    n_updates: int
    n_thermalisation: int
    start: str
    store_fields: bool
    compression: str
    field_dtype: str
    options: dict[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The options as they stand on the card, without defaults."""
    max_seconds: float | None = None
    """Of production, after which the ensemble ends with fewer configurations; of each task of a job array."""
    chains_per_set: int | None = None
    """Of the sampler; n_chains is a multiple of it."""

    @property
    def needs_flow(self) -> bool:
        """Whether the ensemble's sampler takes a flow."""
        return needs_flow(self.sampler, self.options)


@dataclass(frozen=True)
class Card:
    """A checked run card. `text` and `overrides` are its source."""

    seed: int
    device: str
    theory: TheoryTable
    flow: FlowTable | None
    training: TrainingSettings
    ensembles: tuple[EnsembleTable, ...]
    measurements: tuple[Measurement, ...]
    text: str
    overrides: tuple[str, ...]
    training_given: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """[training] as it stands on the card, without defaults."""
    plugins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The package and version of everything named that is not the package's own."""

    def ensemble(self, name: str) -> EnsembleTable:
        """The ensemble of this name. Raises InputError if there is none."""
        by_name = {table.name: table for table in self.ensembles}
        return lookup(by_name, name, "[[ensemble]]")


def read_card(path: Path, overrides: Sequence[str] = ()) -> Card:
    """The card at `path` with `table.key=value` overrides applied, for a new run.

    Raises InputError for anything that is wrong with it, and if a file that it names does not exist.
    """
    card = read_held_card(path, overrides)
    _require_files(card.training, str(path))
    return card


def read_held_card(path: Path, overrides: Sequence[str] = ()) -> Card:
    """The card of a run that has begun: files from which its training learned may no longer exist."""
    try:
        text = read_text(path)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a run card") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"{path}: {reason}; a run card is a TOML file") from None
    return parse_card(text, overrides, str(path))


def _require_files(training: TrainingSettings, where: str) -> None:
    data, parent = training.data, training.init_from
    if data not in (None, DIRECT):
        existing_ensemble(data, f"{where}: [training]: data = {data!r}")
    if parent is not None and not at_home(parent).is_file():
        raise InputError(f"{where}: [training]: init_from = {parent!r}: no such checkpoint")


def parse_card(text: str, overrides: Sequence[str] = (), where: str = "card") -> Card:
    """The card of this TOML text; `where` begins every message."""
    try:
        table = tomllib.loads(text)
        for override in overrides:
            apply_override(table, override)
        return _card(table, text, tuple(overrides))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{where}: not valid TOML: nested too deeply") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except ValueError as error:  # a number of ten thousand digits
        if foreign_place(error.__traceback__) is not None:
            raise
        raise InputError(f"{where}: not valid TOML: {error}") from None


def _card(table: dict[str, Any], text: str, overrides: tuple[str, ...]) -> Card:
    tables = ("theory", "flow", "training", "ensemble", "observable")
    for key in ("theory", "flow", "training"):
        if not isinstance(table.get(key, {}), dict):
            raise InputError(f"[{key}] must be a table, written [{key}]")
    for key in ("ensemble", "observable"):
        entries = table.get(key, [])
        if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
            raise InputError(f"[[{key}]] must be an array of tables, written [[{key}]]")
    load_plugins(table)
    if "theory" not in table:
        raise InputError("the table [theory] is missing")
    run = checked(_Run, {k: v for k, v in table.items() if k not in tables}, "top level", tables)
    theory = _theory(table["theory"])
    flow = _flow(table["flow"], theory) if "flow" in table else None
    ensembles = tuple(_ensemble(entry, theory, flow) for entry in table.get("ensemble", []))
    names = [entry.name for entry in ensembles]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"[[ensemble]]: the name {name!r} is given twice; names must differ")
    return Card(
        **run,
        theory=theory,
        flow=flow,
        training=_training(table.get("training", {}), theory, flow),
        ensembles=ensembles,
        measurements=_measurements(theory, table.get("observable", [])),
        text=text,
        overrides=overrides,
        training_given=table.get("training", {}),
        plugins=sources(table),
    )


def _constructed(constructor: Any, table: dict[str, Any], where: str) -> Any:
    """The object that the table describes."""
    return built(constructor, where, **checked(arguments(constructor), table, where))


def _split(table: dict[str, Any], model: type[BaseModel], *also: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table's keys that the model knows, and the rest without those named in `also`."""
    common = {k: v for k, v in table.items() if k in model.model_fields}
    return common, {k: v for k, v in table.items() if k not in common and k not in also}


def _theory(table: dict[str, Any]) -> TheoryTable:
    where = "[theory]"
    constructor = lookup(THEORIES, table.get("name"), f"{where}: name")
    check_theory_class(constructor, where)
    allowed = constructor.dimensions
    model = _NoLattice if 0 in allowed else _Lattice
    if 0 in allowed and (keys := [key for key in _Lattice.model_fields if key in table]):
        raise InputError(f"{where}: {keys[0]}: {table['name']} has no lattice; leave it out")
    common, couplings = _split(table, model, "name")
    taken = ("name", *_Lattice.model_fields)
    values = checked(arguments(constructor, taken=taken), couplings, where, [*model.model_fields, "name"])
    lattice = checked(model, common, where)
    action = built(constructor, where, **values)
    check_action(action, where)
    shape = lattice.get("shape", ())
    if len(shape) not in allowed:
        wanted = str(allowed[0]) if len(allowed) == 1 else f"{allowed[0]} to {allowed[-1]}"
        raise InputError(f"{where}: shape has {len(shape)} sides, but ensembles of {table['name']} need {wanted}")
    built(action.event_shape, where, shape)
    return TheoryTable(name=table["name"], action=action, couplings=values, **lattice)


def _flow(table: dict[str, Any], theory: TheoryTable) -> FlowTable:
    where = "[flow]"
    name = table.get("name")
    constructor = lookup(FLOWS, name, f"{where}: name")
    check_later_keys(constructor, where)
    options = {k: v for k, v in table.items() if k != "name"}
    given = {"shape": theory.shape, "action": theory.action}
    nested = keys_of_layers(constructor)
    model = arguments(constructor, given=(*given, *nested), taken=("name",))
    values = checked(model, {k: v for k, v in options.items() if k not in nested}, where, ["name", *nested])
    layers = {key: layer_options(options.get(key), f"{where}: {key}") for key in nested}
    plans = {key: layer_plans(tables, theory.shape, f"{where}: {key}") for key, tables in layers.items()}
    wanted = inspect.signature(constructor).parameters
    own = {key: value for key, value in given.items() if key in wanted}
    plan = built(constructor, where, **own, **values, **plans)
    if getattr(plan, "space", None) != theory.action.space:
        raise InputError(
            f"{where}: {name} is a flow of {plan.space}, but the variables of {theory.name} are {theory.action.space}"
        )
    settled = {key: getattr(plan, key) for key in values}  # by the plan
    return FlowTable(table["name"], {**settled, **layers}, plan)


def _training(table: dict[str, Any], theory: TheoryTable, flow: FlowTable | None) -> TrainingSettings:
    """[training], with settings that suit the flow for keys that the card does not give."""
    suitable = recommended(flow.name, flow.options, table) if flow else {}
    settings: TrainingSettings = _constructed(TrainingSettings, suitable | table, "[training]")
    if flow is not None:
        check_training(settings, flow.name, flow.plan)
    check_data(settings.data, theory.action, f"[training]: data = {shown(settings.data)}")
    if settings.reaction_coordinate is not None:
        try:
            theory.action.collective_variable(settings.reaction_coordinate)
        except ValueError as error:
            raise InputError(f"[training]: reaction_coordinate = {settings.reaction_coordinate!r}: {error}") from None
    return settings


def _ensemble(table: dict[str, Any], theory: TheoryTable, flow: FlowTable | None) -> EnsembleTable:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"[[ensemble]]: name = {shown(name)}: must be a word of letters, digits, '_' and '-'")
    if len(name) > _LONGEST_NAME:
        raise InputError(f"[[ensemble]]: name = '{name[:20]}...': must have at most {_LONGEST_NAME} letters")
    where = f"[[ensemble]] {name}"
    common, options = _split(table, _Production, "name", "sampler")
    given = options
    options = sampler_options(table.get("sampler"), options, where, [*_Production.model_fields, "name", "sampler"])
    production = checked(_Production, common, where)
    sampler_name = table["sampler"]
    # A flow knows little of hot configurations: with a log w far above all of its samples a chain would stay there.
    if production["start"] is None:
        production["start"] = "flow" if needs_flow(sampler_name, options) else "hot"
    if production["n_configs"] is None:
        production["n_configs"] = _CONFIGS if production["max_seconds"] is None else MANY
    dtype = theory.action.space.dtype
    if production["field_dtype"] is not None and dtype != "float64":
        raise InputError(f"{where}: field_dtype: fields of {theory.name} are stored as {dtype}; leave it out")
    production["field_dtype"] = production["field_dtype"] or dtype
    entry = EnsembleTable(name=name, sampler=sampler_name, options=options, given=given, **production)
    if entry.needs_flow and flow is None:
        raise InputError(f"{where}: the sampler {entry.sampler!r} needs a flow; add a [flow] table")
    sampler = planned_sampler(entry.sampler, options, theory.action, where)
    if flow is not None:
        check_sampler(sampler, flow.name, flow.plan, where)
    if not sampler.ergodic:
        raise InputError(
            f"{where}: {entry.sampler!r} does not reach every configuration; make it a part of a 'mixture' with hmc, "
            "heatbath or metropolis"
        )
    if (in_set := chains_per_set_of(sampler, where)) and entry.n_chains % in_set:
        raise InputError(
            f"{where}: n_chains = {entry.n_chains}: must be a multiple of {in_set}: the chains of "
            f"{entry.sampler!r} come in sets of so many"
        )
    if sampler.independent and "n_thermalisation" not in table:
        entry = replace(entry, n_thermalisation=0)
    check_start(entry.start, theory.action, entry.needs_flow, f"{where}: ")
    return replace(entry, chains_per_set=in_set)


def _measurements(theory: TheoryTable, tables: list[dict[str, Any]]) -> tuple[Measurement, ...]:
    """The theory's standard observables and the card's, one series each; the card may set `every` for both."""
    standard = {one.observable.name: one for one in standard_measurements(theory)}
    asked = asked_for(tables, theory.action, theory.name)
    for name, one in asked.items():
        if name in standard and type(one.unflowed) is not type(standard[name].unflowed):
            raise InputError(
                f"[[observable]] {one.unflowed.kind}: its series {name!r} has the name of a standard one of "
                f"{theory.name}, and would hide it; rename it"
            )
    if _ACTION in (found := {**standard, **asked}):
        raise InputError(
            f"[[observable]] {found[_ACTION].unflowed.kind}: its series {_ACTION!r} has the name of that of S of "
            f"{theory.name}; rename it"
        )
    return tuple(found.values())


def standard_measurements(theory: TheoryTable) -> tuple[Measurement, ...]:
    """The measurements of a card without [[observable]] tables."""
    where = f"[theory]: {type(theory.action).__name__}.observables"
    observables = require_observables(theory.action.observables(theory.shape), where)
    return tuple(Measurement(one, 1) for one in observables)
