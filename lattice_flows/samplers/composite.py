"""Samplers as parts of others: the common code of mixture and replica exchange."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lattice_flows.samplers.sampler import Report, Sampler


class Part(NamedTuple):
    """A sampler, and the number of its updates in one update of the whole."""

    sampler: Sampler
    n_updates: int = 1


Parts = tuple[Part, ...]


def check_counts(parts: Parts) -> None:
    """Raise ValueError for a part without updates."""
    if any(part.n_updates < 1 for part in parts):
        raise ValueError("n_updates of a part must be >= 1")


def are_tuned(parts: Parts) -> bool:
    """Whether every part is tuned."""
    return all(part.sampler.tuned for part in parts)


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
