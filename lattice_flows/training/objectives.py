"""Estimators of the reverse Kullback-Leibler divergence KL(q|p) - log Z = E_q[log q + S] and of its gradient.

All have one expectation, and so have their gradients; the variances differ (tests/benchmarks/bench_objectives.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows import (
    Ability,
    ActionOfPlaquettes,
    Flow,
    IndependentPlaquettes,
    PlaquetteTree,
    Proposer,
    forward_with_score,
    reduced,
)
from lattice_flows.theories.action import Action
from lattice_flows.training.region_reinforce import region_reinforce
from lattice_flows.training.region_torch import torch_region_reinforce
from lattice_flows.training.source import Source

Batch = tuple[Tensor, ...]
"""The input of a training step: tensors of n rows each."""


class LossEstimate(NamedTuple):
    """A `loss` whose backward() yields the gradient, and `log_w` = -S - log q of the samples, (n,), detached."""

    loss: Tensor
    log_w: Tensor


class Objective(ABC):
    """An estimate of a divergence from the target, in two steps: drawing a batch, and the loss of any part of it.

    The loss is a mean over rows, so that a batch can be shared by processes and computed in parts.
    """

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where its configurations come from, where they are not fresh samples of the flow alone."""
        return ()

    @abstractmethod
    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """Everything random in a batch of n."""

    @abstractmethod
    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        """The estimate from these rows."""

    def __call__(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> LossEstimate:
        """The estimate from a batch of n."""
        return self.loss(flow, action, self.draw(flow, action, n, generator, dtype))


@dataclass(frozen=True)
class Reverse(Objective):
    """A function of the latents of n samples of the flow, in its `reduced` form where it has one."""

    of_latents: Callable[..., LossEstimate]
    """flow, action, z (n, *event), and the flow's noise where it has any -> the estimate"""
    needs: frozenset[Ability]
    """What it asks of a flow."""

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(z, *noise): from the prior, and what is random beside it."""
        return reduced(flow, action).flow.latents(n, generator, dtype)

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        return self.of_latents(*reduced(flow, action), *batch)


def _reverse_kl(flow: Proposer, action: Action, z: Tensor, *noise: Tensor) -> LossEstimate:
    x, log_q = flow.image(z, *noise)
    log_w = -action(x) - log_q
    return LossEstimate(-log_w.mean(), log_w.detach())


class Paths(NamedTuple):
    """Of samples x(z): `along` (n, *event), whose sum over an event has the gradient d(-log w)/dx dx/dw of that sample,
    the density being held fixed; and log_w (n,), detached."""

    along: Tensor
    log_w: Tensor


@singledispatch
def paths(flow: Proposer, action: Action, z: Tensor, *noise: Tensor) -> Paths:
    """The part of the gradient of -log w = log q + S that goes through the samples, of z (n, *event) and the noise."""
    raise NotImplementedError(f"{type(flow).__name__} has no score")


@paths.register
def _(flow: Flow, action: Action, z: Tensor, *noise: Tensor) -> Paths:
    z = z.requires_grad_(True)
    log_r = flow.prior.log_prob(z)
    score = torch.autograd.grad(log_r.sum(), z)[0] if log_r.requires_grad else torch.zeros_like(z)
    x, log_det, score = forward_with_score(flow.transform, z, score)
    end = flow.space.wrap(x.detach())
    target, force = action.with_force(end)
    return Paths(x * (score - force), (log_det - log_r).detach() - target)


def _path_gradient(flow: Proposer, action: Action, z: Tensor, *noise: Tensor) -> LossEstimate:
    along, log_w = paths(flow, action, z, *noise)
    path = along.sum() / len(z)
    return LossEstimate(path - (log_w.mean() + path.detach()), log_w)


def _reinforce(flow: Flow, action: Action, z: Tensor) -> LossEstimate:
    n = len(z)
    if n < 2:
        raise ValueError(f"reinforce needs a batch of at least 2 samples for its baseline, got {n}")
    if isinstance(flow.transform, PlaquetteTree) and isinstance(action, ActionOfPlaquettes):
        independent = action.action
        if isinstance(independent, IndependentPlaquettes):
            estimate = region_reinforce if z.device.type == "cpu" else torch_region_reinforce
            return LossEstimate(*estimate(z, flow.transform, independent))
    with torch.no_grad():
        x = flow.image(z).x
        action_of_x = action(x)
    log_q = flow.log_prob(x)
    log_w = -action_of_x - log_q.detach()
    # f - (mean of the others) = (f - mean) n / (n - 1)
    surrogate = ((log_w.mean() - log_w) * log_q).sum() / (n - 1)
    return LossEstimate(surrogate - (log_w.mean() + surrogate.detach()), log_w)


reverse_kl = Reverse(_reverse_kl, needs=frozenset({"gradient"}))
"""-mean(log_w) over n fresh samples, with the reparametrised gradient: the total derivative."""

path_gradient = Reverse(_path_gradient, needs=frozenset({"gradient", "score"}))
"""The same number with the path gradient, arXiv:2207.08219: only the part through x, d(log q + S)/dx dx/dw.

The term left out, E[d log q(x) / dw] at fixed x, is zero; without it the gradient of every single sample vanishes
where q = p. d log q / dx is carried along the flow (`forward_with_score`).
"""

reinforce = Reverse(_reinforce, needs=frozenset({"inverse"}))
"""The same number with the score-function gradient E[(f - b) d log q(x) / dw], f = log q + S at fixed samples.

The baseline b of each sample is the mean of f over the other n - 1 (arXiv:2202.01314, arXiv:2308.13294), which leaves
the gradient unbiased. It needs no force and no derivative through the samples, but it needs the inverse of the flow. A
tree of regions whose plaquettes are independent has a better one (`region_reinforce`), which is then used. Baselines
are those of the rows that one process computes at once. Raises ValueError for n < 2.
"""

REVERSE_OBJECTIVES: dict[str, Reverse] = {
    "path_gradient": path_gradient,
    "reverse_kl": reverse_kl,
    "reinforce": reinforce,
}
