"""The layers of a flow, built from the tables of a card: `{flow = ...}`, `{sampler = ...}` or `{langevin = ...}`."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from lattice_flows.card.arguments import arguments, built, checked, lookup, readable, shown
from lattice_flows.card.samplers import build_sampler, counted_part, needs_flow
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, FlowPlan
from lattice_flows.samplers import LangevinLayer, LayerPlan, MarkovLayer, Sampler, TransformLayer
from lattice_flows.theories.action import Action

_KINDS = ("flow", "sampler", "langevin")
_EXAMPLE = "[{flow = 'checkerboard_coupling', n_layers = 2}, {sampler = 'heatbath', n_updates = 4}]"


class _LangevinTable(BaseModel):
    """A Langevin layer: the size of its steps, and their number."""

    model_config = ConfigDict(extra="forbid", strict=True)
    langevin: Annotated[float, Field(gt=0)]
    n_updates: Annotated[int, Field(ge=1, le=10**6)] = 1


def keys_of_layers(constructor: Any) -> list[str]:
    """The arguments of a plan that are layers."""
    with readable(constructor):
        hints = get_type_hints(constructor.__init__)
        return [key for key, hint in hints.items() if hint == tuple[LayerPlan, ...]]


def layer_options(tables: Any, where: str) -> list[dict[str, Any]]:
    """The tables of layers, checked and with defaults. Raises InputError for the first error."""
    if not (isinstance(tables, (list, tuple)) and tables and all(isinstance(table, dict) for table in tables)):
        raise InputError(f"{where} must be an array of tables, such as {_EXAMPLE}")
    return [_options(table, f"{where}[{k}]") for k, table in enumerate(tables)]


def layer_plans(tables: list[dict[str, Any]], shape: tuple[int, ...], where: str) -> tuple[LayerPlan, ...]:
    """The plans of layers with these checked options, on a lattice of this shape."""
    return tuple(_plan(table, shape, f"{where}[{k}]") for k, table in enumerate(tables))


def _options(table: dict[str, Any], where: str) -> dict[str, Any]:
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise InputError(f"{where} = {shown(table)}: must have one of the keys {', '.join(_KINDS)}, as in {_EXAMPLE}")
    if kinds == ["langevin"]:
        return checked(_LangevinTable, table, where)
    if kinds == ["sampler"]:
        options = counted_part(table, where)
        if needs_flow(options["sampler"], options):
            raise InputError(f"{where}: {options['sampler']} needs a flow of its own, of which a layer has none")
        return options
    constructor = lookup(FLOWS, table["flow"], f"{where}: flow")
    if keys_of_layers(constructor):
        raise InputError(f"{where}: {table['flow']} is no transform; list its layers here")
    options = {key: value for key, value in table.items() if key != "flow"}
    model = arguments(constructor, given=("shape", "action"), taken=("flow",))
    return {"flow": table["flow"], **checked(model, options, where, ["flow"])}


def _plan(table: Mapping[str, Any], shape: tuple[int, ...], where: str) -> LayerPlan:
    if "langevin" in table:
        return built(LangevinLayer, where, table["langevin"], table["n_updates"])  # type: ignore[no-any-return]
    if "sampler" in table:
        options = {key: value for key, value in table.items() if key not in ("sampler", "n_updates")}

        def kernel(action: Action) -> Sampler:
            return build_sampler(table["sampler"], options, action, None, where)

        return built(MarkovLayer, where, kernel, table["n_updates"])  # type: ignore[no-any-return]
    constructor, values = FLOWS[table["flow"]], {key: value for key, value in table.items() if key != "flow"}
    wanted = inspect.signature(constructor).parameters

    def plan(action: Action) -> FlowPlan:
        given = {"shape": shape, "action": action}
        return built(constructor, where, **{key: given[key] for key in given if key in wanted}, **values)  # type: ignore[no-any-return]

    return TransformLayer(plan)
