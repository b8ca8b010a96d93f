"""The forward divergence from groups of the flow's own samples, with its doubly reparametrised gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from lattice_flows.flows import Ability, Proposer, reduced
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Batch, LossEstimate, Objective, paths


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    """The gradient of the forward divergence KL(p|q), from groups of K = `group_size` fresh samples and their weights.

    With v_i = w_i / sum_j w_j in a group, w = exp(-S) / q, that of -E_p[log q] is about -E sum_i v_i d log q(x_i)/dw.
    For any function f of a sample E[f d log q / dw] = E[df/dx dx/dw], and dv_i/dx_i = (v_i - v_i^2) d log w_i/dx, so
    this is, without any other approximation (arXiv:1810.04152, section 6, for reweighted wake-sleep),

        E sum_i (v_i - v_i^2) d(-log w_i)/dx dx/dw:

    path gradients (arXiv:2207.08219) with weights between 0 and 1/4. Every sample's share vanishes where q = p.

    K is between two divergences. The self-normalised v are biased, so that a finite K does not give the gradient of
    KL(p|q) but, to leading order, that plus E_p[(w / Z) (d log q / dw - E_p d log q / dw)] / K. Near p a group of two
    has half of the gradient of the reverse KL. A large group minds the places where q is too small, but few samples
    carry its gradient, and it has none where one weight is as good as all of it: at a low ESS begin with small groups,
    with `anneal`, or with another objective. Where the flow never goes, no group does.

    A row of a batch is a group: rows are shared and split as those of the other objectives, and a batch of n has n K
    samples. log_w (n,) is the log of each group's mean weight, and the loss shown its mean, a bound of -log Z
    (arXiv:1509.00519), whose gradient is another one.

    Raises ValueError for a group of less than two samples, which would have no gradient.
    """

    group_size: int
    needs: ClassVar[frozenset[Ability]] = frozenset({"gradient", "score", "inverse"})  # of one density, not of paths

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {self.group_size}")

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(z,) from the prior, (n, K, *event)."""
        z = reduced(flow, action).flow.prior.sample(n * self.group_size, generator, dtype)
        return (z.unflatten(0, (n, self.group_size)),)

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        (z,) = batch
        along, log_w = paths(*reduced(flow, action), z.flatten(0, 1))
        log_w = log_w.unflatten(0, z.shape[:2])  # (n, K)
        v = torch.softmax(log_w, 1)
        path = ((v - v.square()).flatten().to(along.dtype) * along.flatten(1).sum(1)).sum() / len(z)
        log_mean = log_w.logsumexp(1) - math.log(self.group_size)
        return LossEstimate(path - (log_mean.mean() + path.detach()), log_mean)
