"""Objectives that learn from configurations: the forward divergence KL(p|q) + H(p) = -E_p[log q], and mixtures."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lattice_flows.flows import Ability, Proposer
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Batch, LossEstimate, Objective
from lattice_flows.training.reweighted_buffer import ReweightedBuffer
from lattice_flows.training.sample_buffer import SampleBuffer
from lattice_flows.training.source import Source


@dataclass(frozen=True)
class ForwardKL(Objective):
    """-mean(log q) over n configurations of the target: maximum likelihood, which sees what the flow never visits.

    log_w is that of the data. Of a stochastic flow log q is that of paths backwards from them: the mean work of those.
    """

    data: Source
    needs: ClassVar[frozenset[Ability]] = frozenset({"paths"})

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.data,)

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(x, *noise): configurations of the target, and what is random on the way back from them."""
        self.data.advance(flow, action, n, generator, dtype)
        x = self.data.draw(n, generator).to(device=generator.device, dtype=dtype)
        return x, *flow.noise(n, generator)

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        x, *noise = batch
        log_q = flow.path_log_q(x, *noise)
        return LossEstimate(-log_q.mean(), -action(x) - log_q.detach())


@dataclass(frozen=True)
class Mixture(Objective):
    """J = a J_KL + b J_ML, each over n configurations; a `reverse` objective and `forward` = ForwardKL.

    log_w is that of the flow's samples.
    """

    reverse: Objective
    forward: ForwardKL
    reverse_weight: float  # a
    forward_weight: float  # b

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*self.reverse.sources, *self.forward.sources)

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """The batch of `reverse`, followed by (x,) of `forward`."""
        return *self.reverse.draw(flow, action, n, generator, dtype), *self.forward.draw(
            flow, action, n, generator, dtype
        )

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        *latents, x = batch
        reverse = self.reverse.loss(flow, action, tuple(latents))
        forward = self.forward.loss(flow, action, (x,))
        return LossEstimate(self.reverse_weight * reverse.loss + self.forward_weight * forward.loss, reverse.log_w)


@dataclass(frozen=True)
class SelfNormalised(Objective):
    """The forward divergence without data: -sum_i w_i log q(x_i) / sum_i w_i over a buffer of the flow's own samples.

    Every step puts n fresh samples into the buffer, in place of the oldest ones, and takes n out, drawn in proportion
    to their weights w = exp(-S) / q. A sample keeps the weight of the flow that made it: it was drawn from that
    density, so no weight needs to be computed again, and each has the mean Z. Weights above sqrt(N) times the mean of
    the buffer's N are truncated to that (E. L. Ionides, J. Comput. Graph. Stat. 17 (2008) 295): otherwise a single one
    would be the whole batch for as long as it stays.

    The gradient is biased: too small by about the share of the weight that is truncated, and by O(1/N_eff) from the
    normalisation, N_eff = (sum w)^2 / sum w^2. Measured along the exact gradient of forward KL, with N = 4096, 16384,
    65536 and 262144: 20, 14, 10 and 6 % for u1 at an ESS of 0.004, 8, 4, 3 and 2 % at 0.03 (4x4, beta = 0.93 and
    0.66, an untrained flow; errors below 1 %), 19, 14, 8 and 6 % for log-normal weights at 0.006 (errors up to 2 %).
    So the buffer grows where N_eff is small, and tells where that is not enough (see `SampleBuffer`).

    Where the flow never goes, neither does the buffer: it cures no mode collapse. The action must be the same in all
    steps, unless the buffer is one that weights its samples anew, `ReweightedBuffer`.

    With several processes each makes its share of the fresh samples, and all hold the same buffer. log_w is that of the
    fresh samples.
    """

    buffer: SampleBuffer | ReweightedBuffer
    needs: ClassVar[frozenset[Ability]] = frozenset({"inverse"})

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.buffer,)

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(x, log_w): the samples taken out of the buffer, and the weights of those put in."""
        log_w = self.buffer.advance(flow, action, n, generator, dtype)
        return self.buffer.draw(n, generator).to(dtype), log_w

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        x, log_w = batch
        spoiled = 0.0 * log_w.mean()  # not a number where a weight is none: the draw itself would hide it
        return LossEstimate(spoiled - flow.path_log_q(x).mean(), log_w)
