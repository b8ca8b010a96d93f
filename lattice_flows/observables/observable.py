"""What is measured: a series of numbers per configuration, and the quantities that are estimated from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """An expectation value <transform(series)>, with its closed form where the theory has one."""

    name: str
    transform: Callable[[Array], Array]
    exact: Callable[[Any], float] | None = None
    """A function of the theory's oracle (`lattice_flows.exact`)."""


class Observable(ABC):
    """One number per configuration. Subclasses are frozen dataclasses of their parameters."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the stored series."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """Measure a block of configurations at once: (N, *event) -> (N,)."""

    @abstractmethod
    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """What is estimated from the series on this lattice."""
