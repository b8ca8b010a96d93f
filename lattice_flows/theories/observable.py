"""Observables: a series with one number per configuration, and the quantities that are estimated from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Field = NDArray[Any]


def identity(series: Array) -> Array:
    """The series itself."""
    return series


class Label(NamedTuple):
    """The short name of a quantity in three notations: for a terminal, a page, and a figure."""

    plain: str
    page: str
    tex: str


def named(name: str) -> Label:
    """The label of what has none of its own."""
    return Label(name, name, name.replace("_", " "))


class Term(NamedTuple):
    """The mean of transform(series): the series' name and the transform."""

    series: str
    transform: Callable[[Array], Array] = identity


def closed_form(name: str, *arguments: Any) -> Callable[[Any], Any]:
    """What closed forms know by this name, with these arguments if it is a function; None where they do not."""

    def of(oracle: Any) -> Any:
        found = getattr(oracle, name, None)
        return found(*arguments) if callable(found) else found

    return of


@dataclass(frozen=True)
class Quantity:
    """A quantity to estimate: function(<term_1>, <term_2>, ...), with its closed form if the theory has one.

    The terms are means of series measured on the same configurations. Without a function it is the mean itself.
    """

    name: str
    terms: tuple[Term, ...]
    function: Callable[..., float] | None = None
    exact: Callable[[Any], float | None] | None = None
    """A function of the theory's closed forms, `Action.closed_forms`; None where they do not know it."""
    by_symmetry: bool = False
    """The exact value follows from a symmetry: `exact` is called with None if there are no closed forms."""
    label: Label | None = None
    """Its short name, where the name is not short."""
    least_n_eff: float = 0.0
    """With fewer independent configurations the distribution is too skewed for a meaningful error."""
    of_updates: bool = False
    """The terms are averages that a sampler has made over configurations of its own, as improved estimators are: the
    weights of the chain's configurations do not apply to them."""
    of_couplings: bool = False
    """What is measured depends on the couplings, so that its averages belong to those of the chain alone."""

    @property
    def short(self) -> Label:
        """The label, or the name itself."""
        return self.label or named(self.name)


class Observable(ABC):
    """One number per configuration.

    Subclasses are frozen dataclasses of their parameters, the keys of a card's [[observable]] table. One with a field
    `action` gets that of the theory.
    """

    kind: ClassVar[str]
    """The name in a card."""

    label: ClassVar[Label | None] = None
    """The short name of the mean of the series."""

    odd: ClassVar[bool] = False
    """The observable changes sign under a symmetry of the theory."""

    drawn: ClassVar[bool] = False
    """A report draws its history, its distribution and its autocorrelation."""

    flowable: ClassVar[bool] = False
    """It can be measured after the gradient flow of gauge fields."""

    def parameters(self) -> dict[str, Any]:
        """The keys of a card from which the observable is made, without the action."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "action"}  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The name of the stored series."""
        return self.kind

    @abstractmethod
    def __call__(self, x: Field) -> Array:
        """Measure a block of configurations together: (N, *event) -> (N,)."""

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """The quantities to estimate on this lattice, provided that all series they need are measured: the mean."""
        return (Quantity(self.kind, (Term(self.name),), label=self.label),)


@dataclass(frozen=True)
class Stored(Observable):
    """A series of a file whose observable is not known here: the code that measured it is not installed."""

    kind: ClassVar[str] = "stored"
    series: str

    @property
    def name(self) -> str:
        return self.series

    def __call__(self, x: Array) -> Array:
        """Raise ValueError."""
        raise ValueError(f"{self.name} cannot be measured: the code of this observable is not installed")

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """Its mean."""
        return (Quantity(self.name, (Term(self.name),)),)
