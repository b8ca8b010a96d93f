"""Invertible maps of one real number, whose parameters a network supplies."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

_MAX_LOG_SCALE = 3.0  # of one map: a network's wild output far from its data does not overflow
_MAX_LOG_POWER = 1.5


class LineTransform(ABC):
    """A monotone map y(x) of the real line onto itself, with parameters of two kinds.

    `even` has shape (n_even, ...) and `odd` (n_odd, ...) for numbers (...), or one that broadcasts to it. The mirrored
    map has the same even parameters and the opposite odd ones: -y(-x; even, odd) = y(x; even, -odd). A network whose
    outputs are even and odd functions of the field therefore makes a coupling that commutes with phi -> -phi. All
    parameters zero is the identity.
    """

    smooth: ClassVar[bool]  # infinitely differentiable; otherwise once, which HMC on a Pullback notices
    n_even: int
    n_odd: int

    @abstractmethod
    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """y(x) and log dy/dx, both shaped like x."""

    @abstractmethod
    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """x(y) and log dx/dy, both shaped like y; differentiable with respect to y and the parameters."""


class Affine(LineTransform):
    """y = e^s x + t, arXiv:1605.08803 eq. (7), |s| < 3. Even: s. Odd: t."""

    smooth: ClassVar[bool] = True
    n_even = 1
    n_odd = 1

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        return x * torch.exp(log_scale) + odd[0], log_scale.expand_as(x)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        return (y - odd[0]) * torch.exp(-log_scale), -log_scale.expand_as(y)


class Shift(LineTransform):
    """y = x + t, the additive coupling of arXiv:1410.8516, which keeps the volume. Odd: t. No even parameters."""

    smooth: ClassVar[bool] = True
    n_even = 0
    n_odd = 1

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        return x + odd[0], 0.0 * x  # a function of x, whose derivative a score asks for

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        return y - odd[0], 0.0 * y


class SinhArcsinh(LineTransform):
    """y = w e^s sinh(e^d asinh(x / w)), |s| < 3, |d| < 1.5: the odd map of Jones and Pewsey, Biometrika 96 (2009) 761.

    For |x| >> w |y| grows like |x|^(e^d): d < 0 makes light tails out of normal ones, d = -log 2 those of a quartic
    potential. Even: s and d. There are no odd parameters. `width` is w.
    """

    smooth: ClassVar[bool] = True
    n_even = 2
    n_odd = 0

    def __init__(self, width: float = 1.0) -> None:
        self.width = width

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        s, d = bounded(even[0], _MAX_LOG_SCALE), bounded(even[1], _MAX_LOG_POWER)
        scaled = x / self.width
        angle = torch.exp(d) * torch.asinh(scaled)
        return self.width * torch.exp(s) * torch.sinh(angle), s + _log_slope(d, angle, scaled)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        s, d = bounded(even[0], _MAX_LOG_SCALE), bounded(even[1], _MAX_LOG_POWER)
        angle = torch.asinh(y * torch.exp(-s) / self.width)
        scaled = torch.sinh(torch.exp(-d) * angle)
        return self.width * scaled, -s - _log_slope(d, angle, scaled)


def bounded(x: Tensor, limit: float) -> Tensor:
    """x where it is small, and always between -limit and limit: smooth and odd."""
    return limit * torch.tanh(x / limit)


def mirrored(even: Tensor, odd: Tensor) -> Tensor:
    """The sequence whose symmetric part has the first half `even` and whose antisymmetric part has `odd`."""
    n = len(odd)
    return torch.cat([even[:n] + odd, even[n:], (even[:n] - odd).flip(0)])


def _log_slope(d: Tensor, angle: Tensor, scaled: Tensor) -> Tensor:
    """log of d sinh(e^d asinh(u))/du at u = `scaled`, where e^d asinh(u) = `angle`, without overflow."""
    size = angle.abs()
    return d + size + torch.log1p(torch.exp(-2.0 * size)) - math.log(2.0) - 0.5 * torch.log1p(scaled * scaled)
