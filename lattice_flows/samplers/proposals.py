"""Batches of fresh flow samples with their weights."""

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.flows import Proposer
from lattice_flows.samplers.sampler import Array, Streams
from lattice_flows.theories.action import Action, Shape

# Numbers of the fields that are made at a time.
_ON_CPU = 2**18  # 2 MiB: larger ones leave a processor's caches, at up to three times the cost
_ON_GPU = 2**22  # 32 MiB keep a GPU busy; a flow holds up to about a hundred times that in between
_LARGEST_BATCH = 10**7

GeneratorState = NDArray[np.uint8]


class Proposals(NamedTuple):
    """x (m, B, *event) and log_w (m, B): m samples for each of B chains."""

    x: Array
    log_w: Array


def no_proposals(x: NDArray[Any]) -> Proposals:
    """What waits for chains at x (B, *event) before the first batch."""
    return Proposals(np.empty((0, *x.shape), dtype=x.dtype), np.empty((0, len(x))))


def taken(ahead: Proposals, n: int, more: Callable[[], Proposals]) -> tuple[Proposals, Proposals]:
    """The last x (B, *event) and the log w (n, B) of the next n of those that wait, and what is left.

    `more` makes a new batch where none is left.
    """
    log_w = np.empty((n, ahead.log_w.shape[1]))
    for row in range(n):
        if len(ahead.log_w) == 0:
            ahead = more()
        x, log_w[row] = ahead.x[0], ahead.log_w[0]
        ahead = Proposals(ahead.x[1:], ahead.log_w[1:])
    return Proposals(x, log_w), ahead


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError for a number of samples that cannot be made at a time."""
    if not 1 <= batch_size <= _LARGEST_BATCH:
        raise ValueError(f"batch_size must be between 1 and {_LARGEST_BATCH}, got {batch_size}")


def bytes_of_batch(batch_size: int, n_chains: int, event: Shape) -> int:
    """Of the configurations of a batch, rounded up to equal shares of the chains."""
    return 8 * -(-batch_size // n_chains) * n_chains * math.prod(event)


def parts_of(n: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Those of n configurations of so many numbers each that are made at a time, one part after the other."""
    at_once = max(1, (_ON_CPU if device.type == "cpu" else _ON_GPU) // numbers)
    for start in range(0, n, at_once):
        yield slice(start, min(start + at_once, n))


def device_of(flow: Proposer) -> torch.device:
    """The device on which the flow computes."""
    return next(chain(flow.parameters(), flow.buffers(), [torch.empty(0)])).device


def seeded_generator(flow: Proposer, streams: Streams) -> GeneratorState:
    """The state of a torch generator whose seed comes from the keys of all chains."""
    key = np.random.SeedSequence(streams[:, 0].tolist()).generate_state(1, np.uint64)[0]
    return torch.Generator(device_of(flow)).manual_seed(int(key) >> 1).get_state().numpy()


def propose(
    flow: Proposer, action: Action, generator: GeneratorState, batch_size: int, shape: tuple[int, ...]
) -> tuple[Proposals, GeneratorState]:
    """Draw batch_size samples, rounded up to equal shares of the chains, for configurations of shape (B, *event)."""
    n_rows = -(-batch_size // shape[0])
    source = torch.Generator(device_of(flow))
    source.set_state(torch.from_numpy(generator))
    n = n_rows * shape[0]
    x, log_w = np.empty((n, *shape[1:])), np.empty(n)
    with torch.no_grad():
        for part in parts_of(n, x[0].size, source.device):
            some, log_q = flow.sample(part.stop - part.start, source)
            x[part], log_w[part] = some.cpu().numpy(), (-action(some) - log_q.double()).cpu().numpy()
    batch = Proposals(x.reshape(n_rows, *shape), log_w.reshape(n_rows, shape[0]))
    return batch, source.get_state().numpy()
