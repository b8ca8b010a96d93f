"""A ring of weighted configurations of known size."""

import logging
import math

import torch
from torch import Tensor

from lattice_flows.flows import Proposer
from lattice_flows.theories.action import Action
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.source import Source

_MOST_NUMBERS = 2**24  # of all configurations: 128 MiB in double precision, and as much in every checkpoint
_FEWEST_EFFECTIVE = 1000.0  # weights, (sum w)^2 / sum w^2, below which the ring grows
_TOLD = 0.1  # of the weight is truncated

_log = logging.getLogger(__name__)


class SampleBuffer(Source):
    """The last samples of a flow with their weights, on one device: 8 bytes each, beside the configuration.

    There are `size` places at first. A full ring with fewer than 1000 effective weights, (sum w)^2 / sum w^2, has twice
    as many places after the next look, up to 2^24 numbers. Where truncation takes more than 10 % of the weight in the
    largest ring, or at the end of the training, a line says so, once.

    `state` holds everything: x (size, *event), log_w (size,), the place of the next one, how many were ever put in, and
    the largest size; without the latter two the ring is of older code, and stays as it is.
    """

    def __init__(
        self, size: int, event: tuple[int, ...], dtype: torch.dtype, device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.ranks = ranks
        self.x = torch.zeros((size, *event), dtype=dtype, device=device)
        self.log_w = torch.full((size,), -math.inf, dtype=torch.float64, device=device)
        self.place, self.n_added = 0, 0
        self.most = max(size, _MOST_NUMBERS // math.prod(event))
        self._told = False

    def add(self, x: Tensor, log_w: Tensor) -> None:
        """Put samples (n, *event) with log_w (n,) in place of the oldest ones."""
        size = len(self.x)
        self.n_added += len(x)
        x, log_w = x[-size:], log_w[-size:]
        places = (torch.arange(len(x), device=x.device) + self.place) % size
        self.x[places] = x
        self.log_w[places] = log_w.double()
        self.place = (self.place + len(x)) % size

    def advance(self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
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
        return self.x[resampled(truncated(self.log_w)[1], n, generator)]

    def look(self, last: bool) -> None:
        """Grow, or say that the ring is too small."""
        w, kept = truncated(self.log_w)
        share, n_effective = float(1.0 - kept.sum() / w.sum()), float(w.sum() ** 2 / w.square().sum())
        size = len(self.x)
        if share > _TOLD and (last or size == self.most) and not self._told and self.ranks.is_first:
            self._told = True
            _log.warning(
                "self_normalised: %.0f %% of the weight in the buffer of %d samples is truncated, so the gradient is "
                "too small by about as much, or more; begin with weights of another objective (training.init_from)%s",
                100.0 * share,
                size,
                ", or train longer: the buffer grows" if size < self.most else ", or raise training.buffer_size",
            )
        if n_effective < _FEWEST_EFFECTIVE and self.n_added >= size:
            self._grow(min(2 * size, self.most))

    def _grow(self, size: int) -> None:
        """Make a full ring one of `size` places."""
        more = size - len(self.x)
        if more == 0:
            return
        x, log_w = (rows.roll(-self.place, 0) for rows in (self.x, self.log_w))  # the oldest first
        self.place = self.n_added = len(x)
        self.x = torch.cat([x, x.new_zeros((more, *x.shape[1:]))])
        self.log_w = torch.cat([log_w, log_w.new_full((more,), -math.inf)])

    def state_dict(self) -> dict[str, Tensor]:
        """The state that a resume needs."""
        numbers = {name: torch.tensor(getattr(self, name)) for name in ("place", "n_added", "most")}
        return {"x": self.x, "log_w": self.log_w, **numbers}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state of a buffer of these configurations."""
        self.x, self.log_w = state["x"].to(self.x, copy=True), state["log_w"].to(self.log_w, copy=True)
        self.place = int(state["place"])
        size = torch.tensor(len(self.x))
        self.n_added, self.most = (int(state.get(name, size)) for name in ("n_added", "most"))


def truncated(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """The weights over the largest one, (size,), and the same truncated at sqrt(N) times their mean; N have any."""
    w = torch.exp(log_w - log_w.max())
    n_held = torch.isfinite(log_w).sum()
    return w, torch.minimum(w, w.sum() / torch.sqrt(n_held))


def resampled(w: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """The places of n samples drawn in proportion to the weights w (size,), systematically: one random number."""
    cumulative = w.cumsum(0)
    u = torch.rand(1, generator=generator, dtype=torch.float64, device=w.device)
    at = (torch.arange(n, device=w.device) + u) / n * cumulative[-1]
    return torch.searchsorted(cumulative, at).clamp(max=len(w) - 1)
