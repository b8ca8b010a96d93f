"""The instanton hop of 2D U(1): a step from one topological sector to the next."""

from dataclasses import dataclass
from typing import ClassVar

from lattice_flows.samplers.local import AcceptInfo, ChainState, chain_state
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.action import WilsonU1
from lattice_flows.theories.u1.kernels.instanton import instanton
from lattice_flows.theories.u1_improved.action import ImprovedU1


@dataclass(frozen=True)
class Instanton(Sampler):
    """Adds or takes away a uniform flux of 2 pi, every plaquette by 2 pi / V, with a Metropolis test.

    The charge is measured anew: it need not change by exactly one.

    action: that of 2D U(1), with or without rectangles.

    Raises ValueError for another action.
    """

    action: Action
    ergodic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True  # a Metropolis test of a change that is as likely as its opposite
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.action, (WilsonU1, ImprovedU1)):
            raise ValueError(f"instantons are those of u1 and u1_improved, not of {type(self.action).__name__}")

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state of chains at x (B, 2, L0, L1)."""
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, AcceptInfo]:
        """n_updates hops."""
        if isinstance(self.action, ImprovedU1):
            plain, rectangle = self.action.loop_couplings
        else:
            assert isinstance(self.action, WilsonU1)
            plain, rectangle = float(self.action.beta), 0.0
        x, streams, accepted = instanton(state.x, state.streams, plain, rectangle, n_updates)
        return ChainState(x, streams), AcceptInfo(accepted)
