"""Annealed importance sampling (R. M. Neal, physics/9803008): weighted configurations from nonequilibrium paths."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.annealing_path import AnnealingPath, check_kernel
from lattice_flows.samplers.flow_samples import FlowSamplesInfo
from lattice_flows.samplers.proposals import Proposals, bytes_of_batch, check_batch_size, no_proposals, taken
from lattice_flows.samplers.protocol import LINEAR, check_protocol, check_steps, improved_protocol, times
from lattice_flows.samplers.sampler import Array, Report, Sampler, SamplerFactory, Streams, silent
from lattice_flows.theories.action import Action, Field, Shape
from lattice_flows.theories.couplings import at_couplings

_ROUNDS = 3  # of pilot paths, each with the protocol that the one before it found
_PILOT_STEPS = 200


class AnnealedState(NamedTuple):
    """x (B, *event), the random streams (B, 2), whose counters are the number of paths, and unused ends of paths."""

    x: Field
    streams: Streams
    ahead: Proposals


@dataclass(frozen=True)
class Annealed(Sampler):
    """The ends of paths from a theory that can be drawn directly to the target, with weights for the target.

    A path begins with an independent configuration of S_0, and goes on with one update of a sampler at each of
    S_1, ..., S_n, the actions between the two, S_n the target: see `annealing_path`. log w = log Z_0 - W is exact for
    any number of steps and any protocol; both decide how much it fluctuates. var log w falls as 1 / n_steps and grows
    as the volume. Samples are independent.

    action: the target.
    kernel: the sampler that is applied along the path, once at each step; it needs no ergodicity.
    initial: the couplings of S_0 that are not those of the target, at which there is a direct sampler: {beta = 1.0} of
    u1, {m2 = 0.1, lam = 0.0} of phi4, {beta = 1.0, c1 = 0.0} of u1_improved.
    n_steps: of a path.
    protocol: t of the actions (1 - t) S_0 + t S_n at equally spaced times, from 0 to 1, linear in between: [0, 1] is
    the linear one. None lets `tune` find the one whose work fluctuates least.
    batch_size: number of paths made at a time, shared by the chains. The bits do not depend on it.
    tuned_kernel: what `tune` has found for the kernel, at the target.

    Raises ValueError for values out of range, couplings that the theory does not have or at which it has no direct
    sampler, and a kernel that carries more than x from update to update.
    """

    action: Action
    kernel: SamplerFactory
    initial: dict[str, float]
    n_steps: int = 100
    protocol: tuple[float, ...] | None = None
    batch_size: int = 256
    tuned_kernel: Mapping[str, Any] | None = None
    weighted: ClassVar[bool] = True
    independent: ClassVar[bool] = True
    reversible: ClassVar[bool] = True  # independent samples

    def __post_init__(self) -> None:
        check_steps(self.n_steps)
        check_batch_size(self.batch_size)
        if self.protocol is not None:
            check_protocol(self.protocol)
        if self.first.direct_sampler() is None:
            raise ValueError(f"initial: there is no direct sampler for {self.first}")
        check_kernel(self.inner[0], "kernel")
        self._kernel(self.path(2).action(1))  # which may be of another class in between

    @cached_property
    def first(self) -> Action:
        """S_0."""
        return at_couplings(self.action, self.initial, "initial")

    @cached_property
    def inner(self) -> tuple[Sampler, ...]:  # type: ignore[override]
        """The kernel at the target."""
        return (self._kernel(self.action),)

    def _kernel(self, action: Action) -> Sampler:
        kernel = self.kernel(action)
        return kernel if self.tuned_kernel is None else kernel.with_findings(self.tuned_kernel)

    def path(self, n_steps: int | None = None) -> AnnealingPath:
        """The path of n_steps, by default those of this sampler; without a protocol the linear one."""
        return AnnealingPath(
            self.first, self.action, self._kernel, times(self.protocol or LINEAR, n_steps or self.n_steps)
        )

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, a batch of paths, and their weights in a step."""
        chains = super().least_bytes(n_chains, event, n_updates)
        return chains + bytes_of_batch(self.batch_size, n_chains, event) + 8 * n_updates * n_chains

    def init(self, x: Field, streams: Streams) -> AnnealedState:
        """The state before the first path; x (B, *event) only gives the shape, as every step replaces it."""
        x = np.array(x, dtype=self.action.space.dtype, order="C")
        self.inner[0].init(x[:1], streams[:1])  # which refuses shapes that are not its own
        return AnnealedState(x, split_streams(streams, 0), no_proposals(x))

    def moved(self, state: AnnealedState, x: Field) -> AnnealedState:
        """The state with x, which the next step replaces."""
        return state._replace(x=np.array(x, dtype=self.action.space.dtype, order="C"))

    def step(self, state: AnnealedState, n_updates: int = 1) -> tuple[AnnealedState, FlowSamplesInfo]:
        """Make n_updates paths for every chain, of which the end of the last one is kept.

        Raises ValueError if the protocol was neither given nor tuned.
        """
        if self.protocol is None:
            raise ValueError("the protocol is not set: give it, or call tune() first")
        streams = state.streams

        def more() -> Proposals:
            nonlocal streams
            batch, streams = self._batch(state.x.shape, streams)
            return batch

        (x, log_w), ahead = taken(state.ahead, n_updates, more)
        return AnnealedState(x, streams, ahead), FlowSamplesInfo(log_w[-1], log_w)

    def _batch(self, shape: Shape, streams: Streams) -> tuple[Proposals, Streams]:
        """The ends of the next paths of all chains, and the streams behind them."""
        n_rows = -(-self.batch_size // shape[0])
        done = int(streams[0, 1])
        own = np.concatenate([split_streams(streams, done + row) for row in range(n_rows)])  # (n_rows * B, 2)
        x, log_w = self.samples(own, shape[1:])
        streams = streams + np.array([0, n_rows], dtype=np.uint64)
        return Proposals(x.reshape(n_rows, *shape), log_w.reshape(n_rows, shape[0])), streams

    def samples(self, streams: Streams, event: Shape) -> tuple[Field, Array]:
        """The end x (B, *event) of a path for each stream (B, 2), and its log w (B,)."""
        x, log_w, streams = self.start(streams, event)
        paths = self.path().forward(x, streams)
        return paths.x, log_w - paths.work

    def reversed_weights(self, x: Field, streams: Streams) -> Array:
        """log w (B,) of a path to each x (B, *event) of the target, drawn backwards from it; the mean of 1/w is 1/Z.

        With log w of `samples` it gives log Z by `statistics.bennett`. Raises ValueError for a kernel whose updates are
        not known backwards.
        """
        paths = self.path().backward(np.array(x, dtype=self.action.space.dtype, order="C"), streams)
        return self._log_w_of_start(paths.x) - paths.work

    def start(self, streams: Streams, event: Shape) -> tuple[Field, Array, Streams]:
        """Independent configurations of S_0, their log w (B,) = log Z_0, and streams for what comes then."""
        direct = self.first.direct_sampler()
        assert direct is not None
        x, _ = direct.draw(event, split_streams(streams, 0))
        return x, self._log_w_of_start(x), split_streams(streams, 1)

    def _log_w_of_start(self, x: Field) -> Array:
        """-S_0 - log q, log Z_0 of a direct sampler of S_0."""
        direct = self.first.direct_sampler()
        assert direct is not None
        return -self.first.evaluate(x) - direct.log_q(x)

    @property
    def tunable(self) -> tuple[str, ...]:
        """The protocol."""
        return ("protocol",)

    def tune(self, state: AnnealedState, n_updates: int, report: Report = silent) -> "Annealed":
        """This sampler with the kernel tuned at the target, from the ends of paths, and with the best protocol."""
        if self.tuned:
            return self
        event, sampler = state.x.shape[1:], self
        if not self.inner[0].tuned:
            sampler = sampler._with_tuned_kernel(state, n_updates, report)
        if sampler.protocol is not None:
            return sampler
        rows, n = max(2, -(-n_updates // len(state.x))), min(self.n_steps, _PILOT_STEPS)
        for round_ in range(_ROUNDS):
            first = round_ * rows
            own = np.concatenate([split_streams(state.streams, first + row) for row in range(rows)])
            x, _, streams = sampler.start(own, event)
            path = sampler.path(n)
            slopes = path.works(x, streams) / np.diff(path.times)[:, None]
            sampler = replace(sampler, protocol=improved_protocol(path.times, slopes))
            report("protocol")
        return sampler

    def _with_tuned_kernel(self, state: AnnealedState, n_updates: int, report: Report) -> "Annealed":
        """The kernel must be tuned before there are paths with it: from direct draws of S_0."""
        x, _, streams = self.start(state.streams, state.x.shape[1:])
        kernel = self.inner[0]
        return replace(self, tuned_kernel=kernel.tune(kernel.init(x, streams), n_updates, report).findings())

    def findings(self) -> dict[str, Any]:
        """The protocol, and the findings of the kernel."""
        protocol = None if self.protocol is None else list(self.protocol)
        return {"protocol": protocol, "kernel": self.inner[0].findings()}

    def with_findings(self, settings: Mapping[str, Any]) -> "Annealed":
        """This sampler with the stored protocol and kernel."""
        return replace(self, protocol=tuple(settings["protocol"]), tuned_kernel=settings["kernel"])
