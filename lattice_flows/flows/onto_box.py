"""From real numbers onto intervals, coordinate by coordinate."""

import math

import torch
from torch import Tensor

from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL, Interval, Product, Real, Space

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class OntoBox(Transform):
    """x = low + (high - low) Phi(z / width) of the coordinates in an interval, Phi the normal distribution function.

    Normal deviates of this width become uniform; coordinates on the line stay as they are. `space`, the codomain, is a
    product of intervals and lines: z and x are vectors (B, d). What is rounded to a wall comes back from its
    neighbourhood: no inverse is infinite.

    Raises ValueError for another space.
    """

    domain = REAL
    places: Tensor
    low: Tensor
    length: Tensor

    def __init__(self, space: Space, width: float = 1.0) -> None:
        super().__init__()
        parts = parts_of(space)
        intervals = [(k, part) for k, part in enumerate(parts) if isinstance(part, Interval)]
        self.codomain, self.width = space, width
        numbers = {"low": [part.low for _, part in intervals], "length": [part.length for _, part in intervals]}
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        self.register_buffer("places", torch.tensor([k for k, _ in intervals]), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = z[:, self.places] / self.width
        x = self.low.to(z.dtype) + self.length.to(z.dtype) * torch.special.ndtr(u)
        return z.index_copy(1, self.places, x), self._log_slope(u)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        share = (x[:, self.places] - self.low.to(x.dtype)) / self.length.to(x.dtype)
        edge = torch.finfo(x.dtype).eps
        u = torch.special.ndtri(share.clamp(edge, 1.0 - edge))
        return x.index_copy(1, self.places, self.width * u), -self._log_slope(u)

    def _log_slope(self, u: Tensor) -> Tensor:
        """log|det dx/dz|, (B,), at z / width = u (B, n)."""
        slopes = torch.log(self.length).to(u.dtype) - (_HALF_LOG_TWO_PI + math.log(self.width))
        return (slopes - 0.5 * u * u).sum(1)


def parts_of(space: Space) -> tuple[Space, ...]:
    """The spaces of a vector's coordinates. Raises ValueError unless each is an interval or the line."""
    parts = space.parts if isinstance(space, Product) else (space,)
    if not all(isinstance(part, (Interval, Real)) for part in parts):
        raise ValueError(f"vectors are made of real numbers and intervals, not of {space}")
    return parts
