"""The space of one field variable. Samplers, priors and files ask it for what depends on it."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.kernels.random import normals

Array = NDArray[Any]
Streams = NDArray[np.uint64]
Shape = tuple[int, ...]
Numbers = TypeVar("Numbers", Tensor, NDArray[np.float64])


class Space(ABC):
    """The manifold, or the set, of one field variable, with its reference measure.

    A variable is a number, or an array of `variable_shape`; a field of variables has these axes last, and a
    configuration the shape `event`, theirs included. A velocity and a momentum have `tangent_shape` in their place. The
    metric is the one for which components of the tangent are orthonormal: the kinetic energy is p^2 / 2.

    Fields of numpy hold chains, and those of torch are differentiated; both have a batch axis in front.
    """

    variable_shape: ClassVar[Shape] = ()
    tangent_shape: ClassVar[Shape | None] = ()
    """None where variables cannot move continuously: there is no molecular dynamics."""
    widest: ClassVar[float] = 1e6
    """The largest width of `perturb`, and of changes of single variables: wider ones reach nothing new, or are noise in
    the last digits of what they reach."""
    dtype: ClassVar[str] = "float64"
    """Of numpy, in which chains hold and files store the variables."""

    @abstractmethod
    def wrap(self, x: Tensor) -> Tensor:
        """The standard representatives of x (B, *event), which may lie outside by rounding or by a whole turn."""

    @abstractmethod
    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        """A random start for each stream, (B, *event): the reference measure where it can be normalised."""

    @abstractmethod
    def cold(self, event: Shape) -> Array:
        """The ordered start, (*event)."""

    @abstractmethod
    def fault(self, x: Tensor) -> str | None:
        """What is wrong with finite numbers x (B, *event) that should be such variables, or None.

        Roundings to single precision are no fault.
        """

    def stored(self, x: Array, dtype: str) -> Array:
        """Configurations in the dtype of a file, each still a standard representative."""
        return x.astype(dtype, copy=False)

    def perturb(self, x: Array, streams: Streams, width: float) -> tuple[Array, Streams]:
        """Every variable moved at random by about `width`, as likely as back: x (B, *event), and the streams."""
        momenta, streams = self.momenta(x, streams)
        moved, _ = self.drift(torch.from_numpy(x), torch.from_numpy(momenta), width)
        return self.wrap(moved).numpy(), streams

    def momenta(self, x: Array, streams: Streams) -> tuple[NDArray[np.float64], Streams]:
        """Fresh momenta at x (B, *event), distributed like exp(-kinetic), and the advanced streams."""
        event = self.tangent_event(x.shape[1:])
        momenta, streams = normals(streams, math.prod(event))
        return momenta.reshape(-1, *event), streams  # (B, *event of the tangent)

    def kinetic(self, momenta: Numbers) -> Numbers:
        """The kinetic energy p^2 / 2 of each configuration, (B,)."""
        return 0.5 * (momenta * momenta).reshape(len(momenta), -1).sum(1)

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        """Free motion for a molecular-dynamics time: where x and the momenta are then, x not wrapped.

        time: a number, or one for each configuration, shaped like x but for its axes of one number, (B, 1, ..., 1).
        """
        return x + time * momenta, momenta

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The derivative along the tangent at x, from that by the components of x: shaped like momenta."""
        return gradient

    def tangent_event(self, event: Shape) -> Shape:
        """The shape of the momenta of a configuration. Raises ValueError where there is no molecular dynamics."""
        if self.tangent_shape is None:
            raise ValueError(f"there is no molecular dynamics of {self}")
        return event[: len(event) - len(self.variable_shape)] + self.tangent_shape

    @abstractmethod
    def __str__(self) -> str:
        """What such variables are called in messages, in the plural."""
