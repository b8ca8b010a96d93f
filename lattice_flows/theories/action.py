"""What is sampled: couplings, S(x) and force(x)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.kernels import hmc
from lattice_flows.kernels.molecular_dynamics import Couplings
from lattice_flows.lattice import Space

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


class LocalUpdates(NamedTuple):
    """The compiled sweeps of an action at its couplings."""

    metropolis: Callable[[Array, Streams, float, int], tuple[Array, Streams, Array]]
    """x, streams, width, n_sweeps -> x, streams, accepted fraction"""
    heatbath: Callable[[Array, Streams, int], tuple[Array, Streams]]
    """x, streams, n_sweeps -> x, streams"""
    overrelaxation: Callable[[Array, Streams, int], tuple[Array, Streams, Array]]
    """x, streams, n_sweeps -> x, streams, accepted fraction"""


DirectSampler = Callable[[tuple[int, ...], Streams], tuple[Array, Streams]]
"""event shape, streams (B, 2) -> x (B, *event), streams"""


class Action(ABC):
    """A target density p(x) = exp(-S(x)) / Z relative to the reference measure of its space.

    Subclasses are frozen dataclasses of couplings. They know no lattice size.
    """

    space: ClassVar[Space]
    dimensions: ClassVar[range]
    """Of the lattices that a card can ask for."""

    @abstractmethod
    def event_shape(self, lattice_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one configuration. Raises ValueError for a lattice on which the theory is not defined."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """S of each configuration: x (B, *event) -> (B,), float64."""

    def hot(self, u: Tensor) -> Tensor:
        """A random start from uniform deviates u (B, *event) in [0, 1)."""
        return self.space.hot(u)

    def kernel_couplings(self, event: tuple[int, ...]) -> Couplings | None:
        """What `kernels.hmc` takes to compute with this action on configurations of shape `event`, where it can."""
        return None

    def local_updates(self, event: tuple[int, ...]) -> LocalUpdates | None:
        """The compiled sweeps for configurations of shape `event`, where there are any."""
        return None

    def exact(self, lattice_shape: tuple[int, ...]) -> Any:
        """The closed forms on this lattice (`lattice_flows.theories`), or None."""
        return None

    def direct_sampler(self) -> DirectSampler | None:
        """Draws independent configurations, where that is possible."""
        return None

    def multiple_of(self, other: "Action") -> float | None:
        """The number c with S = c S_other for every configuration, None where there is none."""
        return 1.0 if self == other else None

    def evaluate(self, x: Array) -> Array:
        """S of an array of configurations (N, *event) -> (N,), compiled where possible."""
        couplings = self.kernel_couplings(x.shape[1:])
        return self(torch.from_numpy(x)).numpy() if couplings is None else hmc.action(couplings, x)

    def force(self, x: Tensor) -> Tensor:
        """-dS/dx, shaped and typed like x; by autograd unless a subclass writes it out."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self(x).sum(), x)
        return -gradient
