"""Rational-quadratic splines on the circle."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.lattice import CIRCLE, TWO_PI

_MIN_BIN = 0.05  # of width and height, in units of the equal bin
_MIN_SLOPE = 1e-2  # at the knots
_UNIT_SLOPE = math.log(math.expm1(1.0 - _MIN_SLOPE))  # softplus of this is 1 - _MIN_SLOPE


class CircularSpline(CircleTransform):
    """A monotone rational-quadratic spline of `n_bins` bins on [-pi, pi) with equal slopes at both ends.

    arXiv:1906.04032 eqs. (4)-(8), on the circle arXiv:2002.02428. The spline acts in a coordinate turned by
    the direction of 1 + h, h the one vector among the parameters, and its result is turned back and by a shift:
    y = c + t + spline(x - c). Scalars: t, widths, heights, slopes. Once differentiable.
    """

    smooth: ClassVar[bool] = False
    even_scalars: ClassVar[bool] = False
    n_vectors = 1

    def __init__(self, n_bins: int = 8) -> None:
        if not 2 <= n_bins <= 100:
            raise ValueError(f"a spline has 2 to 100 bins, got n_bins = {n_bins}")
        self.n_bins = n_bins
        self.n_scalars = 1 + 3 * n_bins

    def mirror(self, scalars: Tensor) -> Tensor:
        """Shift and bins change sign and order; knot k, at the lower end of bin k, becomes knot -k."""
        k = self.n_bins
        shift, widths, heights, slopes = scalars.split([1, k, k, k])
        return torch.cat([-shift, widths.flip(0), heights.flip(0), slopes.flip(0).roll(1, 0)])

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        turn, shift, sizes, slopes = self._unpack(parameters)
        local = CIRCLE.wrap(x - turn)
        (x0, y0), (width, height), (d0, d1) = _bin(local, 0, sizes, slopes)
        s = height / width
        xi = (local - x0) / width
        mixed = xi * (1.0 - xi)
        denominator = s + (d0 + d1 - 2.0 * s) * mixed
        image = y0 + height * (s * xi * xi + d0 * mixed) / denominator
        return x + (image - local) + shift, log_slope_in_bin(s, xi, mixed, denominator, d0, d1)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        turn, shift, sizes, slopes = self._unpack(parameters)
        y = y - shift
        local = CIRCLE.wrap(y - turn)
        (x0, y0), (width, height), (d0, d1) = _bin(local, 1, sizes, slopes)
        s = height / width
        eta = (local - y0) / height
        curvature = eta * (d0 + d1 - 2.0 * s)
        a, b, c = s - d0 + curvature, d0 - curvature, -s * eta
        xi = -2.0 * c / (b + torch.sqrt((b * b - 4.0 * a * c).clamp_min(0.0)))
        mixed = xi * (1.0 - xi)
        denominator = s + (d0 + d1 - 2.0 * s) * mixed
        return y + (x0 + xi * width - local), -log_slope_in_bin(s, xi, mixed, denominator, d0, d1)

    def _unpack(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn and shift (...), bin widths and heights (2, n_bins, ...), slopes at the knots (n_bins, ...)."""
        k = self.n_bins
        shift, sizes, slopes, u, v = parameters.movedim(-1, 0).split([1, 2 * k, k, 1, 1])
        fractions = torch.softmax(sizes.unflatten(0, (2, k)), 1)
        sizes = TWO_PI * (_MIN_BIN / k + (1.0 - _MIN_BIN) * fractions)
        slopes = _MIN_SLOPE + functional.softplus(slopes + _UNIT_SLOPE)
        return torch.atan2(v, 1.0 + u).squeeze(0), shift.squeeze(0), sizes, slopes


Pair = tuple[Tensor, Tensor]


def _bin(local: Tensor, side: int, sizes: Tensor, slopes: Tensor) -> tuple[Pair, Pair, Pair]:
    """The bin that holds `local`, known by x (side 0) or by y (side 1): lower corner, sizes, slopes at its ends."""
    knots = torch.cumsum(sizes, 1) - math.pi  # upper ends (2, n_bins, ...)
    index = (local >= knots[side, :-1]).sum(0, keepdim=True)  # (1, ...)
    both = index.expand(2, 1, *local.shape)
    size = sizes.expand(2, -1, *local.shape).gather(1, both).squeeze(1)  # (2, ...)
    corner = knots.expand(2, -1, *local.shape).gather(1, both).squeeze(1) - size
    slope = slopes.expand(-1, *local.shape).gather(0, torch.cat([index, (index + 1) % slopes.shape[0]]))
    return _pair(corner), _pair(size), _pair(slope)


def _pair(values: Tensor) -> Pair:
    first, second = values.unbind(0)
    return first, second


def log_slope_in_bin(s: Tensor, xi: Tensor, mixed: Tensor, denominator: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """log dy/dx inside a bin, arXiv:1906.04032 eq. (5)."""
    numerator = d1 * xi * xi + 2.0 * s * mixed + d0 * (1.0 - xi) ** 2
    return torch.log(s * s * numerator / (denominator * denominator))
