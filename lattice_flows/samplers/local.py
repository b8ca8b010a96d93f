"""Local updates of single variables: Metropolis, heat bath, overrelaxation. An update is a sweep over the lattice."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lattice_flows.lattice import Space
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tuning import tuned_width
from lattice_flows.theories.action import Action, Field
from lattice_flows.theories.combined import Combined


class ChainState(NamedTuple):
    """x (B, *event), and the random streams (B, 2)."""

    x: Field
    streams: Streams


class AcceptInfo(NamedTuple):
    """The accepted fraction of the updates, (B,)."""

    accepted: Array


class NoInfo(NamedTuple):
    """An empty info: nothing is tested, so nothing is reported."""


def chain_state(action: Action, x: Field, streams: Streams) -> ChainState:
    """The state of chains at x (B, *event), with copies of both."""
    return ChainState(np.array(x, dtype=action.space.dtype, order="C"), streams.copy())


def require_width(width: float | None, widest: float, space: Space) -> None:
    """Raise ValueError for a width beyond the widest of the space."""
    if width is not None and width > widest:
        raise ValueError(f"width must be at most {widest:.6g} for {space}, got {width}")


def _require_sweeps(action: Action) -> None:
    if isinstance(action, Combined):
        one, *_ = (type(term).__name__ for _, term in action.terms)
        raise ValueError(
            f"there are no local updates of a sum of actions, which {one}.toward() and scaled() make where these are "
            "not of its own class; use hmc"
        )
    if type(action).local_updates is Action.local_updates:
        raise ValueError(f"there are no local updates of {type(action).__name__}; use hmc")


def _require_a_way_back(action: Action) -> None:
    if "backwards" not in inspect.signature(action.local_updates).parameters:
        name = type(action).__name__
        raise ValueError(f"the sweeps of {name} do not know their way back: {name}.local_updates takes no `backwards`")


def _update(action: Action, event: tuple[int, ...], kind: str, backwards: bool) -> Callable[..., Any]:
    """The update of this kind. Raises ValueError if the action has none for configurations of this shape."""
    update = getattr(action.local_updates(event, True) if backwards else action.local_updates(event), kind)
    if update is None:
        raise ValueError(f"{type(action).__name__} has no {kind} of configurations of shape {list(event)}")
    return update


@dataclass(frozen=True)
class Metropolis(Sampler):
    """A change of each variable in turn, uniform in (-width, width), with a Metropolis test.

    Integers try another state instead.

    width: half-width of the interval of changes, in the field's units, at most `Space.widest`; None lets `tune`
    determine it. Integers have none.
    target_acceptance: the acceptance rate that `tune` aims at.
    backwards: through the variables in the opposite order, as in the other sweeps here; see `reversed`.

    Raises ValueError for values out of range and for an action without local updates.
    """

    action: Action
    width: float | None = None
    target_acceptance: float = 0.5
    backwards: bool = False
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_sweeps(self.action)
        if self.width is not None and self._jumps:
            raise ValueError(f"width: a change of {self.action.space} is to another one; leave it out")
        if self.width is not None and not 0 < self.width < float("inf"):
            raise ValueError(f"width must be > 0, got {self.width}")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance must be between 0 and 1, got {self.target_acceptance}")

    @property
    def _jumps(self) -> bool:
        """Whether the variables are integers, whose changes have no width."""
        return self.action.space.tangent_shape is None

    def reversed(self) -> "Metropolis":
        """The sweeps in the opposite order. Raises ValueError where the action does not know them."""
        _require_a_way_back(self.action)
        return replace(self, backwards=not self.backwards)

    def init(self, x: Field, streams: Streams) -> ChainState:
        """The state of chains at x (B, *event).

        Raises ValueError where the action has no such update, and for a width that is too large for it.
        """
        _update(self.action, x.shape[1:], "jumps" if self._jumps else "metropolis", self.backwards)
        require_width(self.width, self.action.space.widest, self.action.space)
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """Make n_updates sweeps. Raises ValueError if the width was neither given nor tuned."""
        if self._jumps:
            x, streams, accepted = _update(self.action, state.x.shape[1:], "jumps", self.backwards)(*state, n_updates)
            return ChainState(x, streams), AcceptInfo(accepted)
        if self.width is None:
            raise ValueError("width is not set: give it, or call tune() first")
        update = _update(self.action, state.x.shape[1:], "metropolis", self.backwards)
        x, streams, accepted = update(state.x, state.streams, self.width, n_updates)
        return ChainState(x, streams), AcceptInfo(accepted)

    @property
    def tunable(self) -> tuple[str, ...]:
        """The width, where there is one."""
        return () if self._jumps else ("width",)

    def tune(self, state: ChainState, n_updates: int, report: Report = silent) -> "Metropolis":
        """This sampler with the width that reaches the target acceptance."""
        if self.tuned:
            return self

        def step(state: ChainState, width: float, n: int) -> tuple[ChainState, Array]:
            state, info = replace(self, width=width).step(state, n)
            return state, info.accepted

        widest = self.action.space.widest
        return replace(self, width=tuned_width(step, state, widest, self.target_acceptance, n_updates, report))


@dataclass(frozen=True)
class HeatBath(Sampler):
    """A new value of each variable in turn, drawn from its distribution at fixed neighbours.

    Raises ValueError for an action without local updates.
    """

    action: Action
    backwards: bool = False
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_sweeps(self.action)

    def reversed(self) -> "HeatBath":
        """The sweeps in the opposite order. Raises ValueError where the action does not know them."""
        _require_a_way_back(self.action)
        return replace(self, backwards=not self.backwards)

    def init(self, x: Field, streams: Streams) -> ChainState:
        """The state of chains at x (B, *event). Raises ValueError where the action has no such update."""
        _update(self.action, x.shape[1:], "heatbath", self.backwards)
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, NoInfo]:
        """Make n_updates sweeps."""
        update = _update(self.action, state.x.shape[1:], "heatbath", self.backwards)
        x, streams = update(state.x, state.streams, n_updates)
        return ChainState(x, streams), NoInfo()


@dataclass(frozen=True)
class Overrelaxation(Sampler):
    """A reflection of each variable in turn about the centre of its distribution at fixed neighbours.

    The action of a gauge field does not change; that of a scalar field changes by the quartic term, which is tested.

    Raises ValueError for an action without local updates.
    """

    action: Action
    backwards: bool = False
    ergodic: ClassVar[bool] = False
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_sweeps(self.action)

    def reversed(self) -> "Overrelaxation":
        """The sweeps in the opposite order. Raises ValueError where the action does not know them."""
        _require_a_way_back(self.action)
        return replace(self, backwards=not self.backwards)

    def init(self, x: Field, streams: Streams) -> ChainState:
        """The state of chains at x (B, *event). Raises ValueError where the action has no such update."""
        _update(self.action, x.shape[1:], "overrelaxation", self.backwards)
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """Make n_updates sweeps."""
        update = _update(self.action, state.x.shape[1:], "overrelaxation", self.backwards)
        x, streams, accepted = update(state.x, state.streams, n_updates)
        return ChainState(x, streams), AcceptInfo(accepted)
