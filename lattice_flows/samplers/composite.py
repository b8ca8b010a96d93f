"""Samplers as parts of others: the common code of mixture and replica exchange."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.info import PROPOSALS, over_steps, tells_of_updates
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams
from lattice_flows.theories.action import Shape


class Part(NamedTuple):
    """A sampler, and the number of its updates in one update of the whole."""

    sampler: Sampler
    n_updates: int = 1


Parts = tuple[Part, ...]


def check_counts(parts: Parts) -> None:
    """Raise ValueError for a part without updates."""
    if any(part.n_updates < 1 for part in parts):
        raise ValueError("n_updates of a part must be >= 1")


def samplers_of(parts: Parts) -> tuple[Sampler, ...]:
    """The samplers of the parts."""
    return tuple(part.sampler for part in parts)


def bytes_of_parts(parts: Parts, n_chains: int, event: Shape, n_updates: int) -> int:
    """What `Sampler.least_bytes` tells of a sampler made of these parts: each keeps its states, and its infos of all
    rounds, of at least one number for each chain."""
    of_parts = sum(sampler.least_bytes(n_chains, event, n_updates * n) for sampler, n in parts)
    return of_parts + 8 * n_chains * n_updates * len(parts)


def begun_parts(parts: Parts, x: Array, streams: Streams) -> tuple[Any, ...]:
    """The states of all parts at x (B, *event), each with random streams of its own.

    They are moved there, as they will be whenever another part has moved the chains: a sampler may keep another state
    then, and a stored state is restored into the one that the chains began with.
    """
    begun = (part.sampler.init(x, split_streams(streams, k)) for k, part in enumerate(parts))
    return tuple(part.sampler.moved(state, x) for part, state in zip(parts, begun))


def info_of_parts(rounds: Sequence[Sequence[Any]], on_target: Collection[int]) -> dict[str, Array]:
    """The infos of all parts over all rounds, rounds[i][k] that of part k in round i, as fields of one.

    NAME_k is what `over_steps` makes of the field NAME of part k. PROPOSALS holds all proposals in their order.

    on_target: the parts that sample the target of the whole. Of the others only what tells of their updates is kept.
    """
    columns: dict[str, Array] = {}
    for k, info in enumerate(rounds[0]):
        for name in info._fields:
            if name != PROPOSALS and (k in on_target or tells_of_updates(name)):
                values = over_steps(name, [getattr(each[k], name) for each in rounds])
                columns[f"{name}_{k}"] = np.asarray(
                    values, dtype=np.float64
                )  # also counts, as files of before have them
    found = [each[k] for each in rounds for k in on_target]
    if proposals := [getattr(info, PROPOSALS) for info in found if PROPOSALS in info._fields]:
        columns[PROPOSALS] = np.concatenate(proposals)
    return columns


def tuned_parts(parts: Parts, states: Sequence[Any], n_updates: int, report: Report) -> Parts:
    """The parts, each tuned by itself from its state."""
    return tuple(
        part._replace(sampler=part.sampler.tune(state, n_updates, report)) for part, state in zip(parts, states)
    )


def findings_of(parts: Parts) -> dict[str, Any]:
    """The findings of tuning for each part."""
    return {"parts": [part.sampler.findings() for part in parts]}


def parts_with_findings(parts: Parts, settings: Mapping[str, Any]) -> Parts:
    """The parts as they were tuned, from the stored settings."""
    return tuple(
        part._replace(sampler=part.sampler.with_findings(stored)) for part, stored in zip(parts, settings["parts"])
    )
