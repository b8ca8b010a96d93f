"""Replica exchange: chains with different targets of one theory, which swap their configurations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.random import split_streams, uniforms
from lattice_flows.samplers.composite import (
    Part,
    begun_parts,
    bytes_of_parts,
    check_counts,
    findings_of,
    info_of_parts,
    parts_with_findings,
    samplers_of,
    tuned_parts,
)
from lattice_flows.samplers.exchange import Trips, acceptance, exchanged, first_trips, swap_gain, travelled, tried_pairs
from lattice_flows.samplers.info import Column, info_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action, Shape


class ExchangeState(NamedTuple):
    """x (B, *event) of rung 0, the states of all rungs, the random streams of the swaps (B, 2), the number of rounds
    made (), and the trips of the replicas."""

    x: Array
    rungs: tuple[Any, ...]
    streams: Streams
    n_rounds: NDArray[np.int64]
    trips: Trips


@dataclass(frozen=True)
class ReplicaExchange(Sampler):
    """The updates of every part, then attempts to swap the configurations of neighbouring parts, as one update.

    A swap has the acceptance min(1, exp(S_r(x_r) + S_s(x_s) - S_r(x_s) - S_s(x_r))), with the current targets of the
    parts, so the chains of every part preserve their target. Even and odd pairs swap in turn
    (arXiv:1905.02939). With HMC as the first part and metadynamics as the second it is parallel-tempered metadynamics
    (arXiv:2307.04742).

    action: the target.
    parts: two or more samplers, in the order of the ladder; the first one has the target, the others need not.

    Raises ValueError for parts that do not form a sampler of the target.
    """

    action: Action
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"parts must name at least two samplers, got {len(self.parts)}")
        if self.parts[0].sampler.weighted:
            raise ValueError("the first of the parts must have the target itself, but its averages need weights")
        if not any(part.sampler.ergodic for part in self.parts):
            raise ValueError("none of the parts reaches every configuration; add hmc, heatbath or metropolis")
        if any(part.sampler.weighted and type(part.sampler).target is Sampler.target for part in self.parts):
            raise ValueError("a part whose averages need weights can only swap if it knows its own target")
        check_counts(self.parts)

    @property
    def inner(self) -> tuple[Sampler, ...]:
        """The samplers of the rungs."""
        return samplers_of(self.parts)

    @cached_property
    def _on_target(self) -> list[int]:
        """The rungs that sample the target of the whole."""
        rungs = enumerate(self.inner)
        return [k for k, rung in rungs if k == 0 or (rung.action == self.action and not rung.weighted)]

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """Those of all parts, and of the infos of the rounds."""
        return bytes_of_parts(self.parts, n_chains, event, n_updates)

    def init(self, x: Array, streams: Streams) -> ExchangeState:
        """The state of chains that have all their replicas at x (B, *event)."""
        rungs = begun_parts(self.parts, x, streams)
        swaps = split_streams(streams, len(rungs))
        return ExchangeState(rungs[0].x, rungs, swaps, np.array(0), first_trips(len(x), len(rungs)))

    def step(self, state: ExchangeState, n_updates: int = 1) -> tuple[ExchangeState, NamedTuple]:
        """Make n_updates rounds.

        The info has `accepted` of the first part, if that has it; `swap_acceptance`, the mean of min(1, exp(...)) over
        the pairs that were tried; `round_trips`, those completed; and the fields of `info_of_parts`.
        """
        rounds, swaps, before = [], [], state.trips.round_trips
        for _ in range(n_updates):
            state, infos = self.update(state)
            state, probabilities = self.swap(state)
            rounds.append(infos)
            swaps.append(probabilities)
        of_parts = info_of_parts(rounds, self._on_target)
        columns: dict[str, Column] = {"accepted": of_parts["accepted_0"]} if "accepted_0" in of_parts else {}
        columns["swap_acceptance"] = np.hstack(swaps).mean(axis=1)
        columns["round_trips"] = state.trips.round_trips - before
        return state, info_of(columns | of_parts)

    def update(self, state: ExchangeState) -> tuple[ExchangeState, list[Any]]:
        """Make the updates of every part, without swaps; returns the state and the infos of the parts."""
        stepped = [part.sampler.step(rung, part.n_updates) for part, rung in zip(self.parts, state.rungs)]
        return _on_rungs(state, tuple(rung for rung, _ in stepped)), [info for _, info in stepped]

    def swap(self, state: ExchangeState) -> tuple[ExchangeState, Array]:
        """Make the swaps of one round; returns the state and acceptance probabilities (B, number of pairs tried)."""
        pairs = tried_pairs(int(state.n_rounds), len(self.parts))
        probabilities = acceptance(np.stack([self._gain(state, k) for k in pairs], axis=1))  # (B, pairs)
        u, streams = uniforms(state.streams, len(pairs))
        rungs, order = list(state.rungs), np.tile(np.arange(len(self.parts)), (len(u), 1))
        for k, swap in zip(pairs, (u < probabilities).T):
            x, y = exchanged(rungs[k].x, rungs[k + 1].x, swap)
            # Moved even where nothing swaps: the bits of a chain must not depend on the chains beside it.
            rungs[k] = self.parts[k].sampler.moved(rungs[k], x)
            rungs[k + 1] = self.parts[k + 1].sampler.moved(rungs[k + 1], y)
            order[swap, k], order[swap, k + 1] = k + 1, k
        trips = travelled(state.trips, order)
        state = state._replace(streams=streams, n_rounds=np.asarray(state.n_rounds + 1), trips=trips)
        return _on_rungs(state, tuple(rungs)), probabilities

    def _gain(self, state: ExchangeState, k: int) -> Array:
        """The gain of swapping rungs k and k + 1, (B,), see `swap_gain`."""
        return swap_gain(self.parts[k].sampler, self.parts[k + 1].sampler, state.rungs[k], state.rungs[k + 1])

    def thermalise(self, state: ExchangeState, done: float) -> ExchangeState:
        """Make one round of the thermalisation of every part."""
        rungs = []
        for (sampler, n), rung in zip(self.parts, state.rungs):
            for _ in range(n):
                rung = sampler.thermalise(rung, done)
            rungs.append(rung)
        return self.swap(_on_rungs(state, tuple(rungs)))[0]

    def moved(self, state: ExchangeState, x: Array) -> ExchangeState:
        """The same chains with the first part at x (B, *event)."""
        return _on_rungs(state, (self.parts[0].sampler.moved(state.rungs[0], x), *state.rungs[1:]))

    def tune(self, state: ExchangeState, n_updates: int, report: Report = silent) -> "ReplicaExchange":
        """This sampler with every part tuned by itself."""
        return replace(self, parts=tuned_parts(self.parts, state.rungs, n_updates, report))

    def findings(self) -> dict[str, Any]:
        """The findings of the parts."""
        return findings_of(self.parts)

    def with_findings(self, settings: Mapping[str, Any]) -> "ReplicaExchange":
        """This sampler with the parts as they were tuned."""
        return replace(self, parts=parts_with_findings(self.parts, settings))


def _on_rungs(state: ExchangeState, rungs: tuple[Any, ...]) -> ExchangeState:
    return state._replace(x=rungs[0].x, rungs=rungs)
