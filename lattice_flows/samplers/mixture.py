"""Several samplers of one target in turn, each with a given number of updates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

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
from lattice_flows.samplers.info import info_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action, Shape


class MixtureState(NamedTuple):
    """x (B, *event), and the states of the parts, each with random streams of its own."""

    x: Array
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Mixture(Sampler):
    """The updates of every part in turn, as one update. Each part preserves the target, and so does the whole.

    parts: samplers of this action, of which at least one is ergodic.

    Raises ValueError for parts that do not form a sampler of the target.
    """

    action: Action
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must name at least one sampler")
        if not any(part.sampler.ergodic for part in self.parts):
            raise ValueError("none of the parts reaches every configuration; add hmc, heatbath or metropolis")
        for k, sampler in enumerate(self.inner):
            if sampler.weighted:
                name = type(sampler).__name__
                raise ValueError(f"part {k}, {name}: it does not preserve the target, as its averages need weights")
        check_counts(self.parts)

    @property
    def inner(self) -> tuple[Sampler, ...]:
        """The samplers of the parts."""
        return samplers_of(self.parts)

    @property
    def reversible(self) -> bool:  # type: ignore[override]
        """Reversible parts in an order that is the same from behind: backwards, A then B is B then A."""
        return self.parts == self.parts[::-1] and all(sampler.reversible for sampler in self.inner)

    @property
    def memoryless(self) -> bool:  # type: ignore[override]
        """Where all parts are."""
        return all(sampler.memoryless for sampler in self.inner)

    def reversed(self) -> "Mixture":
        """Every part backwards, the last one first."""
        return replace(self, parts=tuple(part._replace(sampler=part.sampler.reversed()) for part in self.parts[::-1]))

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """Those of all parts, and of the infos of the rounds."""
        return bytes_of_parts(self.parts, n_chains, event, n_updates)

    def init(self, x: Array, streams: Streams) -> MixtureState:
        """The state of chains at x (B, *event)."""
        states = begun_parts(self.parts, x, streams)
        return MixtureState(states[0].x, states)

    def step(self, state: MixtureState, n_updates: int = 1) -> tuple[MixtureState, NamedTuple]:
        """Make n_updates rounds. The info holds that of every part, numbered, see `info_of_parts`."""
        x, states = state.x, list(state.parts)
        infos: list[Any] = []
        for _ in range(n_updates):
            infos.append([])
            for k, (sampler, n) in enumerate(self.parts):
                states[k], info = sampler.step(self._at(k, states[k], x), n)
                x = states[k].x
                infos[-1].append(info)
        return MixtureState(x, tuple(states)), _info(infos, [part.n_updates for part in self.parts])

    def thermalise(self, state: MixtureState, done: float) -> MixtureState:
        """Make one round of the thermalisation of every part."""
        x, states = state.x, list(state.parts)
        for k, (sampler, n) in enumerate(self.parts):
            states[k] = self._at(k, states[k], x)
            for _ in range(n):
                states[k] = sampler.thermalise(states[k], done)
            x = states[k].x
        return MixtureState(x, tuple(states))

    def moved(self, state: MixtureState, x: Array) -> MixtureState:
        """The same chains at x (B, *event)."""
        return state._replace(x=np.array(x, dtype=self.action.space.dtype))

    def _at(self, k: int, state: Any, x: Array) -> Any:
        """The state of part k at x, where the previous part has left the chains."""
        # Moved even where nothing changed: the bits of a chain must not depend on the chains beside it.
        return self.parts[k].sampler.moved(state, x)

    def tune(self, state: MixtureState, n_updates: int, report: Report = silent) -> "Mixture":
        """This sampler with every part tuned by itself."""
        return replace(self, parts=tuned_parts(self.parts, state.parts, n_updates, report))

    def findings(self) -> dict[str, Any]:
        """The findings of the parts."""
        return findings_of(self.parts)

    def with_findings(self, settings: Mapping[str, Any]) -> "Mixture":
        """This sampler with the parts as they were tuned."""
        return replace(self, parts=parts_with_findings(self.parts, settings))


def _info(rounds: list[list[Any]], counts: list[int]) -> NamedTuple:
    """The fields of `info_of_parts`, and `accepted`, the accepted fraction of all updates that are tested."""
    columns = info_of_parts(rounds, range(len(counts)))
    tested = [k for k, info in enumerate(rounds[0]) if "accepted" in info._fields]
    if tested:
        rates = [columns[f"accepted_{k}"] for k in tested]
        columns = {"accepted": np.average(rates, axis=0, weights=[counts[k] for k in tested]), **columns}
    return info_of(columns)
