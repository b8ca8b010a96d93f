"""HMC with winding steps (arXiv:2106.14234): trajectories move the links, winding steps move the charge of 2D U(1)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lattice_flows.later_keys import Changed
from lattice_flows.samplers.hmc import HMC, HMCState
from lattice_flows.samplers.lengths import settle_length
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.kernels import winding as winding_u1


class WindingInfo(NamedTuple):
    """The accepted fraction of the trajectories, delta_h of the last one, and the accepted fraction of the winding
    steps, each (B,)."""

    accepted: Array
    delta_h: Array
    winding_accepted: Array


@dataclass(frozen=True)
class WindingHMC(Sampler):
    """An update is a trajectory of HMC, then n_windings winding steps, each with a Metropolis test.

    A winding step turns the links in a square at a random place so that the charge changes by one, mostly. Each of the
    two keeps the target, so both do.

    action: that of 2D U(1).
    trajectory_length, n_md_steps, target_acceptance, integrator, jitter: as for HMC.
    size: plaquettes along a side of the square, 1 to min(L0, L1) - 1; None takes min(L0, L1) - 2, which is accepted
    most: the price falls like 1/size, and the largest square meets one row of plaquettes from both of its sides.
    n_windings: steps after each trajectory. Ten cost a quarter of a trajectory on 16 x 16 and leave tau_int of Q^2 at
    0.5 to 0.6 of an update (beta = 6 ... 10); one leaves 4.

    Raises ValueError for values out of range, an action other than that of 2D U(1), and, when chains begin, for a size
    that does not fit the lattice.
    """

    action: Action
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    size: int | None = None
    n_windings: int = 10
    jitter: float = 0.5
    memoryless: ClassVar[bool] = True
    tunable: ClassVar[tuple[str, ...]] = (
        "trajectory_length",
        "n_md_steps",
    )
    added: ClassVar[Mapping[str, Any]] = {"jitter": 0.0}
    changed: ClassVar[Mapping[str, Changed]] = HMC.changed

    def __post_init__(self) -> None:
        settle_length(self)
        if not isinstance(self.action, WilsonU1):
            raise ValueError(f"winding steps are those of u1, not of {type(self.action).__name__}")
        self._hmc.__post_init__()
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be >= 1, got {self.size}")
        if not 1 <= self.n_windings <= 10**6:
            raise ValueError(f"n_windings must be between 1 and 1000000, got {self.n_windings}")

    @cached_property
    def _hmc(self) -> HMC:
        settings = self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator
        return HMC(self.action, *settings, jitter=self.jitter)

    def init(self, x: Array, streams: Streams) -> HMCState:
        """The state of chains at x (B, 2, L0, L1)."""
        self._size(x.shape)
        return self._hmc.init(x, streams)

    def step(self, state: HMCState, n_updates: int = 1) -> tuple[HMCState, WindingInfo]:
        """n_updates trajectories of every chain, each with its winding steps.

        Raises ValueError when n_md_steps was neither given nor tuned.
        """
        accepted, winding_accepted = np.zeros(len(state.x)), np.zeros(len(state.x))
        for _ in range(n_updates):
            state, info = self._hmc.step(state)
            state, wound = self._wind(state)
            accepted += info.accepted
            winding_accepted += wound
        return state, WindingInfo(accepted / n_updates, info.delta_h, winding_accepted / n_updates)

    def thermalise(self, state: HMCState, done: float) -> HMCState:
        """One update, the trajectory as HMC thermalises."""
        return self._wind(self._hmc.thermalise(state, done))[0]

    def _wind(self, state: HMCState) -> tuple[HMCState, Array]:
        assert isinstance(self.action, WilsonU1)
        x, streams, accepted = winding_u1.winding(
            state.x, state.streams, float(self.action.beta), self._size(state.x.shape), self.n_windings
        )
        return HMCState(x, self.action.evaluate(x), streams), accepted

    def _size(self, shape: tuple[int, ...]) -> int:
        if len(shape) != 4 or shape[1] != 2:
            raise ValueError(f"winding steps are those of two dimensions, got configurations of {list(shape[1:])}")
        largest = min(shape[2:]) - 1
        size = max(1, largest - 1) if self.size is None else self.size
        if size > largest:
            raise ValueError(f"size must be at most {largest} on a lattice of {list(shape[2:])}, got {size}")
        return size

    def tune(self, state: HMCState, n_updates: int, report: Report = silent) -> "WindingHMC":
        """This sampler with the trajectories that HMC finds."""
        return replace(self, **self._hmc.tune(state, n_updates, report).findings())
