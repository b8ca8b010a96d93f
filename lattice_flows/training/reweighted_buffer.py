"""A ring of a flow's samples that are weighted anew for an action that changes."""

import torch
from torch import Tensor

from lattice_flows.flows import Proposer
from lattice_flows.theories.action import Action
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.sample_buffer import SampleBuffer, resampled, truncated
from lattice_flows.training.source import Source

_AT_ONCE = 4096  # configurations whose action is computed together


class ReweightedBuffer(Source):
    """The last `size` samples of a flow with their log q; weights are those of the action of the latest step.

    With it a target can be annealed while a flow learns from its own samples: those drawn at one temperature are
    resampled for the next (arXiv:2501.19077, there in stages). A sample keeps the log q of the flow that made it, and
    S of all of them is computed in every step, which is the price. Weights are truncated as those of `SampleBuffer`;
    the ring does not grow.
    """

    def __init__(
        self, size: int, event: tuple[int, ...], dtype: torch.dtype, device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.ring = SampleBuffer(size, event, dtype, device, ranks)  # where -log q stands for log w
        self.ranks = ranks
        self.log_w = self.ring.log_w

    def advance(self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Add n fresh samples, of which each process makes its share, and weight all; returns the n log_w."""
        z = flow.prior.sample(n, generator, dtype)[self.ranks.rows(n)]
        with torch.no_grad():
            x, log_q = flow.image(z)
            x, log_q = self.ranks.gathered(x, n), self.ranks.gathered(log_q, n).double()
            self.ring.add(x, -log_q)
            s = torch.cat([action(part.to(dtype)) for part in self.ring.x.split(_AT_ONCE)])
            unused = self.ring.log_w == -torch.inf
            self.log_w = torch.where(unused, -torch.inf, self.ring.log_w - s)
            return -action(x) - log_q

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, *event), resampled for the action of the last `advance`."""
        return self.ring.x[resampled(truncated(self.log_w)[1], n, generator)]

    def state_dict(self) -> dict[str, Tensor]:
        """That of the ring: weights are computed anew before each draw."""
        return self.ring.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore it."""
        self.ring.load_state_dict(state)
