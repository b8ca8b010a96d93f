"""The end of an ensemble: at its number of configurations, or after its seconds of production."""

import math
from typing import NamedTuple, Protocol

from lattice_flows.card.card import EnsembleTable


class Held(Protocol):
    """What is known of an ensemble's file."""

    @property
    def finished(self) -> bool:
        """Whether all is joined in one file."""

    @property
    def n_configs(self) -> int:
        """Configurations per chain."""

    @property
    def seconds(self) -> float:
        """Seconds of production."""


class Progress(NamedTuple):
    """How much is done, of how much."""

    done: float
    total: float
    unit: str


def is_complete(held: Held, table: EnsembleTable) -> bool:
    """Whether the file holds all that the card asks for."""
    return held.finished and is_at_end(table, held.n_configs, held.seconds)


def is_at_end(table: EnsembleTable, n_configs: int, seconds: float) -> bool:
    """Whether so many configurations per chain are all, or so many seconds."""
    return n_configs >= table.n_configs or seconds_left(table, seconds) <= 0.0


def seconds_left(table: EnsembleTable, seconds: float) -> float:
    """Of the production, after so many; infinity where it is not limited by time."""
    return math.inf if table.max_seconds is None else table.max_seconds - seconds


def progress(table: EnsembleTable, n_configs: int, seconds: float) -> Progress:
    """How far so many configurations per chain have come; in seconds where these are limited."""
    if table.max_seconds is None:
        return Progress(n_configs, table.n_configs, "configurations")
    return Progress(seconds, table.max_seconds, "s")
