"""Invertible maps with the logarithm of their Jacobian determinant.

`forward` maps latent z to field x. Code inside the package calls `.forward` and `.inverse` by name: the two are equals,
they are typed, and the hooks of `nn.Module.__call__` are not needed.
"""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from lattice_flows.lattice import Space


class Transform(nn.Module, ABC):
    """A bijection x = f(z) of fields (B, *event).

    z lives in `domain` and x in `codomain`. A transform names both or neither: x then lives where z does, wherever that
    is. The log determinants are relative to the reference measures of the two spaces.
    """

    domain: Space | None = None
    codomain: Space | None = None

    error: float = 0.0
    """A bound, beyond rounding, on what a variable is off by after map and inverse, and on the error of log_det:
    above 0 where one of them is integrated or iterated."""

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x = f(z), shaped like z, and log|det dx/dz|, (B,)."""

    @abstractmethod
    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f^-1(x), shaped like x, and log|det dz/dx|, (B,)."""


class Chain(Transform):
    """Transforms one after another: `forward` applies the first one first.

    Raises ValueError where one lives in another space than the one before it maps to.
    """

    def __init__(self, *transforms: Transform) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        named = [transform for transform in transforms if transform.domain is not None]
        for first, second in pairwise(named):
            if first.codomain != second.domain:
                one, other = type(first).__name__, type(second).__name__
                raise ValueError(f"{one} maps to {first.codomain}, but {other} after it maps {second.domain}")
        if named:
            self.domain, self.codomain = named[0].domain, named[-1].codomain

    @property
    def error(self) -> float:  # type: ignore[override]
        """That of all transforms, which `refine` may change."""
        return sum(transform.error for transform in self.sequence())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(z.shape[0])
        for transform in self.sequence():
            z, log_det = transform.forward(z)
            total = total + log_det
        return z, total

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0])
        for transform in reversed(self.sequence()):
            x, log_det = transform.inverse(x)
            total = total + log_det
        return x, total

    def sequence(self) -> list[Transform]:
        return cast("list[Transform]", list(self.transforms))


class Inverse(Transform):
    """A transform used backwards."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.domain, self.codomain = transform.codomain, transform.domain

    @property
    def error(self) -> float:  # type: ignore[override]
        """That of the transform, which `refine` may change."""
        return self.transform.error

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(z)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.transform.forward(x)
