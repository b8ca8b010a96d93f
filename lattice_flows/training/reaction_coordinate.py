"""Samples spread along a reaction coordinate: the third loss of Boltzmann generators."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.flows import Proposer
from lattice_flows.theories.action import Action
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.training.objectives import Batch, LossEstimate, Objective
from lattice_flows.training.source import Source

_N_POINTS = 32  # of the grid, whose spacing is the width of the kernel


@dataclass(frozen=True)
class WithReactionCoordinate(Objective):
    """J + c J_RC with J_RC = E[log p_hat(R(x))] over samples of the flow (Noe et al., Science 365 (2019) eaaw1147,
    supplementary text): least where R is uniform, so that the flow also visits the barriers between its modes.

    p_hat is a kernel density estimate from the rows that one process computes at once. The minimum of J + c J_RC is not
    the target: weights correct for it, and in the limit of large c the ESS is that of a density flat in R.
    log_w is that of `objective`. Memory: 32 numbers for each row beside the batch.

    objective: J. variable: R. low, high: the range over which R is spread, in its units. weight: c.
    """

    objective: Objective
    variable: CollectiveVariable
    low: float
    high: float
    weight: float

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.objective.sources

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """The batch of `objective`, followed by what n samples of the flow are made of."""
        return *self.objective.draw(flow, action, n, generator, dtype), *flow.latents(n, generator, dtype)

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        own = len(flow.latents(1, torch.Generator(batch[0].device)))  # tensors of a sample
        loss, log_w = self.objective.loss(flow, action, batch[:-own])
        r = differentiable(self.variable, flow.image(*batch[-own:]).x)
        return LossEstimate(loss + self.weight * divergence_from_uniform(r, self.low, self.high), log_w)


def divergence_from_uniform(r: Tensor, low: float, high: float) -> Tensor:
    """E[log p_hat(r)] + log(high - low) of values r (n,), at least 0.

    Each value is shared by the points of a grid on the range, as a Gaussian kernel as wide as their spacing tells and
    normalised on the grid, and p_hat is the mean of the shares. Values outside belong to the nearest end.
    """
    spacing = (high - low) / _N_POINTS
    points = low + spacing * (torch.arange(_N_POINTS, dtype=r.dtype, device=r.device) + 0.5)
    shares = torch.softmax(-0.5 * ((r[:, None] - points) / spacing) ** 2, 1).mean(0)  # (n_points,)
    return torch.special.xlogy(shares, shares * _N_POINTS).sum()


def differentiable(variable: CollectiveVariable, x: Tensor) -> Tensor:
    """s(x), (n,), in double precision, with the derivative of the variable, for variables of one number each."""
    held = x.detach().double().cpu().numpy()
    s, gradient = (torch.from_numpy(f(held)).to(x.device) for f in (variable.value, variable.gradient))
    return s + (gradient * (x - x.detach())).flatten(1).sum(1)  # (n,)
