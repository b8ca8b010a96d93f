"""Monotone networks of one real number."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.line_transform import LineTransform, bounded, mirrored
from lattice_flows.flows.root import between, solved

_MAX_LOG_SLOPE = 3.0  # a network's wild output far from its data does not overflow
_MIN_GAP = 0.05  # between two steps, in units of the equal one
_SHARPNESS = 4.0  # widths of a step per equal gap


class MonotoneNetwork(LineTransform):
    """y = t + the integral from 0 to x of a positive network of one hidden layer of `n_units` sigmoids.

    The integrand goes in smooth steps from one positive slope to the next, at ordered places a_1 < ... < a_n in
    (-bound, bound),

        dy/dx = h_0 + sum_j (h_j - h_(j-1)) sigma((x - a_j) / r),    h_j = e^(p_j),  |p_j| < 3,

    with r a fourth of the mean gap. It is a mean of the h_j with weights above 0, and its integral is a sum of
    softplus functions: a monotone network as in arXiv:1804.00779 and arXiv:1908.05164, whose weights all come from the
    context, without a quadrature. (A network with weights of its own, which takes the context as further inputs, is not
    the identity at zero outputs, and not odd.) Between steps it is linear: a smooth relative of `LineSpline`.

    Even: the mirror-symmetric parts of p and of the gaps; odd: t and the antisymmetric parts. Infinitely
    differentiable. The inverse is a search for roots.

    Raises ValueError for n_units outside 1 to 100 and a bound that is not positive.
    """

    smooth: ClassVar[bool] = True

    def __init__(self, n_units: int = 8, bound: float = 4.0) -> None:
        if not 1 <= n_units <= 100:
            raise ValueError(f"a monotone network has 1 to 100 units, got n_units = {n_units}")
        if not 0 < bound < math.inf:
            raise ValueError(f"a monotone network's interval has bound > 0, got bound = {bound}")
        self.n_units, self.bound = n_units, bound
        n_slopes = n_units + 1  # and as many gaps, those to the ends of the interval among them
        self.halves, self.pairs = (n_slopes + 1) // 2, n_slopes // 2
        self.n_even = 2 * self.halves
        self.n_odd = 1 + 2 * self.pairs

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = self._integral(x, *self._steps(even, odd))
        return y + odd[0], torch.log(slope)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        slopes, places = self._steps(even, odd)
        y = y - odd[0]

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            image, slope = self._integral(x, slopes, places)
            return image - y, slope

        ends = torch.stack([y / slopes.amin(0), y / slopes.amax(0)])
        x = solved(excess, between(ends.amin(0), ends.amax(0)), "the inverse of a monotone network")
        return x, -torch.log(self._integral(x, slopes, places)[1])

    def _steps(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes (n_units + 1, ...), and the places of the steps between them (n_units, ...)."""
        slopes_even, gaps_even = even.split(self.halves)
        slopes_odd, gaps_odd = odd[1:].split(self.pairs)
        slopes = torch.exp(bounded(mirrored(slopes_even, slopes_odd), _MAX_LOG_SLOPE))
        fractions = torch.softmax(mirrored(gaps_even, gaps_odd), 0)
        gaps = 2.0 * self.bound * (_MIN_GAP / (self.n_units + 1) + (1.0 - _MIN_GAP) * fractions)
        return slopes, torch.cumsum(gaps[:-1], 0) - self.bound

    def _integral(self, x: Tensor, slopes: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The integral from 0 to x and the integrand, both shaped like x."""
        width = 2.0 * self.bound / ((self.n_units + 1) * _SHARPNESS)
        u, origin = (x - places) / width, -places / width
        steps = slopes.diff(dim=0)
        rise = (steps * (_softplus(u) - _softplus(origin))).sum(0)
        return slopes[0] * x + width * rise, slopes[0] + (steps * torch.sigmoid(u)).sum(0)


def _softplus(u: Tensor) -> Tensor:
    return functional.softplus(u, threshold=40.0)  # torch's own, 20, is linear where 2e-9 is left
