"""The space of one field variable: the circle or the real line.

Samplers and priors ask the space for what depends on it, so that none of them is rewritten per theory.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

TWO_PI = 2.0 * math.pi


class Space(ABC):
    """The manifold of one field variable, with its reference measure."""

    name: str  # of the stored dataset: /fields/NAME
    diameter: float  # no change of one variable need be larger

    @abstractmethod
    def wrap(self, x: Tensor) -> Tensor:
        """The standard representative of x, same shape."""

    @abstractmethod
    def hot(self, u: Tensor) -> Tensor:
        """A random start from uniform deviates u in [0, 1): the reference measure where it can be normalised."""

    def cold(self, u: Tensor) -> Tensor:
        """The ordered start, the zero of the field, shaped like u."""
        return torch.zeros_like(u)

    def stored(self, x: np.ndarray, dtype: str) -> np.ndarray:
        """Configurations in the dtype of a file, each still a standard representative."""
        return x.astype(dtype, copy=False)

    def drift(self, x: Tensor, momenta: Tensor, time: float) -> Tensor:
        """Free motion for a molecular-dynamics time: the exponential map of time * momenta at x."""
        return x + time * momenta


class Circle(Space):
    """Angles in [-pi, pi) with the measure d theta / 2 pi."""

    name = "theta"
    diameter = math.pi

    def wrap(self, x: Tensor) -> Tensor:
        wrapped = x - TWO_PI * torch.floor((x + math.pi) / TWO_PI)
        # Rounding of x + pi can miss either end of the half-open interval by a digit.
        return torch.where(wrapped >= math.pi, wrapped - TWO_PI, wrapped).clamp(min=-math.pi)

    def hot(self, u: Tensor) -> Tensor:
        return self.wrap(TWO_PI * u - math.pi)

    def stored(self, x: np.ndarray, dtype: str) -> np.ndarray:
        if x.dtype == dtype:
            return x
        # The nearest single-precision number to pi lies beyond it.
        edge = np.nextafter(np.asarray(math.pi, dtype), np.asarray(0, dtype))
        return np.clip(x.astype(dtype), -edge, edge)


class Real(Space):
    """Real numbers with the measure d phi; a hot start is a standard normal."""

    name = "phi"
    diameter = math.inf

    def wrap(self, x: Tensor) -> Tensor:
        return x

    def hot(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(0.5 * (u + torch.nextafter(u, torch.ones_like(u))))


CIRCLE = Circle()
REAL = Real()
