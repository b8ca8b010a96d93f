"""Independence Metropolis with a flow's samples as proposals (arXiv:1904.12072)."""

import logging
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.flows import Ability, Proposer
from lattice_flows.kernels.accept import independence_metropolis
from lattice_flows.kernels.random import split_streams, uniforms
from lattice_flows.samplers.proposals import (
    GeneratorState,
    bytes_of_batch,
    check_batch_size,
    device_of,
    propose,
    seeded_generator,
)
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action, Shape

_log = logging.getLogger(__name__)


class Ahead(NamedTuple):
    """The chains' next m states, already decided: a whole batch of proposals is tested in one compiled loop.

    x (m, B, *event) and log_w (m, B) after each test; accepted (m, B); the run of rejections after each test (m, B);
    log_w of the proposal (m, B), accepted or not.
    """

    x: Array
    log_w: Array
    accepted: NDArray[np.bool_]
    rejections: NDArray[np.int64]
    proposal_log_w: Array

    def rows(self, which: slice) -> "Ahead":
        """The selected tests, as views."""
        x, log_w, accepted, rejections, proposal_log_w = self
        return Ahead(x[which], log_w[which], accepted[which], rejections[which], proposal_log_w[which])


class Waiting(NamedTuple):
    """m proposals for each chain that are not yet tested, x (m, B, *event) and log_w (m, B), and the random numbers
    (m, B) that will decide."""

    x: Array
    log_w: Array
    uniforms: Array

    def rows(self, which: slice) -> "Waiting":
        """The selected proposals, as views."""
        return Waiting(self.x[which], self.log_w[which], self.uniforms[which])


class FlowMetropolisState(NamedTuple):
    """x (B, *event), its weight log_w (B,), the current run of rejections (B,), the random streams (B, 2), the state
    of the flow's torch generator, and the tests that are already decided.

    Where something else moves the chains in between, nothing can be decided ahead, and proposals wait; () where nothing
    does.
    """

    x: Array
    log_w: Array
    rejections: NDArray[np.int64]
    streams: Streams
    generator: GeneratorState
    ahead: Ahead
    waiting: Waiting | tuple[()] = ()


class FlowMetropolisInfo(NamedTuple):
    """The accepted fraction (B,), log_w of the current state (B,), the longest run of rejections that extends into
    this step (B,), whatever moved the chains in between, and the weights of the step's proposals (n_updates, B)."""

    accepted: Array
    log_w: Array
    rejection_run: NDArray[np.int64]
    proposal_log_w: Array


@dataclass(frozen=True)
class FlowMetropolis(Sampler):
    """Accept x' from the flow with probability min(1, w(x')/w(x)), w = exp(-S)/q.

    action: the target. flow: the source of proposals. batch_size: number of proposals made at a time, shared by the
    chains.

    A start of which no proposal of the first batch is expected to be accepted would hardly ever be left: such chains
    begin with a sample of the flow instead, and a warning says so.

    Raises ValueError for a batch_size out of range.
    """

    action: Action
    flow: Proposer
    batch_size: int = 1024
    needs: ClassVar[frozenset[Ability]] = frozenset({"paths"})
    reversible: ClassVar[bool] = True  # a Metropolis test of proposals that do not depend on where the chain is

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, a batch of proposals, and their weights in a step."""
        chains = super().least_bytes(n_chains, event, n_updates)
        return chains + bytes_of_batch(self.batch_size, n_chains, event) + 8 * n_updates * n_chains

    def init(self, x: Array, streams: Streams) -> FlowMetropolisState:
        """The state of chains at x (B, *event); their weights need the flow's inverse."""
        x = np.array(x, dtype=np.float64)
        return FlowMetropolisState(
            x=x,
            log_w=self._log_w(x, seeded_generator(self.flow, split_streams(streams, 0)))[0],
            rejections=np.zeros(len(x), dtype=np.int64),
            streams=streams.copy(),
            generator=seeded_generator(self.flow, streams),
            ahead=_nothing_decided(x),
        )

    def moved(self, state: FlowMetropolisState, x: Array) -> FlowMetropolisState:
        """The same chains at x (B, *event).

        What was decided ahead is discarded. From now on proposals are tested only when it is their turn, so that none
        is lost: they do not depend on where the chains are.
        """
        nothing = np.empty((0, len(x)))
        waiting = state.waiting or Waiting(np.empty((0, *x.shape)), nothing, nothing)
        x = np.array(x, dtype=np.float64)
        log_w, generator = self._log_w(x, state.generator)
        return state._replace(x=x, log_w=log_w, generator=generator, ahead=_nothing_decided(x), waiting=waiting)

    def _log_w(self, x: Array, generator: GeneratorState) -> tuple[Array, GeneratorState]:
        """log w of x (B, *event), (B,), and the generator behind what is random in it, see `Proposer.path_log_q`."""
        source = torch.Generator(device_of(self.flow))
        source.set_state(torch.from_numpy(generator))
        field = torch.from_numpy(x).to(source.device)
        with torch.no_grad():
            log_q = self.flow.path_log_q(field, *self.flow.noise(len(x), source))
            log_w = (-self.action(field) - log_q.double()).cpu().numpy()
        return log_w, source.get_state().numpy()

    def step(self, state: FlowMetropolisState, n_updates: int = 1) -> tuple[FlowMetropolisState, FlowMetropolisInfo]:
        """Test n_updates proposals in every chain."""
        used: list[Ahead] = []
        while (missing := n_updates - sum(len(part.log_w) for part in used)) > 0:
            if len(state.ahead.log_w) == 0:
                state = self._look_ahead(state, missing)
            used.append(state.ahead.rows(slice(missing)))
            state = _advance(state, len(used[-1].log_w))
        return state, _info(used)

    def _look_ahead(self, state: FlowMetropolisState, missing: int) -> FlowMetropolisState:
        """The chains' states after each proposal of a new batch, or after the next ones of those that wait, at most
        as many as are missing."""
        stepwise, waiting = bool(state.waiting), state.waiting
        if not waiting or len(waiting.log_w) == 0:
            begins = np.array_equal(state.generator, seeded_generator(self.flow, state.streams))
            state, waiting = self._batch(state)
            state = self._begun(state, waiting) if begins else state
        n = missing if stepwise else len(waiting.log_w)
        tested, left = waiting.rows(slice(n)), waiting.rows(slice(n, None))
        u = np.ascontiguousarray(tested.uniforms.T)  # (B, m)
        holds, accepted, rejections = independence_metropolis(state.log_w, tested.log_w, u, state.rejections)
        held = np.maximum(holds, 0), np.arange(len(state.x))
        x, log_w = tested.x[held], tested.log_w[held]  # (m, B, *event), (m, B)
        for row, chain in np.argwhere(holds < 0):  # tests before the first acceptance keep the state they found
            x[row, chain], log_w[row, chain] = state.x[chain], state.log_w[chain]
        ahead = Ahead(x, log_w, accepted, rejections, tested.log_w)
        return state._replace(ahead=ahead, waiting=left if stepwise else ())

    def _begun(self, state: FlowMetropolisState, proposals: Waiting) -> FlowMetropolisState:
        """The state with the chains whose start is too heavy at the first proposal of their own."""
        heavy = _heavy(state.log_w, proposals.log_w)
        if not heavy.any():
            return state
        _tell_heavy(self.flow, repr(self.action), int(heavy.sum()), heavy.size, proposals.log_w.size)
        at = heavy.reshape(-1, *[1] * (state.x.ndim - 1))  # (B, 1, ...)
        x, log_w = np.where(at, proposals.x[0], state.x), np.where(heavy, proposals.log_w[0], state.log_w)
        return state._replace(x=x, log_w=log_w)

    def _batch(self, state: FlowMetropolisState) -> tuple[FlowMetropolisState, Waiting]:
        """A new batch of proposals, and the state with the generators behind it."""
        proposals, generator = propose(self.flow, self.action, state.generator, self.batch_size, state.x.shape)
        u, streams = uniforms(state.streams, len(proposals.log_w))  # (B, m)
        return state._replace(streams=streams, generator=generator), Waiting(*proposals, u.T)


def _nothing_decided(x: Array) -> Ahead:
    """What is ahead of chains at x (B, *event) before a batch."""
    nothing = np.empty((0, len(x)))
    return Ahead(np.empty((0, *x.shape)), nothing, nothing.astype(np.bool_), nothing.astype(np.int64), nothing)


_told: WeakKeyDictionary[Proposer, set[str]] = WeakKeyDictionary()  # the targets for which it was said


def _tell_heavy(flow: Proposer, action: str, n_heavy: int, n_chains: int, n_proposals: int) -> None:
    """Say it once for a flow and a target: pilots and steps that are tried out begin in the same way."""
    targets = _told.setdefault(flow, set())
    if action in targets:
        return
    targets.add(action)
    _log.warning(
        "flow_metropolis: the start of %d of %d chains is so much heavier than %d proposals that none would be "
        'accepted: these chains begin with samples of the flow; start = "flow" does so for all, and a flow that should '
        "cover such configurations has to be trained longer",
        n_heavy,
        n_chains,
        n_proposals,
    )


def _heavy(log_w: Array, proposals: Array) -> NDArray[np.bool_]:
    """Which of these starts (B,) expect less than one acceptance of all proposals (m, B), sum min(1, w'/w) < 1."""
    ordered = np.sort(proposals, axis=None)
    below = np.searchsorted(ordered, log_w)  # so many are lighter than the start, and all others are accepted
    sums = np.concatenate([[-np.inf], np.logaddexp.accumulate(ordered)])  # log sum w' of the lightest
    with np.errstate(invalid="ignore"):
        of_lighter = np.where(below > 0, np.exp(sums[below] - log_w), 0.0)
    return ~(ordered.size - below + of_lighter >= 1.0)  # also where it is not a number


def _advance(state: FlowMetropolisState, n: int) -> FlowMetropolisState:
    """The state after the next n decided tests. Slices are views: nothing is copied."""
    ahead = state.ahead
    return state._replace(
        x=ahead.x[n - 1],
        log_w=ahead.log_w[n - 1],
        rejections=ahead.rejections[n - 1],
        ahead=ahead.rows(slice(n, None)),
    )


def _info(used: list[Ahead]) -> FlowMetropolisInfo:
    """The info of a step, from the tests that it has used up."""
    if len(used) == 1 and len(used[0].log_w) == 1:
        (part,) = used
        accepted = part.accepted[0].astype(np.float64)
        return FlowMetropolisInfo(accepted, part.log_w[0], part.rejections[0], part.proposal_log_w)
    return FlowMetropolisInfo(
        np.concatenate([part.accepted for part in used]).mean(axis=0),
        used[-1].log_w[-1],
        np.concatenate([part.rejections for part in used]).max(axis=0),
        np.concatenate([part.proposal_log_w for part in used]),
    )
