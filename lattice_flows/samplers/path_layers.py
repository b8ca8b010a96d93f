"""The layers of a stochastic normalizing flow: transforms, and random steps that know their way back.

A layer maps x to x' and tells log R = log b(x|x') - log f(x'|x), by which log q decreases as by the log det of a
transform; f is the density of its step, b that of its step backwards (arXiv:2002.06707, eq. 14).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lattice_flows.flows import Transform
from lattice_flows.kernels.random import normals, split_streams
from lattice_flows.samplers.annealing_path import updated
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action, Field


class Step(NamedTuple):
    """x (B, *event) after a layer, or before it on the way back, and log R of the layer from before to after (B,)."""

    x: Tensor
    log_ratio: Tensor


class PathLayer(nn.Module, ABC):
    """A step of a path, in both directions; what is random in it comes from streams (B, 2)."""

    @abstractmethod
    def forward(self, x: Tensor, streams: Streams) -> Step:
        """The step from x (B, *event)."""

    @abstractmethod
    def backward(self, x: Tensor, streams: Streams) -> Step:
        """The step to x, drawn backwards from it."""


class Random(PathLayer):
    """A step that is random, at an action."""

    action: Action


class Deterministic(PathLayer):
    """A transform, whose log R is its log det."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, streams: Streams) -> Step:
        return Step(*self.transform.forward(x))

    def backward(self, x: Tensor, streams: Streams) -> Step:
        z, log_det = self.transform.inverse(x)
        return Step(z, -log_det)


class Markov(Random):
    """Updates of a sampler that keeps exp(-S): log R = S(x') - S(x).

    Its x' is a constant: gradients do not go through the updates, only through S(x) to the layer before.
    """

    def __init__(self, kernel: Sampler, n_updates: int) -> None:
        super().__init__()
        self.action, self.kernel, self.n_updates = kernel.action, kernel, n_updates

    def forward(self, x: Tensor, streams: Streams) -> Step:
        after = updated(self.kernel, _array(x), streams, self.n_updates)
        return Step(_like(after, x), self._action(x, after) - self._action(x))

    def backward(self, x: Tensor, streams: Streams) -> Step:
        before = updated(self.kernel.reversed(), _array(x), streams, self.n_updates)
        return Step(_like(before, x), self._action(x) - self._action(x, before))

    def _action(self, x: Tensor, at: Field | None = None) -> Tensor:
        """S of x, or of the array `at`, in double precision; compiled where no gradient is asked for."""
        if at is None and torch.is_grad_enabled() and x.requires_grad:
            return self.action(x)
        return torch.from_numpy(self.action.evaluate(_array(x) if at is None else at)).to(x.device)


class Langevin(Random):
    """Steps x' = x + h F(x) + sqrt(2 h) eta of the Langevin equation, F = -dS/dx, without a Metropolis test.

    They do not keep exp(-S) exactly. log R is that of the Gaussian densities of the steps and of those back, which are
    steps of the same kind.
    """

    def __init__(self, action: Action, step_size: float, n_updates: int) -> None:
        super().__init__()
        self.action, self.step_size, self.n_updates = action, step_size, n_updates

    def forward(self, x: Tensor, streams: Streams) -> Step:
        x, ratio = self._walk(x, streams)
        return Step(x, ratio)

    def backward(self, x: Tensor, streams: Streams) -> Step:
        x, ratio = self._walk(x, streams)
        return Step(x, -ratio)

    def _walk(self, x: Tensor, streams: Streams) -> Step:
        """The end of a walk, and the log density of the walk back less that of the walk."""
        x = x.detach()
        total = x.new_zeros(len(x), dtype=torch.float64)
        force = self._force(x)
        for k in range(self.n_updates):
            noise, _ = normals(split_streams(streams, k), x[0].numel())
            eta = _like(noise.reshape(x.shape), x)
            change = self.step_size * force + (2.0 * self.step_size) ** 0.5 * eta
            x = self.action.space.wrap(x + change)
            after = self._force(x)
            back = (change + self.step_size * after).square().flatten(1).sum(1, dtype=torch.float64)
            total = total + 0.5 * eta.square().flatten(1).sum(1, dtype=torch.float64) - back / (4.0 * self.step_size)
            force = after
        return Step(x, total)

    def _force(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.action.force(x)


def _array(x: Tensor) -> Array:
    """The configurations in double precision, in memory of the host."""
    return np.ascontiguousarray(x.detach().double().cpu().numpy())


def _like(x: NDArray[np.float64], other: Tensor) -> Tensor:
    return torch.from_numpy(x).to(device=other.device, dtype=other.dtype)
