"""Linear mixtures of the channels at each site."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.lattice import REAL


class ChannelMixing(Transform):
    """x = L U z of the channels at every site, arXiv:1807.03039 section 3.2, odd under phi -> -phi.

    L is lower triangular with ones on its diagonal, U upper triangular with e^s on its own: log_det is the number of
    sites times sum s. Fields are (B, C, *sites). There is no permutation beside them: the identity, where it begins,
    has none.
    """

    domain = codomain = REAL

    def __init__(self, n_channels: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.n_sites = torch.Size(sites).numel()
        self.triangles = nn.Parameter(torch.zeros(n_channels, n_channels))  # L below the diagonal, U above, s on it

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the map to the identity."""
        nn.init.zeros_(self.triangles)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.factors(z.dtype)
        columns = z.reshape(*z.shape[:2], self.n_sites)  # (B, C, V)
        return (lower @ upper @ columns).view_as(z), self._log_det(z)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.factors(x.dtype)
        columns = x.reshape(*x.shape[:2], self.n_sites)  # (B, C, V)
        half = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True).view_as(x), -self._log_det(x)

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """L and U, (C, C)."""
        weights = self.triangles.to(dtype)
        scales = torch.exp(weights.diagonal())
        lower = torch.tril(weights, -1) + torch.diag(torch.ones_like(scales))
        return lower, torch.triu(weights, 1) + torch.diag(scales)

    def _log_det(self, field: Tensor) -> Tensor:
        return (self.n_sites * self.triangles.diagonal().to(field.dtype).sum()).expand(len(field))


@forward_with_score.register
def _(transform: ChannelMixing, z: Tensor, score: Tensor) -> ScoredField:
    """A Jacobian that is the same everywhere: the score goes through the transpose of its inverse."""
    lower, upper = (factor.detach() for factor in transform.factors(z.dtype))
    columns = score.reshape(*score.shape[:2], transform.n_sites)  # (B, C, V)
    half = torch.linalg.solve_triangular(upper.T, columns, upper=False)
    after = torch.linalg.solve_triangular(lower.T, half, upper=True, unitriangular=True)
    return ScoredField(*transform.forward(z), after.view_as(score))


@dataclass(frozen=True)
class ChannelMixingPlan(TransformPlan):
    """An invertible matrix that mixes the channels at each site, or the coordinates of vectors; see `ChannelMixing`."""

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers, and fewer than two channels."""
        check_real(fields)
        if len(fields.channels) != 1 or fields.channels[0] < 2:
            raise ValueError(f"needs 2 channels or more, as inside 'blocks', or vectors; got {fields}")

    def assemble(self, fields: Fields) -> Transform:
        """The matrix of these channels."""
        return ChannelMixing(fields.channels[0], fields.sites)
