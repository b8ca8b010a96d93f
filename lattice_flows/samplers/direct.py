"""Independent configurations of solvable theories, as a sampler like the others."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lattice_flows.actions import Action, WilsonU1
from lattice_flows.exact import sample_u1
from lattice_flows.samplers.sampler import Array, Streams


class DirectState(NamedTuple):
    """x (B, 2, L0, L1), and the random streams (B, 2)."""

    x: Array
    streams: Streams


class DirectInfo(NamedTuple):
    """Nothing is tested, so nothing is reported."""


@dataclass(frozen=True)
class Direct:
    """The direct sampler of `lattice_flows.exact` for the 2D U(1) Wilson action.

    Raises ValueError for an action that has none.
    """

    action: Action

    def __post_init__(self) -> None:
        if not isinstance(self.action, WilsonU1):
            raise ValueError(f"there is a direct sampler for u1 only, not for {type(self.action).__name__}")

    def init(self, x: Array, streams: Streams) -> DirectState:
        """x (B, 2, L0, L1) gives the shape; every step replaces it."""
        return DirectState(np.array(x, dtype=np.float64), streams.copy())

    def step(self, state: DirectState, n_updates: int = 1) -> tuple[DirectState, DirectInfo]:
        """A fresh configuration for every chain, n_updates times."""
        assert isinstance(self.action, WilsonU1)
        x, streams = state
        for _ in range(n_updates):
            x, streams = sample_u1(float(self.action.beta), x.shape[2], x.shape[3], streams)
        return DirectState(x, streams), DirectInfo()
