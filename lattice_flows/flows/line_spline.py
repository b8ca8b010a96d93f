"""Rational-quadratic splines on the real line."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.line_transform import LineTransform, bounded, mirrored
from lattice_flows.flows.spline import log_slope_in_bin

_MAX_LOG_SCALE = 3.0  # of one map: a network's wild output far from its data does not overflow
_MAX_SLOPE_LOGIT = 10.0  # likewise
_MIN_BIN = 0.05  # of width and height, in units of the equal bin
_MIN_SLOPE = 1e-2  # at the knots
_UNIT_SLOPE = math.log(math.expm1(1.0 - _MIN_SLOPE))  # softplus of this is 1 - _MIN_SLOPE


class LineSpline(LineTransform):
    """y = e^s spline(x) + t: a monotone rational-quadratic spline of `n_bins` bins on [-bound, bound], |s| < 3.

    arXiv:1906.04032 eqs. (4)-(8); outside the spline is linear with the slopes of its outermost knots. Even: s, and the
    mirror-symmetric parts of the bins' widths, their heights and the knots' slopes; odd: t, and the antisymmetric
    parts. Once differentiable.

    Raises ValueError for n_bins outside 2 to 100 and a bound that is not positive.
    """

    smooth: ClassVar[bool] = False

    def __init__(self, n_bins: int = 8, bound: float = 4.0) -> None:
        if not 2 <= n_bins <= 100:
            raise ValueError(f"a spline has 2 to 100 bins, got n_bins = {n_bins}")
        if not 0 < bound < math.inf:
            raise ValueError(f"a spline's interval has bound > 0, got bound = {bound}")
        self.n_bins, self.bound = n_bins, bound
        self.sizes = (n_bins, n_bins, n_bins + 1)  # widths, heights, slopes
        self.n_even = 1 + sum((n + 1) // 2 for n in self.sizes)
        self.n_odd = 1 + sum(n // 2 for n in self.sizes)

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        (x_knots, y_knots), slopes = self._knots(even, odd)
        inner = x.clamp(-self.bound, self.bound)
        image, log_slope = image_in_bin(inner, *_bin(inner, x_knots, x_knots, y_knots, slopes))
        image = image + (x - inner) * torch.where(x > 0, slopes[-1], slopes[0])
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        return torch.exp(log_scale) * image + odd[0], log_scale + log_slope

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        (x_knots, y_knots), slopes = self._knots(even, odd)
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        y = (y - odd[0]) * torch.exp(-log_scale)
        inner = y.clamp(-self.bound, self.bound)
        origin, log_slope = origin_in_bin(inner, *_bin(inner, y_knots, x_knots, y_knots, slopes))
        x = origin + (y - inner) / torch.where(y > 0, slopes[-1], slopes[0])
        return x, -log_slope - log_scale

    def _knots(self, even: Tensor, odd: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """x and y of the knots and the slopes there, (n_bins + 1, ...) each."""
        evens = even[1:].split([(n + 1) // 2 for n in self.sizes])
        odds = odd[1:].split([n // 2 for n in self.sizes])
        widths, heights, slopes = (mirrored(e, o) for e, o in zip(evens, odds))
        slopes = _MIN_SLOPE + functional.softplus(bounded(slopes, _MAX_SLOPE_LOGIT) + _UNIT_SLOPE)
        return (self._positions(widths), self._positions(heights)), slopes

    def _positions(self, logits: Tensor) -> Tensor:
        k = self.n_bins
        fractions = _MIN_BIN / k + (1.0 - _MIN_BIN) * torch.softmax(logits, 0)
        ends = torch.cumsum(2.0 * self.bound * fractions[:-1], 0) - self.bound
        edge = torch.full_like(ends[:1], self.bound)
        return torch.cat([-edge, ends, edge])


Pair = tuple[Tensor, Tensor]  # what a bin has at both ends


def image_in_bin(at: Tensor, x: Pair, y: Pair, slopes: Pair) -> Pair:
    """y(at) and log dy/dx there, inside the bin with these ends."""
    (x0, x1), (y0, y1), (d0, d1) = x, y, slopes
    width, height = x1 - x0, y1 - y0
    s = height / width
    xi = (at - x0) / width
    mixed = xi * (1.0 - xi)
    denominator = s + (d0 + d1 - 2.0 * s) * mixed
    log_slope = log_slope_in_bin(s, xi, mixed, denominator, d0, d1)
    return y0 + height * (s * xi * xi + d0 * mixed) / denominator, log_slope


def origin_in_bin(at: Tensor, x: Pair, y: Pair, slopes: Pair) -> Pair:
    """x of y(x) = at and log dy/dx there, inside the bin with these ends."""
    (x0, x1), (y0, y1), (d0, d1) = x, y, slopes
    width, height = x1 - x0, y1 - y0
    s = height / width
    eta = (at - y0) / height
    curvature = eta * (d0 + d1 - 2.0 * s)
    a, b, c = s - d0 + curvature, d0 - curvature, -s * eta
    xi = -2.0 * c / (b + torch.sqrt((b * b - 4.0 * a * c).clamp_min(0.0)))
    mixed = xi * (1.0 - xi)
    log_slope = log_slope_in_bin(s, xi, mixed, s + (d0 + d1 - 2.0 * s) * mixed, d0, d1)
    return x0 + xi * width, log_slope


def _bin(at: Tensor, knots: Tensor, *tables: Tensor) -> tuple[Pair, ...]:
    """The values of each table (n_bins + 1, ...) at both ends of the bin of `knots` that holds `at`."""
    lower = (at >= knots[1:-1]).sum(0, keepdim=True)  # (1, ...)
    ends = torch.cat([lower, lower + 1])
    pairs = [table.expand(-1, *at.shape).gather(0, ends).unbind(0) for table in tables]
    return tuple((first, second) for first, second in pairs)
