"""A transform yet to be built: options are checked at once, weights are made when the fields are known."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar, NamedTuple

from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable, name_of
from lattice_flows.flows.plan import Ability
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action


class Fields(NamedTuple):
    """The configurations that a transform maps, and what is known of them.

    `shape` is that of one: `sites`, the lattice's; or channels and sites, (C, *sites), inside "blocks"; or (d,) of
    vectors, whose `sites` are (). `width` is the standard deviation of a variable, roughly: the scale of maps. `action`
    is the target's.
    """

    shape: tuple[int, ...]
    sites: tuple[int, ...]
    space: Space
    width: float
    action: Action

    @property
    def channels(self) -> tuple[int, ...]:
        """(C,) or (), (d,) of vectors."""
        return self.shape[: len(self.shape) - len(self.sites)]

    @property
    def n(self) -> int:
        """Variables of one configuration."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        kind = "a lattice" if self.sites else "vectors"
        return f"{kind} of shape {list(self.shape)}"


class TransformPlan(ABC):
    """What a transform is to be. Subclasses are frozen dataclasses whose fields are the keys of its table.

    Their constructors raise ValueError for options out of range.
    """

    offers: ClassVar[frozenset[Ability]] = frozenset({"inverse", "gradient", "score"})
    """What objectives and samplers can ask of it, as of a `FlowPlan`; a property where that depends on options."""

    integrated: ClassVar[bool] = False
    """Whether it is integrated in steps, see `refine`; a property where that depends on options."""

    @abstractmethod
    def check(self, fields: Fields) -> None:
        """Raise ValueError for fields that it cannot map. Looks at shapes and numbers alone."""

    @abstractmethod
    def assemble(self, fields: Fields) -> Transform:
        """The transform of fields that are checked, its weights in any state."""


TRANSFORMS = MapCatalogue[TransformPlan]({}, what="transform")
"""Plans by name, filled in by `flows.transforms`: some of them hold others."""

TransformTables = Annotated[tuple[MapTable, ...], TRANSFORMS]
"""Transforms one after another, by name or as tables of a name and options; the first one is applied first."""


class Sequel:
    """The plans of these tables, one after another, at least one.

    Raises ValueError, which begins with the place of the table, for options out of range.
    """

    def __init__(self, tables: Sequence[MapTable]) -> None:
        if isinstance(tables, (str, dict)) or not tables:
            raise ValueError(f"transforms must be a list of transforms, such as ['elementwise'], got {tables!r}")
        self.places = [f"transforms[{k}] ({name_of(table)})" for k, table in enumerate(tables)]
        self.plans: list[TransformPlan] = []
        for place, table in zip(self.places, tables, strict=True):
            with _told_with(place):
                self.plans.append(TRANSFORMS.build(table))

    @property
    def offers(self) -> frozenset[Ability]:
        """What all of them offer."""
        return frozenset.intersection(*(plan.offers for plan in self.plans))

    @property
    def integrated(self) -> bool:
        """Whether one of them is."""
        return any(plan.integrated for plan in self.plans)

    def lacking(self, wanted: Collection[Ability]) -> list[str]:
        """The places of those that do not offer all of these."""
        return [place for place, plan in zip(self.places, self.plans, strict=True) if not set(wanted) <= plan.offers]

    def check(self, fields: Fields) -> None:
        """Raise ValueError, which begins with the place of a plan, for fields that it cannot map."""
        for place, plan in zip(self.places, self.plans, strict=True):
            with _told_with(place):
                plan.check(fields)

    def assemble(self, fields: Fields) -> list[Transform]:
        """Their transforms."""
        return [plan.assemble(fields) for plan in self.plans]


@contextmanager
def _told_with(place: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def check_real(fields: Fields, least: int = 1) -> None:
    """Raise ValueError for fields that are no real numbers, `least` or more of them."""
    if fields.space != REAL:
        raise ValueError(f"maps real numbers, not {fields.space}")
    if fields.n < least:
        raise ValueError(f"needs {least} variables or more, got {fields}")


def check_lattice(fields: Fields) -> None:
    """Raise ValueError for fields that are no real numbers on the sites of a lattice, one each."""
    check_real(fields)
    if not fields.sites or fields.channels:
        raise ValueError(f"needs one number at each site of a lattice, got {fields}")
