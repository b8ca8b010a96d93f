"""Several samplers of one target in turn, each with a given number of updates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.composite import (
    Part,
    are_tuned,
    check_counts,
    findings_of,
    parts_with_findings,
    tuned_parts,
)
from lattice_flows.samplers.info import info_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action

_PROPOSALS = "proposal_log_w"


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
        if any(part.sampler.weighted for part in self.parts):
            raise ValueError("a part whose averages need weights does not preserve the target")
        check_counts(self.parts)

    def init(self, x: Array, streams: Streams) -> MixtureState:
        """The state of chains at x (B, *event)."""
        states = tuple(part.sampler.init(x, split_streams(streams, k)) for k, part in enumerate(self.parts))
        return MixtureState(states[0].x, states)

    def step(self, state: MixtureState, n_updates: int = 1) -> tuple[MixtureState, NamedTuple]:
        """Make n_updates rounds. The info holds that of every part, numbered, see `_info`."""
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

    @property
    def tuned(self) -> bool:
        """Whether every part is tuned."""
        return are_tuned(self.parts)

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
    """`accepted_k`, the accepted fraction of part k in all rounds, and `accepted`, that of all updates that are tested.

    Other fields of a part's info are those of the last round, numbered as well; but for `proposal_log_w`, of all
    proposals in their order.
    """
    columns: dict[str, Array] = {}
    proposals = [info.proposal_log_w for each in rounds for info in each if _PROPOSALS in info._fields]
    for k, info in enumerate(rounds[-1]):
        for name in (name for name in info._fields if name != _PROPOSALS):
            kept = [getattr(each[k], name) for each in (rounds if name == "accepted" else rounds[-1:])]
            columns[f"{name}_{k}"] = np.mean(kept, axis=0)
    tested = [k for k, info in enumerate(rounds[-1]) if "accepted" in info._fields]
    if tested:
        rates = [columns[f"accepted_{k}"] for k in tested]
        columns = {"accepted": np.average(rates, axis=0, weights=[counts[k] for k in tested]), **columns}
    if proposals:
        columns[_PROPOSALS] = np.concatenate(proposals)
    return info_of(columns)
