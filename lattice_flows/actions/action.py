"""What is sampled: couplings, S(x) and force(x)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.lattice import Space

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


class ActionKernels(NamedTuple):
    """The compiled forms of an action at its couplings: arrays in, arrays out, a batch axis first."""

    action: Callable[[Array], Array]
    """x (N, *event) -> S (N,)"""
    force: Callable[[Array], Array]
    """x (N, *event) -> -dS/dx"""
    leapfrog: Callable[[Array, Array, float, int], tuple[Array, Array]]
    """x, momenta, step_size, n_md_steps -> the end of the trajectory"""
    trajectories: Callable[[Array, Array, Streams, float, int, int], tuple[Array, Array, Streams, Array, Array]]
    """x, S, streams, step_size, n_md_steps, n_updates -> x, S, streams, accepted fraction, last delta_h"""


class Action(ABC):
    """A target density p(x) = exp(-S(x)) / Z relative to the reference measure of its space.

    Subclasses are frozen dataclasses of couplings. They know no lattice size.
    """

    space: ClassVar[Space]

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """S of each configuration: x (B, *event) -> (B,), float64."""

    def kernels(self, event: tuple[int, ...]) -> ActionKernels | None:
        """The compiled forms for configurations of shape `event`, where there are any."""
        return None

    def evaluate(self, x: Array) -> Array:
        """S of an array of configurations (N, *event) -> (N,), compiled where possible."""
        kernels = self.kernels(x.shape[1:])
        return kernels.action(x) if kernels else self(torch.from_numpy(x)).numpy()

    def force(self, x: Tensor) -> Tensor:
        """-dS/dx, shaped and typed like x; by autograd unless a subclass writes it out."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self(x).sum(), x)
        return -gradient
