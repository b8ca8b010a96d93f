"""The contract of invertible maps of one angle, whose parameters a network supplies."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class CircleTransform(ABC):
    """A diffeomorphism of the circle of degree one: y(x + 2 pi) = y(x) + 2 pi and dy/dx > 0.

    Parameters have shape (..., n_parameters) for angles (...), or one that broadcasts to it: first `n_scalars` numbers,
    then the cosine components of `n_vectors` plane vectors, then their sine components. A vector names a direction on
    the circle, and turns with it. All parameters zero is the identity. No angle is wrapped: y - x is a continuous
    function of x.
    """

    smooth: ClassVar[bool]  # infinitely differentiable; otherwise once, which HMC on a Pullback notices
    even_scalars: ClassVar[bool]  # `mirror` does nothing
    n_scalars: int
    n_vectors: int

    @property
    def n_parameters(self) -> int:
        return self.n_scalars + 2 * self.n_vectors

    @abstractmethod
    def mirror(self, scalars: Tensor) -> Tensor:
        """The scalars (n_scalars, ...) of the map -y(-x), whose vectors are the mirror images (cosine, -sine)."""

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """y(x) and log dy/dx, both shaped like x."""

    @abstractmethod
    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x(y) and log dx/dy, both shaped like y; differentiable with respect to y and the parameters."""
