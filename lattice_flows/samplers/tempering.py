"""Replica exchange over a ladder of one coupling (Hukushima and Nemoto, cond-mat/9512035), with a tuned ladder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.composite import Part
from lattice_flows.samplers.exchange import tried_pairs
from lattice_flows.samplers.replica_exchange import ExchangeState, ReplicaExchange
from lattice_flows.samplers.sampler import Array, Report, Sampler, SamplerFactory, Streams, silent
from lattice_flows.theories.action import Action, Shape

_ROUNDS = 5  # of pilots, each twice as long as the one before
_FEWEST_PILOTS = 8
_MOST_RUNGS = 1000
_MOST_BETWEEN = 10**4  # they are one compiled call, in which no signal is heard
_LEAST_REJECTION = 1e-3  # keeps the barrier rising where no swap was refused


@dataclass(frozen=True)
class Tempering(Sampler):
    """Replicas of the theory at several values of one coupling, which swap their configurations.

    action: the target, which is rung 0.
    replica: the sampler of every rung, ergodic and without weights.
    last: the coupling of the last rung, where the chains move freely; may be left out if `values` are given.
    coupling: the action's field that changes along the ladder; where there is no beta but one other, that one.
    n_replicas: number of rungs of a ladder that `tune` determines.
    values: the couplings of all rungs, the target's first; None lets `tune` place them at equal swap acceptance.
    n_between_swaps: number of updates of every rung between swaps.
    rungs: the samplers of a tuned ladder.

    Raises ValueError for a ladder that does not rise or fall from the target's coupling, and for an unfit replica.
    """

    action: Action
    replica: SamplerFactory
    last: float | None = None
    coupling: str = "beta"
    n_replicas: int = 8
    values: tuple[float, ...] | None = None
    n_between_swaps: int = 1
    rungs: tuple[Sampler, ...] = ()

    def __post_init__(self) -> None:
        known = [field.name for field in fields(self.action)]  # type: ignore[arg-type]
        if self._coupling not in known:
            raise ValueError(f"coupling must be one of {', '.join(known)}, got {self.coupling!r}")
        if self.values is None:
            self._check_ends()
        else:
            self._check_values(self.values)
        if not 1 <= self.n_between_swaps <= _MOST_BETWEEN:
            raise ValueError(f"n_between_swaps must be between 1 and {_MOST_BETWEEN}, got {self.n_between_swaps}")
        if self.rungs and len(self.rungs) != len(self.ladder):
            raise ValueError(f"there must be as many rungs as values, {len(self.ladder)}, got {len(self.rungs)}")
        self.exchange  # noqa: B018  (builds the rungs and checks them)

    def _check_ends(self) -> None:
        if self.last is None:
            raise ValueError(f"give last, the {self._coupling} of the last rung, or the values of all rungs")
        if not math.isfinite(self.last) or self.last == self._first:
            raise ValueError(f"last must be a number other than the target's {self._coupling}, got {self.last}")
        if not 2 <= self.n_replicas <= _MOST_RUNGS:
            raise ValueError(f"n_replicas must be between 2 and {_MOST_RUNGS}, got {self.n_replicas}")

    def _check_values(self, values: tuple[float, ...]) -> None:
        if not 2 <= len(values) <= _MOST_RUNGS:
            raise ValueError(f"values must hold 2 to {_MOST_RUNGS} couplings, got {len(values)}")
        if values[0] != self._first:
            raise ValueError(f"values must begin with the target's {self._coupling} = {self._first}, got {values[0]}")
        if self.last is not None and values[-1] != self.last:
            raise ValueError(f"values must end with last = {self.last}, got {values[-1]}")
        steps = np.diff(values)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError(f"values must rise or fall monotonically, got {list(values)}")

    @property
    def _coupling(self) -> str:
        known = [field.name for field in fields(self.action)]  # type: ignore[arg-type]
        return known[0] if self.coupling == "beta" and len(known) == 1 else self.coupling

    @property
    def _first(self) -> float:
        return float(getattr(self.action, self._coupling))

    @cached_property
    def ladder(self) -> tuple[float, ...]:
        """The couplings of the rungs: `values`, or the starting point of the search for them."""
        if self.values is not None:
            return self.values
        assert self.last is not None
        spaced = np.geomspace if self._first * self.last > 0 else np.linspace
        inner = spaced(self._first, self.last, self.n_replicas)[1:-1]
        return (self._first, *map(float, inner), float(self.last))

    @cached_property
    def exchange(self) -> ReplicaExchange:
        """The replica exchange of the rungs, the first of which is the target."""
        actions = [replace(self.action, **{self._coupling: value}) for value in self.ladder]  # type: ignore[type-var]
        rungs = self.rungs or [self.replica(action) for action in actions]
        if any(rung.weighted or not rung.ergodic for rung in rungs):
            raise ValueError("replica must reach every configuration and need no weights, as hmc does")
        return ReplicaExchange(self.action, tuple(Part(rung, self.n_between_swaps) for rung in rungs))

    @property
    def inner(self) -> tuple[Sampler, ...]:
        """The samplers of the rungs."""
        return self.exchange.inner

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """Those of all rungs."""
        return self.exchange.least_bytes(n_chains, event, n_updates)

    def init(self, x: Array, streams: Streams) -> ExchangeState:
        """The state of chains that have all their replicas at x (B, *event)."""
        return self.exchange.init(x, streams)

    def step(self, state: ExchangeState, n_updates: int = 1) -> tuple[ExchangeState, NamedTuple]:
        """Make n_updates times n_between_swaps updates of every rung, then swaps of neighbours, see `ReplicaExchange`.

        Raises ValueError if the values were neither given nor tuned.
        """
        if self.values is None:
            raise ValueError("the ladder is not set: give values, or call tune() first")
        return self.exchange.step(state, n_updates)

    def thermalise(self, state: ExchangeState, done: float) -> ExchangeState:
        """Make one update of the thermalisation of every rung."""
        return self.exchange.thermalise(state, done)

    def moved(self, state: ExchangeState, x: Array) -> ExchangeState:
        """The same chains with rung 0 at x (B, *event)."""
        return self.exchange.moved(state, x)

    @property
    def tuned(self) -> bool:
        """Whether the ladder and all its rungs are tuned."""
        return self.values is not None and super().tuned

    def tune(self, state: ExchangeState, n_updates: int, report: Report = silent) -> "Tempering":
        """This sampler with its ladder and rungs determined, the ladder in about 2 n_updates updates.

        Each round measures the rejection r of the neighbours' swaps, takes the sum of r along the ladder as the barrier
        Lambda(coupling), interpolates it monotonically, and places the rungs at equal barrier (arXiv:1905.02939,
        section 5): then all neighbours swap equally often. If hardly any swap is accepted, there is nothing to
        measure: ask for more replicas.
        """
        if self.tuned:
            return self
        sampler = self
        if self.values is None:
            for k in range(_ROUNDS):
                n = max(_FEWEST_PILOTS, n_updates * 2**k // 2 ** (_ROUNDS - 1))
                sampler, state = sampler._improved(state, n, report)
        return sampler._with_tuned_rungs(state, n_updates, report)

    def _improved(self, state: ExchangeState, n: int, report: Report) -> tuple["Tempering", ExchangeState]:
        """A sampler with a better ladder and untuned rungs, and the chains on it, after n pilot updates."""
        exchange = self._with_tuned_rungs(state, n, report).exchange
        acceptances: list[list[Array]] = [[] for _ in self.ladder[1:]]
        for update in range(n):
            if update < n // 2:
                state = exchange.thermalise(state, update / n)
            else:
                pairs = tried_pairs(int(state.n_rounds), len(self.ladder))
                state, acceptance = exchange.swap(exchange.update(state)[0])
                for column, k in enumerate(pairs):
                    acceptances[k].append(acceptance[:, column])
            report(f"ladder of {len(self.ladder)} rungs")
        rejections = [1.0 - float(np.mean(of_pair)) for of_pair in acceptances]
        sampler = replace(self, values=at_equal_barrier(self.ladder, rejections), rungs=())
        return sampler, sampler._placed(state, self.ladder)

    def _placed(self, state: ExchangeState, ladder: Sequence[float]) -> ExchangeState:
        """Fresh chains on this ladder; each rung starts from the nearest one of the other ladder."""
        fresh = self.init(state.x, split_streams(state.streams, 0))
        nearest = [int(np.argmin(np.abs(np.subtract(ladder, value)))) for value in self.ladder]
        rungs = tuple(
            part.sampler.moved(rung, state.rungs[k].x)
            for part, rung, k in zip(self.exchange.parts, fresh.rungs, nearest)
        )
        return fresh._replace(rungs=rungs)

    def _with_tuned_rungs(self, state: ExchangeState, n_updates: int, report: Report) -> "Tempering":
        exchange = self.exchange.tune(state, n_updates, report)
        return replace(self, values=self.ladder, rungs=tuple(part.sampler for part in exchange.parts))

    def findings(self) -> dict[str, Any]:
        """The values of the ladder, and the findings of the rungs."""
        rungs = self.exchange.inner
        return {
            "values": [float(value) for value in self.ladder],
            "rungs": [_found(rung.findings(), self.replica(rung.action)) for rung in rungs],
        }

    def with_findings(self, settings: Mapping[str, Any]) -> "Tempering":
        """This sampler with the stored values and rungs."""
        ladder = replace(self, values=tuple(settings["values"]), rungs=())
        rungs = [part.sampler.with_findings(stored) for part, stored in zip(ladder.exchange.parts, settings["rungs"])]
        return replace(ladder, rungs=tuple(rungs))


def _found(findings: dict[str, Any], given: Sampler) -> Any:
    """The findings of a rung without those that were once no findings, where the replica gives them: files of before
    lack them."""
    later = {key for one in given.walk() for key in one.changed}

    def left(found: Any, known: Any) -> Any:
        if isinstance(found, Mapping):
            kept = {key for key in found if key not in later or known[key] is None}
            return {key: left(value, known[key]) for key, value in found.items() if key in kept}
        if isinstance(found, (list, tuple)) and isinstance(known, (list, tuple)):
            return [left(*both) for both in zip(found, known)]
        return found

    return left(findings, given.findings())


def at_equal_barrier(values: Sequence[float], rejections: Sequence[float]) -> tuple[float, ...]:
    """The same number of couplings between the same ends, spaced so that the barrier between neighbours is equal.

    rejections: rates for the swaps between neighbours of `values`; their sum up to a rung is the barrier there.
    """
    barrier = np.concatenate([[0.0], np.cumsum(np.maximum(rejections, _LEAST_REJECTION))])
    equal = np.linspace(0.0, barrier[-1], len(values))[1:-1]
    inner = PchipInterpolator(barrier, values)(equal)
    return (float(values[0]), *map(float, inner), float(values[-1]))
