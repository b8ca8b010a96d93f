"""Independent configurations of solvable theories, with the interface of a sampler."""

from dataclasses import dataclass
from typing import ClassVar

from lattice_flows.samplers.local import ChainState, NoInfo, chain_state
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action


@dataclass(frozen=True)
class Direct(Sampler):
    """The direct sampler of a solvable theory: 2D U(1), or a free scalar field.

    Raises ValueError for an action without a direct sampler.
    """

    action: Action
    reversible: ClassVar[bool] = True  # independent configurations
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.action.direct_sampler() is None:
            raise ValueError(f"there is no direct sampler for {self.action}; use a Markov chain")

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state before the first draw; x (B, *event) only gives the shape, as every step replaces it."""
        return chain_state(self.action, x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, NoInfo]:
        """Draw a fresh configuration for every chain, n_updates times."""
        direct = self.action.direct_sampler()
        assert direct is not None
        x, streams = state
        for _ in range(n_updates):
            x, streams = direct.draw(x.shape[1:], streams)
        return ChainState(x, streams), NoInfo()
