"""The importance-weighted bound of log Z, which looks at groups of samples, with its doubly reparametrised gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from lattice_flows.flows import Ability, Flow, reduced
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Batch, LossEstimate, Objective, paths


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    """-E log[(w_1 + ... + w_K) / K] over groups of K = `group_size` fresh samples (arXiv:1509.00519), w = exp(-S) / q.

    It is above -log Z for every K and reaches it where q = p: K = 1 is the reverse KL, and for large K the difference
    is chi^2(p|q) / 2K, which is large wherever q is too small. So the larger the group, the less a flow gains by
    leaving out a mode; of a mode that it never visits no group knows.

    The gradient is the doubly reparametrised one (arXiv:1810.04152, section 3), with v_i = w_i / sum_j w_j:

        E sum_i v_i^2 d(-log w_i)/dx dx/dw.

    The total derivative is the sum of v_i [d(-log w_i)/dx dx/dw + d log q(x_i)/dw at fixed x]. For any function f of
    the sample, E[f d log q / dw] = E[df/dx dx/dw], and dv_i/dx = (v_i - v_i^2) d log w_i/dx: so the second term takes
    v_i - v_i^2 of the first one away. The estimate is unbiased for this bound, every sample's share of it vanishes
    where q = p, and its signal does not drown in the noise as K grows, as that of the total derivative does. K = 1 is
    `path_gradient`.

    A row of a batch is a group: rows are shared and split as those of the other objectives, and a batch of n has n K
    samples. log_w (n,) is the log of each group's mean weight.

    Raises ValueError for a group of less than one sample.
    """

    group_size: int
    needs: ClassVar[frozenset[Ability]] = frozenset({"gradient", "score"})

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {self.group_size}")

    def draw(
        self, flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(z,) from the prior, (n, K, *event)."""
        z = reduced(flow, action).flow.prior.sample(n * self.group_size, generator, dtype)
        return (z.unflatten(0, (n, self.group_size)),)

    def loss(self, flow: Flow, action: Action, batch: Batch) -> LossEstimate:
        (z,) = batch
        along, log_w = paths(*reduced(flow, action), z.flatten(0, 1))
        log_w = log_w.unflatten(0, z.shape[:2])  # (n, K)
        shares = torch.softmax(log_w, 1).square().to(along.dtype)
        path = (shares.flatten() * along.flatten(1).sum(1)).sum() / len(z)
        log_mean = log_w.logsumexp(1) - math.log(self.group_size)
        return LossEstimate(path - (log_mean.mean() + path.detach()), log_mean)
