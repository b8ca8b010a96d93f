"""Independence Metropolis with a flow's samples as proposals (arXiv:1904.12072, eqs. (5) to (8))."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.flows import Flow
from lattice_flows.kernels.accept import independence_metropolis
from lattice_flows.kernels.random import uniforms
from lattice_flows.samplers.proposals import Proposals, device_of, no_proposals, propose, without_first
from lattice_flows.samplers.sampler import Array, Streams


class FlowMetropolisState(NamedTuple):
    """The chains, and what is left of the last batch of proposals with the verdict on each.

    x (B, *event); log_w (B,) its weight; rejections (B,) the current run of rejections; streams (B, 2); accepted and
    runs (m, B) say of each waiting proposal whether it will be accepted, and the run of rejections after it.
    """

    x: Array
    log_w: Array
    rejections: NDArray[np.int64]
    streams: Streams
    proposals: Proposals
    accepted: NDArray[np.bool_]
    runs: NDArray[np.int64]


class FlowMetropolisInfo(NamedTuple):
    """The accepted fraction (B,), log_w of the current state (B,), the longest run of rejections that reaches into
    this step (B,), and the weights of the step's proposals (n_updates, B)."""

    accepted: Array
    log_w: Array
    rejection_run: NDArray[np.int64]
    proposal_log_w: Array


@dataclass(frozen=True)
class FlowMetropolis:
    """Accept x' from the flow with probability min(1, w(x')/w(x)), w = exp(-S)/q.

    action: the target. flow: the source of proposals. batch_size: proposals made at a time, shared by the chains.

    Raises ValueError for a batch_size below 1.
    """

    action: Action
    flow: Flow
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")

    def init(self, x: Array, streams: Streams) -> FlowMetropolisState:
        """The state of chains at x (B, *event); their weights need the flow's inverse."""
        x = np.array(x, dtype=np.float64)
        field = torch.from_numpy(x).to(device_of(self.flow))
        with torch.no_grad():
            log_w = -self.action(field) - self.flow.log_prob(field).double()
        return FlowMetropolisState(
            x=x,
            log_w=log_w.cpu().numpy(),
            rejections=np.zeros(len(x), dtype=np.int64),
            streams=streams.copy(),
            proposals=no_proposals(self.flow, x, streams),
            accepted=np.empty((0, len(x)), dtype=np.bool_),
            runs=np.empty((0, len(x)), dtype=np.int64),
        )

    def step(self, state: FlowMetropolisState, n_updates: int = 1) -> tuple[FlowMetropolisState, FlowMetropolisInfo]:
        """n_updates proposals to every chain."""
        parts = []
        missing = n_updates
        while missing > 0:
            if len(state.accepted) == 0:
                state = self._judged(state)
            state, part = _advance(state, missing)
            parts.append(part)
            missing -= len(part.accepted)
        accepted = sum(part.accepted.sum(axis=0) for part in parts) / n_updates
        runs = np.max([part.runs.max(axis=0, initial=0) for part in parts], axis=0)
        log_w = np.concatenate([part.log_w for part in parts]) if len(parts) > 1 else parts[0].log_w
        return state, FlowMetropolisInfo(accepted, state.log_w, runs, log_w)

    def _judged(self, state: FlowMetropolisState) -> FlowMetropolisState:
        """A new batch of proposals, and the verdict on all of them in one compiled loop."""
        proposals = propose(self.flow, self.action, state.proposals, self.batch_size)
        u, streams = uniforms(state.streams, len(proposals.log_w))  # (B, m)
        accepted, runs = independence_metropolis(state.log_w, proposals.log_w, u, state.rejections)
        return state._replace(streams=streams, proposals=proposals, accepted=accepted, runs=runs)


class _Used(NamedTuple):
    """The proposals that a step has used up, each (n, B)."""

    log_w: Array
    accepted: NDArray[np.bool_]
    runs: NDArray[np.int64]


def _advance(state: FlowMetropolisState, n: int) -> tuple[FlowMetropolisState, _Used]:
    """Take up to n of the waiting proposals. Slices are views: nothing is copied but the new configurations."""
    used = _Used(state.proposals.log_w[:n], state.accepted[:n], state.runs[:n])
    n = len(used.accepted)
    last = n - 1 - used.accepted[::-1].argmax(axis=0)  # (B,) the last accepted one, where there is any
    x, log_w = state.x.copy(), state.log_w.copy()
    for b in np.flatnonzero(used.accepted.any(axis=0)):
        x[b], log_w[b] = state.proposals.x[last[b], b], used.log_w[last[b], b]
    return FlowMetropolisState(
        x=x,
        log_w=log_w,
        rejections=used.runs[-1],
        streams=state.streams,
        proposals=without_first(state.proposals, n),
        accepted=state.accepted[n:],
        runs=state.runs[n:],
    ), used
