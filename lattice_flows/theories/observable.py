"""What is measured: a series of numbers per configuration, and the quantities that are estimated from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.lattice import Space

Array = NDArray[np.float64]


def identity(series: Array) -> Array:
    """The series itself."""
    return series


class Term(NamedTuple):
    """The mean of transform(series): the series' name and the transform."""

    series: str
    transform: Callable[[Array], Array] = identity


@dataclass(frozen=True)
class Quantity:
    """What is estimated: function(<term_1>, <term_2>, ...), with its closed form where the theory has one.

    It takes means of series that were measured on the same configurations. Without a function it is the mean itself.
    """

    name: str
    terms: tuple[Term, ...]
    function: Callable[..., float] | None = None
    exact: Callable[[Any], float] | None = None
    """A function of the theory's closed forms, `Action.exact`."""
    by_symmetry: bool = False
    """The exact value follows from a symmetry: `exact` takes None where there are no closed forms."""
    least_n_eff: float = 0.0
    """With fewer independent configurations its distribution is too skewed for an error to say much."""


class Observable(ABC):
    """One number per configuration. Subclasses are frozen dataclasses of their parameters."""

    space: ClassVar[Space]
    """Of the fields it is measured on."""

    odd: ClassVar[bool] = False
    """Its sign changes under a symmetry of the theory."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the stored series."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """Measure a block of configurations at once: (N, *event) -> (N,)."""

    @abstractmethod
    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """What is estimated on this lattice, if all series that it takes are measured."""
