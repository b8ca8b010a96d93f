"""Measurements, by the same code on a running chain and on stored fields."""

import inspect
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lattice_flows.errors import InputError
from lattice_flows.theories.action import Action, NamedObservable
from lattice_flows.theories.catalogue import OBSERVABLES
from lattice_flows.theories.observable import Array, Field, Observable, Stored
from lattice_flows.theories.u1.flowed import Flowed
from lattice_flows.theories.u1.kernels.gradient_flow import STEP_SIZE, flow_steps, whole_steps

Series = dict[str, np.ndarray]

_OWN_KEYS = ("name", "every", "flow_time", "series")  # of a table; the others are the observable's


@dataclass(frozen=True)
class Measurement:
    """An observable and the interval, in configurations, at which it is measured."""

    observable: Observable
    every: int

    @property
    def flow_time(self) -> float:
        """The time of the gradient flow before the measurement, 0 without a flow."""
        return self.observable.flow_time if isinstance(self.observable, Flowed) else 0.0

    @property
    def unflowed(self) -> Observable:
        """The observable that is measured at the end of the flow."""
        return self.observable.observable if isinstance(self.observable, Flowed) else self.observable

    def as_dict(self) -> dict[str, Any]:
        """The [[observable]] table with its defaults and the name of its series, ready for JSON.

        flow_time is included if it is not 0.
        """
        flow = {"flow_time": self.flow_time} if self.flow_time else {}
        parameters = {"every": self.every, **self.unflowed.parameters(), **flow}
        return {"name": self.unflowed.kind, **parameters, "series": self.observable.name}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], action: Action | None) -> "Measurement":
        """The measurement that `as_dict` describes, of this theory.

        Where the code of the theory (None) or of the observable is missing, or is older than the table, it is known by
        its stored series alone.
        """
        known, every = {} if action is None else observables_of(action), table.get("every", 1)
        stored = cls(Stored(table.get("series", table["name"])), every)
        if action is None or table["name"] not in known:
            return stored
        parameters = {key: value for key, value in table.items() if key not in _OWN_KEYS}
        constructor = known[table["name"]]
        if not parameters.keys() <= inspect.signature(constructor).parameters.keys():
            return stored
        made = constructor(**given(constructor, action), **parameters)
        assert isinstance(made, Observable)
        return cls(flowed(made, table.get("flow_time", 0.0)), every)


def observables_of(action: Action) -> Mapping[str, NamedObservable]:
    """What [[observable]] tables can ask for, by name: the theory's observables, and those for any theory."""
    return ChainMap(dict(action.named_observables), OBSERVABLES)


def given(constructor: NamedObservable, action: Action) -> dict[str, Any]:
    """The arguments of an observable that do not come from a card: the action, if it has such a parameter."""
    return {"action": action} if "action" in inspect.signature(constructor).parameters else {}


def measured(measurements: Sequence[Measurement], x: np.ndarray, first_config: int) -> tuple[Series, dict[str, int]]:
    """The series of a block x (n, B, *event) of the configurations first_config ... first_config + n - 1.

    Returns name -> (k, B) with the rows of the configurations whose number is a multiple of `every`, and name ->
    `every`. Observables at several flow times share the integration. No number depends on other measurements or on
    the division into blocks.
    """
    series: Series = {}
    configs, done = np.arange(first_config, first_config + len(x)), 0
    trunk = x  # after `done` steps of the flow
    by_time = sorted({one.flow_time for one in measurements})
    for flow_time in by_time:
        group = [one for one in measurements if one.flow_time == flow_time]
        fields = trunk
        if flow_time > 0.0:
            later = [one for one in measurements if one.flow_time >= flow_time]
            configs, trunk = _rows(configs, trunk, [one.every for one in later])
            n_steps, rest = whole_steps(flow_time)
            trunk, done = _flow(trunk, n_steps - done, STEP_SIZE), n_steps
            fields = _flow(trunk, 1, rest) if rest else trunk
        for one in group:
            _, part = _rows(configs, fields, [one.every])
            flat = part.reshape(-1, *part.shape[2:])  # (k * B, *event)
            series[one.observable.name] = values_of(one.unflowed, flat).reshape(part.shape[:2])
    ordered = {one.observable.name: series[one.observable.name] for one in measurements}
    return ordered, {one.observable.name: one.every for one in measurements}


def values_of(observable: Observable, x: Field) -> Array:
    """The observable of each of these configurations, (n,). Raises InputError if it returns anything else."""
    values: Any = observable(x)
    if isinstance(values, np.ndarray) and values.shape == (len(x),) and values.dtype.kind in "biuf":
        return values
    got = f"{list(values.shape)}, {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
    raise InputError(
        f"the observable {observable.name!r} must return a numpy array of one real number for each of {len(x)} "
        f"configurations, got {got}"
    )


def _rows(configs: np.ndarray, x: np.ndarray, every: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that are a multiple of any of `every`, and their fields; without a copy if all are."""
    wanted = np.any([configs % k == 0 for k in every], axis=0)
    return (configs, x) if wanted.all() else (configs[wanted], x[wanted])


def _flow(x: np.ndarray, n_steps: int, step_size: float) -> np.ndarray:
    return flow_steps(x.reshape(-1, *x.shape[2:]), n_steps, step_size).reshape(x.shape)


def flowed(observable: Observable, flow_time: float) -> Observable:
    """The observable at this flow time; the observable itself at 0."""
    return Flowed(observable, flow_time) if flow_time else observable
