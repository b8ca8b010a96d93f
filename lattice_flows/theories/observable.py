"""Observables: a series with one number per configuration, and the quantities that are estimated from it."""

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
    """A quantity to estimate: function(<term_1>, <term_2>, ...), with its closed form if the theory has one.

    The terms are means of series measured on the same configurations. Without a function it is the mean itself.
    """

    name: str
    terms: tuple[Term, ...]
    function: Callable[..., float] | None = None
    exact: Callable[[Any], float] | None = None
    """A function of the theory's closed forms, `Action.exact`."""
    by_symmetry: bool = False
    """The exact value follows from a symmetry: `exact` is called with None if there are no closed forms."""
    least_n_eff: float = 0.0
    """With fewer independent configurations the distribution is too skewed for a meaningful error."""


class Observable(ABC):
    """One number per configuration. Subclasses are frozen dataclasses of their parameters."""

    space: ClassVar[Space]
    """The space of the fields on which it is measured."""

    odd: ClassVar[bool] = False
    """The observable changes sign under a symmetry of the theory."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the stored series."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """Measure a block of configurations together: (N, *event) -> (N,)."""

    @abstractmethod
    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """The quantities to estimate on this lattice, provided that all series they need are measured."""
