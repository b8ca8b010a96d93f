"""Batches of fresh flow samples with their weights."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.flows import Flow
from lattice_flows.samplers.sampler import Array, Streams

GeneratorState = NDArray[np.uint8]


class Proposals(NamedTuple):
    """x (m, B, *event) and log_w (m, B): m samples for each of B chains."""

    x: Array
    log_w: Array


def device_of(flow: Flow) -> torch.device:
    """Where the flow computes."""
    return next(flow.parameters(), torch.empty(0)).device


def seeded_generator(flow: Flow, streams: Streams) -> GeneratorState:
    """The state of a torch generator whose seed comes from the keys of all chains."""
    key = np.random.SeedSequence(streams[:, 0].tolist()).generate_state(1, np.uint64)[0]
    return torch.Generator(device_of(flow)).manual_seed(int(key) >> 1).get_state().numpy()


def propose(
    flow: Flow, action: Action, generator: GeneratorState, batch_size: int, shape: tuple[int, ...]
) -> tuple[Proposals, GeneratorState]:
    """batch_size samples, rounded up to equal shares of the chains, for configurations of shape (B, *event)."""
    n_rows = -(-batch_size // shape[0])
    source = torch.Generator(device_of(flow))
    source.set_state(torch.from_numpy(generator))
    with torch.no_grad():
        x, log_q = flow.sample(n_rows * shape[0], source)
        log_w = -action(x) - log_q.double()
    batch = Proposals(x.cpu().numpy().reshape(n_rows, *shape), log_w.cpu().numpy().reshape(n_rows, shape[0]))
    return batch, source.get_state().numpy()
