"""Networks of couplings that see real numbers and angles."""

import torch
from torch import Tensor, nn

from lattice_flows.flows.line_transform import bounded
from lattice_flows.flows.vector_context import VectorContext

_FARTHEST = 5.0  # a number is seen to be from 0: what one coupling throws far away does not throw others


class MixedContext(nn.Module):
    """Parameters of the active variables' maps from frozen numbers and angles; angles are seen as cosine and sine.

    angles (n_frozen,): which of them are angles. The network is that of vectors; n_even and n_odd are the numbers of
    parameters of a line transform.
    """

    lines: Tensor
    angles: Tensor

    def __init__(self, angles: Tensor, n_active: int, hidden: tuple[int, ...], n_even: int, n_odd: int) -> None:
        super().__init__()
        self.register_buffer("lines", torch.nonzero(~angles).squeeze(1), persistent=False)
        self.register_buffer("angles", torch.nonzero(angles).squeeze(1), persistent=False)
        n_seen = len(self.lines) + 2 * len(self.angles)
        self.network = VectorContext(n_seen, n_active, hidden, n_even, n_odd)

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_frozen, 1, B) -> even (n_even, n_active, B) and odd (n_odd, n_active, B)."""
        angles = near[self.angles]
        lines = bounded(near[self.lines], _FARTHEST)
        return self.network.forward(torch.cat([lines, torch.cos(angles), torch.sin(angles)]))


class CircleContext(nn.Module):
    """As `MixedContext`, of active angles: the parameters of a circle transform."""

    def __init__(self, angles: Tensor, n_active: int, hidden: tuple[int, ...], n_parameters: int) -> None:
        super().__init__()
        self.network = MixedContext(angles, n_active, hidden, n_parameters, 0)

    def forward(self, near: Tensor) -> tuple[Tensor]:
        """near (n_frozen, 1, B) -> (n_active, B, n_parameters)."""
        return (self.network.forward(near)[0].movedim(0, -1),)
