"""A random walk with a Metropolis test, on any space."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from lattice_flows.kernels.random import uniforms
from lattice_flows.samplers.integrators import per_chain
from lattice_flows.samplers.local import AcceptInfo, require_width
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tuning import tuned_width
from lattice_flows.theories.action import Action, Field

_WIDEST_OF_INTEGERS = 0.5  # the share of them that tune lets change


class WalkState(NamedTuple):
    """x (B, *event), its action (B,), and the random streams (B, 2)."""

    x: Field
    action: Array
    streams: Streams


@dataclass(frozen=True)
class RandomWalk(Sampler):
    """A change of all variables at once, see `Space.perturb`, with a Metropolis test: for a few variables.

    On a lattice the width that is accepted falls like 1 / sqrt(V), and sweeps (metropolis) or trajectories (hmc) are
    better.

    width: the size of a change, in the units of the variables, at most `Space.widest`; a probability where they are
    integers. None lets `tune` determine it.
    target_acceptance: the acceptance rate that `tune` aims at.

    Raises ValueError for values out of range.
    """

    action: Action
    width: float | None = None
    target_acceptance: float = 0.4
    reversible: ClassVar[bool] = True  # a Metropolis test of a change that is as likely as its opposite
    memoryless: ClassVar[bool] = True
    tunable: ClassVar[tuple[str, ...]] = ("width",)

    def __post_init__(self) -> None:
        if self.width is not None and not 0 < self.width < float("inf"):
            raise ValueError(f"width must be > 0, got {self.width}")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance must be between 0 and 1, got {self.target_acceptance}")

    def init(self, x: Field, streams: Streams) -> WalkState:
        """The state of chains at x (B, *event). Raises ValueError for a width that is too large for the space."""
        require_width(self.width, self.action.space.widest, self.action.space)
        x = np.array(x, dtype=self.action.space.dtype, order="C")
        return WalkState(x, self.action.evaluate(x), streams.copy())

    def step(self, state: WalkState, n_updates: int = 1) -> tuple[WalkState, AcceptInfo]:
        """Try n_updates changes of every chain. Raises ValueError if the width was neither given nor tuned."""
        if self.width is None:
            raise ValueError("width is not set: give it, or call tune() first")
        x, action, streams = state
        accepted = np.zeros(len(x))
        for _ in range(n_updates):
            trial, streams = self.action.space.perturb(x, streams, self.width)
            u, streams = uniforms(streams, 1)
            new = self.action.evaluate(trial)
            with np.errstate(invalid="ignore"):  # from infinity to infinity nothing is accepted
                accept = np.log(u[:, 0]) < action - new
            x = np.where(per_chain(accept, x.ndim), trial, x)
            action = np.where(accept, new, action)
            accepted += accept
        return WalkState(x, action, streams), AcceptInfo(accepted / n_updates)

    def tune(self, state: WalkState, n_updates: int, report: Report = silent) -> "RandomWalk":
        """This sampler with the width that reaches the target acceptance."""
        if self.tuned:
            return self

        def step(state: WalkState, width: float, n: int) -> tuple[WalkState, Array]:
            state, info = replace(self, width=width).step(state, n)
            return state, info.accepted

        # Integers that all change at once may be as likely as before, and then nothing else is ever tried.
        widest = self.action.space.widest if self.action.space.tangent_shape is not None else _WIDEST_OF_INTEGERS
        return replace(self, width=tuned_width(step, state, widest, self.target_acceptance, n_updates, report))
