"""The variance of log w, which any configurations may judge."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lattice_flows.flows import Ability, Proposer
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Batch, LossEstimate, Objective
from lattice_flows.training.source import Source

_FROM_DATA = 0.5


@dataclass(frozen=True)
class LogVariance(Objective):
    """Var(log w) / 2 over a reference density rho, which is not differentiated (arXiv:2010.10436); log w = -S - log q.

    It is 0 where log w is constant on all that rho reaches, whatever rho is. So no weights are needed, no log Z, and
    not even configurations of the right density: a chain that has not thermalised, or has the modes in wrong shares,
    will do, and S may be annealed meanwhile. The gradient is -E_rho[(log w - E_rho log w) d log q / dw].

    Without `data` rho = q, fresh samples of the flow, and this is the gradient of the reverse KL with the mean of the
    others as the baseline of each: `reinforce`, of whose special form for trees this knows nothing.

    With `data` each row is a configuration of the data or a sample of the flow, with equal probabilities: rho is half
    of both. Data alone would not do: a flow that is a small multiple of p on them, and has the rest of its weight where
    there are none, has no variance there. Nor would the flow alone, which does not see the modes that it leaves out.

    The variance is the unbiased one of the rows that one process computes at once, and so is the gradient. log_w is
    that of the rows. Raises ValueError for fewer than 2.
    """

    data: Source | None
    needs: ClassVar[frozenset[Ability]] = frozenset({"inverse"})

    @property
    def sources(self) -> tuple[Source, ...]:
        return () if self.data is None else (self.data,)

    def draw(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Batch:
        """(z,) from the prior; with data (z, x, whether it is x that counts)."""
        z = flow.prior.sample(n, generator, dtype)
        if self.data is None:
            return (z,)
        x = self.data.draw(n, generator).to(device=generator.device, dtype=dtype)
        return z, x, torch.rand(n, generator=generator, device=generator.device) < _FROM_DATA

    def loss(self, flow: Proposer, action: Action, batch: Batch) -> LossEstimate:
        z, *of_data = batch
        if len(z) < 2:
            raise ValueError(f"log_variance needs a batch of at least 2 rows, got {len(z)}")
        with torch.no_grad():
            x = flow.image(z).x
            if of_data:
                data, chosen = of_data
                x = torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), data, x)
        log_w = -action(x) - flow.path_log_q(x)
        return LossEstimate(0.5 * log_w.var(), log_w.detach())
