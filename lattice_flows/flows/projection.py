"""Mixtures of projected scalings of the circle: infinitely smooth, so that HMC may run through them."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.root import Bracket, solved

_MAX_RADIUS = 0.99  # of omega: slopes stay between 1/199 and 199


class ProjectionMixture(CircleTransform):
    """A convex mixture of `n_components` non-compact projections.

    arXiv:2101.08176 and arXiv:2003.06413 (after arXiv:2002.02428) scale tan(x/2) by e^s. With
    kappa = tanh(s/2) and a centre c that map is, free of singularities,

        y = x + 2 atan[kappa sin(x - c) / (1 - kappa cos(x - c))]
        dy/dx = (1 - kappa^2) / (1 - 2 kappa cos(x - c) + kappa^2)

    (c = 0 is the papers' form). Here kappa e^{ic} = omega = 0.99 h / sqrt(1 + h^2) is the point of the disc that
    belongs to a plane vector h: smooth also at kappa = 0, where the centre is undefined. There is no rigid
    shift: a bare number, it would break charge conjugation. Parameters: the mixture's logits, then the vectors h.
    """

    smooth: ClassVar[bool] = True
    even_scalars: ClassVar[bool] = True

    def __init__(self, n_components: int = 4) -> None:
        if not 1 <= n_components <= 100:
            raise ValueError(f"a mixture has 1 to 100 components, got n_components = {n_components}")
        self.n_scalars = n_components
        self.n_vectors = n_components

    def mirror(self, scalars: Tensor) -> Tensor:
        return scalars

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        displacement, slope = mixture(x, *self._components(parameters))
        return x + displacement, torch.log(slope)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        components = self._components(parameters)

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            displacement, slope = mixture(x, *components)
            return x + displacement - y, slope

        # Chains and trainings of before depend on the last digits.
        bracket = Bracket(y, math.pi)
        x = solved(excess, bracket, "the inverse of a projection", n_steps=1, settle=False)
        return x, -torch.log(mixture(x, *components)[1])

    def _components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights, omega's two coordinates and 1 - |omega|^2, each (n_components, ...)."""
        logits, u, v = parameters.movedim(-1, 0).chunk(3)
        return torch.softmax(logits, 0), *point_of_disc(u, v)


def point_of_disc(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two coordinates of the omega that belongs to h = (u, v), and 1 - |omega|^2."""
    squared = u * u + v * v
    scale = _MAX_RADIUS * torch.rsqrt(1.0 + squared)
    return scale * u, scale * v, 1.0 - scale * scale * squared


def mixture(x: Tensor, weights: Tensor, u: Tensor, v: Tensor, rim: Tensor) -> tuple[Tensor, Tensor]:
    """y - x and dy/dx, shaped like x. With 1 - conj(omega) e^{ix} = d - i n the angle is atan(n/d), and d > 0."""
    sin, cos = torch.sin(x), torch.cos(x)
    n = u * sin - v * cos
    d = 1.0 - u * cos - v * sin
    displacement = 2.0 * (weights * torch.atan(n / d)).sum(0)
    slope = (weights * (rim / (n * n + d * d))).sum(0)
    return displacement, slope
