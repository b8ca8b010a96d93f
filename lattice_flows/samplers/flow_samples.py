"""Independent samples of a flow with their weights, for reweighting instead of a Markov chain."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from lattice_flows.flows import Proposer
from lattice_flows.samplers.proposals import (
    GeneratorState,
    Proposals,
    bytes_of_batch,
    check_batch_size,
    no_proposals,
    propose,
    seeded_generator,
    taken,
)
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action, Shape


class FlowSamplesState(NamedTuple):
    """x (B, *event), the state of the flow's torch generator, and the unused samples of the last batch."""

    x: Array
    generator: GeneratorState
    ahead: Proposals


class FlowSamplesInfo(NamedTuple):
    """log_w of the configurations (B,), and of all samples of the step (n_updates, B)."""

    log_w: Array
    proposal_log_w: Array


@dataclass(frozen=True)
class FlowSamples(Sampler):
    """Fresh samples x ~ q with log_w = -S(x) - log q(x); averages are <w O>/<w>.

    Raises ValueError for a batch_size out of range.
    """

    action: Action
    flow: Proposer
    batch_size: int = 1024
    weighted: ClassVar[bool] = True
    reversible: ClassVar[bool] = True  # independent samples of q

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, a batch of proposals, and their weights in a step."""
        chains = super().least_bytes(n_chains, event, n_updates)
        return chains + bytes_of_batch(self.batch_size, n_chains, event) + 8 * n_updates * n_chains

    def init(self, x: Array, streams: Streams) -> FlowSamplesState:
        """The state before the first draw; x (B, *event) only gives the shape, as every step replaces it."""
        x = np.array(x, dtype=np.float64)
        return FlowSamplesState(x, seeded_generator(self.flow, streams), no_proposals(x))

    def moved(self, state: FlowSamplesState, x: Array) -> FlowSamplesState:
        """The state with x, which the next step replaces."""
        return state._replace(x=x)

    def step(self, state: FlowSamplesState, n_updates: int = 1) -> tuple[FlowSamplesState, FlowSamplesInfo]:
        """Draw n_updates fresh samples for every chain, of which the last one is kept."""
        generator = state.generator

        def more() -> Proposals:
            nonlocal generator
            batch, generator = propose(self.flow, self.action, generator, self.batch_size, state.x.shape)
            return batch

        (x, log_w), ahead = taken(state.ahead, n_updates, more)
        return FlowSamplesState(x, generator, ahead), FlowSamplesInfo(log_w[-1], log_w)
