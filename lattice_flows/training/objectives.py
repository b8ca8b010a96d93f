"""Estimators of the reverse Kullback-Leibler divergence KL(q|p) - log Z = E_q[log q + S] and of its gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.flows import Flow, forward_with_score
from lattice_flows.lattice import Space


class LossEstimate(NamedTuple):
    """`loss`: a number whose backward() gives the gradient; `log_w` = -S - log q of the samples, (n,), detached."""

    loss: Tensor
    log_w: Tensor


ObjectiveFunction = Callable[[Flow, Action, int, torch.Generator, torch.dtype], LossEstimate]


def reverse_kl(
    flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> LossEstimate:
    """-mean(log_w) over n fresh samples, with the reparametrised gradient: the total derivative."""
    x, log_q = flow.sample(n, generator, dtype)
    log_w = -action(x) - log_q
    return LossEstimate(-log_w.mean(), log_w.detach())


def path_gradient(
    flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> LossEstimate:
    """The same number with the path gradient, arXiv:2207.08219: only the way through x, d(log q + S)/dx dx/dw.

    The term left out, E[d log q(x) / dw] at fixed x, is zero; without it the gradient of every single sample vanishes
    where q = p. d log q / dx is carried along the flow (`forward_with_score`).
    """
    z = flow.prior.sample(n, generator, dtype).requires_grad_(True)
    log_r = flow.prior.log_prob(z)
    score = torch.autograd.grad(log_r.sum(), z)[0] if log_r.requires_grad else torch.zeros_like(z)
    x, log_det, score = forward_with_score(flow.transform, z, score)
    end = flow.prior.space.wrap(x.detach())
    path = (x * (score - action.force(end))).sum() / n
    log_w = (log_det - log_r).detach() - action(end)
    return LossEstimate(path - (log_w.mean() + path.detach()), log_w)


OBJECTIVES: dict[str, ObjectiveFunction] = {"reverse_kl": reverse_kl, "path_gradient": path_gradient}


@dataclass(frozen=True)
class Scaled(Action):
    """factor * S: the target that annealing passes through."""

    action: Action
    factor: float

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.action.space

    def event_shape(self, lattice_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the action."""
        return self.action.event_shape(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.factor * self.action(x)
