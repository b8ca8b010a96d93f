"""A learnt scale and shift of every channel."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.lattice import REAL


class ActNorm(Transform):
    """x = e^s z + t, arXiv:1807.03039 section 3.1: the same numbers at all `sites`, for each of the `channels` its own.

    Fields are (B, *channels, *sites). It begins as the identity, s = t = 0, and not at the data's mean and width: the
    prior is known here, and the data are not. Without `shift` t stays 0, and it commutes with phi -> -phi.
    """

    domain = codomain = REAL

    def __init__(self, channels: tuple[int, ...], sites: tuple[int, ...], shift: bool) -> None:
        super().__init__()
        self.ones = [1] * len(sites)
        self.n_sites = torch.Size(sites).numel()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels)) if shift else None

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the map to the identity."""
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self.log_scale.to(z.dtype)
        x = z * self.everywhere(torch.exp(log_scale))
        x = x if self.shift is None else x + self.everywhere(self.shift.to(z.dtype))
        return x, self._log_det(log_scale, len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self.log_scale.to(x.dtype)
        z = x if self.shift is None else x - self.everywhere(self.shift.to(x.dtype))
        return z * self.everywhere(torch.exp(-log_scale)), -self._log_det(log_scale, len(x))

    def everywhere(self, numbers: Tensor) -> Tensor:
        """Numbers of the channels (*channels), shaped to be those of a field."""
        return numbers.reshape(*numbers.shape, *self.ones)

    def _log_det(self, log_scale: Tensor, n: int) -> Tensor:
        return (self.n_sites * log_scale.sum()).expand(n)


@forward_with_score.register
def _(transform: ActNorm, z: Tensor, score: Tensor) -> ScoredField:
    """A diagonal Jacobian that is the same everywhere."""
    scale = transform.everywhere(torch.exp(-transform.log_scale.detach().to(z.dtype)))
    return ScoredField(*transform.forward(z), score * scale)


@dataclass(frozen=True)
class ActNormPlan(TransformPlan):
    """A learnt scale, and with `shift` a shift, of every channel or coordinate; of a lattice without channels, one for
    all sites. Without `shift` it commutes with phi -> -phi. It begins as the identity.
    """

    shift: bool = True

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers."""
        check_real(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The map of these channels."""
        return ActNorm(fields.channels, fields.sites, self.shift)
