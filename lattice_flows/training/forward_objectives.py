"""Objectives that learn from configurations: the forward divergence KL(p|q) + H(p) = -E_p[log q], and mixtures."""

from dataclasses import dataclass

import torch

from lattice_flows.actions import Action
from lattice_flows.flows import Flow
from lattice_flows.training.data import DataSource
from lattice_flows.training.objectives import LossEstimate, ObjectiveFunction
from lattice_flows.training.sample_buffer import SampleBuffer


@dataclass(frozen=True)
class ForwardKL:
    """-mean(log q) over n configurations of the target: maximum likelihood, which sees what the flow never visits."""

    data: DataSource

    def __call__(
        self, flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> LossEstimate:
        """log_w is that of the data."""
        x = self.data(n, generator).to(device=generator.device, dtype=dtype)
        log_q = flow.log_prob(x)
        return LossEstimate(-log_q.mean(), -action(x) - log_q.detach())


@dataclass(frozen=True)
class Mixture:
    """J = a J_KL + b J_ML, each over n configurations; a `reverse` objective and `forward` = ForwardKL."""

    reverse: ObjectiveFunction
    forward: ForwardKL
    reverse_weight: float  # a
    forward_weight: float  # b

    def __call__(
        self, flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> LossEstimate:
        """log_w is that of the flow's samples."""
        reverse = self.reverse(flow, action, n, generator, dtype)
        forward = self.forward(flow, action, n, generator, dtype)
        return LossEstimate(self.reverse_weight * reverse.loss + self.forward_weight * forward.loss, reverse.log_w)


@dataclass(frozen=True)
class SelfNormalised:
    """The forward divergence without data: -sum_i w_i log q(x_i) / sum_i w_i over a buffer of the flow's own samples.

    Every step puts n fresh samples into the buffer, in the place of the oldest ones, and takes n out, drawn in
    proportion to their weights w = exp(-S) / q. A sample keeps the weight of the flow that made it: it was drawn from
    that density, so no weight needs to be computed again, and each of them has the mean Z. Weights above
    sqrt(N) times the mean of the buffer's N are truncated to that (E. L. Ionides, J. Comput. Graph. Stat. 17 (2008)
    295): a single one would else be the whole batch for as long as it stays.

    The gradient is biased, by O(1/N) from the normalisation and by the truncation, which goes with N too; and where
    the flow never goes, neither does the buffer: it cures no mode collapse. The action must be the same in all steps.
    """

    buffer: SampleBuffer

    def __call__(
        self, flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> LossEstimate:
        """log_w is that of the n fresh samples."""
        with torch.no_grad():
            x, log_q = flow.sample(n, generator, dtype)
            log_w = -action(x) - log_q
        self.buffer.add(x, log_w)
        log_q = flow.log_prob(self.buffer.draw(n, generator).to(dtype))
        spoiled = 0.0 * log_w.mean()  # not a number where a weight is none: the draw itself would hide it
        return LossEstimate(spoiled - log_q.mean(), log_w)
