"""Fresh samples of a flow with their weights, made in batches and handed out as chains ask for them."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.flows import Flow
from lattice_flows.samplers.sampler import Array, Streams


class Proposals(NamedTuple):
    """What is left of the last batch: x (m, B, *event), log_w (m, B), and the state of the torch generator."""

    x: Array
    log_w: Array
    generator: NDArray[np.uint8]


def device_of(flow: Flow) -> torch.device:
    """Where the flow computes."""
    return next(flow.parameters(), torch.empty(0)).device


def no_proposals(flow: Flow, x: Array, streams: Streams) -> Proposals:
    """An empty batch for chains at x (B, *event); the generator's seed comes from all chains' keys."""
    key = np.random.SeedSequence(streams[:, 0].tolist()).generate_state(1, np.uint64)[0]
    generator = torch.Generator(device_of(flow)).manual_seed(int(key) >> 1)
    return Proposals(np.empty((0, *x.shape)), np.empty((0, len(x))), generator.get_state().numpy())


def propose(flow: Flow, action: Action, before: Proposals, batch_size: int) -> Proposals:
    """The next batch: batch_size samples, rounded up to equal shares of the chains."""
    n_chains, event = before.x.shape[1], before.x.shape[2:]
    n_rows = -(-batch_size // n_chains)
    generator = torch.Generator(device_of(flow))
    generator.set_state(torch.from_numpy(before.generator))
    with torch.no_grad():
        x, log_q = flow.sample(n_rows * n_chains, generator)
        log_w = -action(x) - log_q.double()
    return Proposals(
        x.cpu().numpy().reshape(n_rows, n_chains, *event),
        log_w.cpu().numpy().reshape(n_rows, n_chains),
        generator.get_state().numpy(),
    )


def without_first(proposals: Proposals, n: int) -> Proposals:
    """The batch without its first n rows, as views."""
    return proposals._replace(x=proposals.x[n:], log_w=proposals.log_w[n:])
