"""Transforms used backwards."""

from dataclasses import dataclass
from functools import cached_property

from lattice_flows.flows.plan import Ability
from lattice_flows.flows.transform import Chain, Inverse, Transform
from lattice_flows.flows.transforms.plan import (
    Fields,
    Sequel,
    TransformPlan,
    TransformTables,
)


@dataclass(frozen=True)
class InversePlan(TransformPlan):
    """The inverse of a list of transforms: what is quick one way is quick the other way.

    A "residual" or "logistics" that learns from data is quicker backwards. Raises ValueError for transforms that offer
    no inverse.
    """

    transforms: TransformTables

    def __post_init__(self) -> None:
        if "inverse" not in self.offers:
            raise ValueError("the inverse of transforms that offer none: of iaf, take maf")

    @cached_property
    def inner(self) -> Sequel:
        """The plans of the transforms."""
        return Sequel(self.transforms)

    @property
    def offers(self) -> frozenset[Ability]:  # type: ignore[override]
        """What all inner transforms offer."""
        return self.inner.offers

    @property
    def integrated(self) -> bool:  # type: ignore[override]
        """Whether an inner transform is."""
        return self.inner.integrated

    def check(self, fields: Fields) -> None:
        """Raise ValueError for fields that an inner transform cannot map."""
        self.inner.check(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The inner transforms, the last one undone first."""
        return Inverse(Chain(*self.inner.assemble(fields)))
