"""A ring of weighted configurations of known size."""

import math

import torch
from torch import Tensor

from lattice_flows.flows import Flow
from lattice_flows.theories.action import Action
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.source import Source


class SampleBuffer(Source):
    """The last `size` samples of a flow with their weights, on one device: size * (8 + bytes of a configuration).

    `state` holds everything: x (size, *event), log_w (size,), and the place of the next one.
    """

    def __init__(
        self, size: int, event: tuple[int, ...], dtype: torch.dtype, device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.ranks = ranks
        self.x = torch.zeros((size, *event), dtype=dtype, device=device)
        self.log_w = torch.full((size,), -math.inf, dtype=torch.float64, device=device)
        self.place = 0

    def add(self, x: Tensor, log_w: Tensor) -> None:
        """Put samples (n, *event) with log_w (n,) in place of the oldest ones."""
        size = len(self.x)
        x, log_w = x[-size:], log_w[-size:]
        places = (torch.arange(len(x), device=x.device) + self.place) % size
        self.x[places] = x
        self.log_w[places] = log_w.double()
        self.place = (self.place + len(x)) % size

    def advance(self, flow: Flow, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Add n fresh samples of the flow, of which each process makes its share; returns their log_w (n,)."""
        z = flow.prior.sample(n, generator, dtype)[self.ranks.rows(n)]
        with torch.no_grad():
            x, log_q = flow.image(z)
            log_w = self.ranks.gathered(-action(x) - log_q, n)
            x = self.ranks.gathered(x, n)
        self.add(x, log_w)
        return log_w

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n samples (n, *event) by systematic resampling of the truncated weights: one uniform number for all."""
        w = torch.exp(self.log_w - self.log_w.max())
        n_held = torch.isfinite(self.log_w).sum()
        w = torch.minimum(w, w.sum() / torch.sqrt(n_held))  # sqrt(N) times the mean
        cumulative = w.cumsum(0)
        u = torch.rand(1, generator=generator, dtype=torch.float64, device=w.device)
        at = (torch.arange(n, device=w.device) + u) / n * cumulative[-1]
        return self.x[torch.searchsorted(cumulative, at).clamp(max=len(w) - 1)]

    def state_dict(self) -> dict[str, Tensor]:
        """The state that a resume needs."""
        return {"x": self.x, "log_w": self.log_w, "place": torch.tensor(self.place)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state of a buffer of this size."""
        self.x.copy_(state["x"])
        self.log_w.copy_(state["log_w"])
        self.place = int(state["place"])
