"""Flows composed of transforms of the catalogue, in any order."""

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Annotated

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.onto_box import OntoBox, parts_of
from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.flows.plan import MOST_LAYERS, Ability, FlowPlan, building, check_between
from lattice_flows.flows.prior import HaarU1, Prior
from lattice_flows.flows.transform import Chain
from lattice_flows.flows.transforms.plan import (
    Fields,
    Sequel,
    TransformPlan,
    TransformTables,
)
from lattice_flows.lattice import CIRCLE, REAL, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.free_field import FreeField

_LARGEST = 1e6  # width or squared mass of a prior


def gaussian(shape: tuple[int, ...], width: float = 1.0) -> Prior:
    """Independent normal deviates of this standard deviation."""
    return GaussianPrior(shape, width)


def free(shape: tuple[int, ...], hop: float = 1.0, mass_squared: float = 1.0) -> Prior:
    """The free field with the action's hopping term and a learnt mass, which begins at `mass_squared`."""
    return FreeFieldPrior(shape, mass_squared, hop, learnable=True)


def uniform(shape: tuple[int, ...]) -> Prior:
    """Independent uniform angles."""
    return HaarU1(shape)


PRIORS = MapCatalogue[Prior](
    {"gaussian": gaussian, "free": free, "uniform": uniform}, given=("shape", "hop"), what="prior"
)
"""Priors that a composed flow can name."""


@dataclass(frozen=True)
class ComposedFlow(FlowPlan):
    """The flow from a prior through a list of transforms, repeated `n_repeats` times, each with weights of its own.

    `transforms` are names or tables of TRANSFORMS, the first one next to the prior. prior: "free" (of phi^4),
    "gaussian" or "uniform" (of angles), or a table with its options; by default the first of them that the theory can
    have. Coordinates in an interval come last from the line by the normal distribution function.

    Raises ValueError for theories with more than one number at a site (links have flows of their own), for transforms
    that cannot map the theory's fields, and for values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    transforms: TransformTables
    n_repeats: int = 1
    prior: Annotated[MapTable | None, PRIORS] = None

    def __post_init__(self) -> None:
        check_between("n_repeats", self.n_repeats, 1, MOST_LAYERS)
        if self.action.event_shape(self.shape) != self.shape and self.shape:
            raise ValueError(
                "a composed flow is one of a number at each site, or of vectors without a lattice; "
                f"{type(self.action).__name__} has the shape {list(self.action.event_shape(self.shape))}"
            )
        if self._boxed:
            parts_of(self.action.space)  # which checks them
        self._check_prior()
        self._sequel.check(self._fields)

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of the theory."""
        return self.action.space

    @property
    def offers(self) -> frozenset[Ability]:  # type: ignore[override]
        """What all transforms offer."""
        return self._sequel.offers

    @property
    def integrated(self) -> bool:  # type: ignore[override]
        """Whether a transform is."""
        return self._sequel.integrated

    @property
    def plans(self) -> list[TransformPlan]:
        """The plans of the transforms."""
        return self._sequel.plans

    @cached_property
    def _sequel(self) -> Sequel:
        return Sequel(self.transforms)

    def lacking(self, wanted: Collection[Ability]) -> list[str]:
        """The places of the transforms that do not offer all of these."""
        return self._sequel.lacking({"inverse" if ability == "paths" else ability for ability in wanted})

    def assemble(self) -> Flow:
        """The transforms after each other."""
        layers = [part for _ in range(self.n_repeats) for part in self._sequel.assemble(self._fields)]
        if self._boxed:
            layers.append(OntoBox(self.space, self._fields.width))
        return Flow(self._prior(), Chain(*layers))

    @property
    def _boxed(self) -> bool:
        return self.space not in (REAL, CIRCLE)

    @cached_property
    def _fields(self) -> Fields:
        """What the transforms map."""
        space = CIRCLE if self.space == CIRCLE else REAL
        return Fields(self.action.event_shape(self.shape), tuple(self.shape), space, self._width, self.action)

    @property
    def _prior_table(self) -> MapTable:
        if self.prior is not None:
            return self.prior
        if self.space == CIRCLE:
            return "uniform"
        return "free" if isinstance(self.action, LocalScalar) else "gaussian"

    def _check_prior(self) -> None:
        name, options = PRIORS.split(self._prior_table)
        if (name == "uniform") != (self.space == CIRCLE):
            raise ValueError(f"prior = {name!r} is none of {self.space}")
        if name == "free" and not isinstance(self.action, LocalScalar):
            raise ValueError(f"prior = 'free' is one of phi4 and phi4_hopping, not of {type(self.action).__name__}")
        for key, value in options.items():
            if not 1.0 / _LARGEST <= value <= _LARGEST:
                raise ValueError(f"{key} must be between {1.0 / _LARGEST:g} and {_LARGEST:g}, got {value}")

    def _prior(self) -> Prior:
        return PRIORS.build(self._prior_table, shape=self._fields.shape, hop=self._hop)

    @property
    def _hop(self) -> float:
        return self.action.couplings(len(self.shape)).hop if isinstance(self.action, LocalScalar) else 1.0

    @property
    def _width(self) -> float:
        """The standard deviation of a variable of the prior; on a fixed lattice, for the weights know no shape."""
        name, options = PRIORS.split(self._prior_table)
        if name == "free":
            field = FreeField(options.get("mass_squared", 1.0), (8,) * len(self.shape), self._hop)
            return float(field.phi_squared**0.5)
        return float(options.get("width", 1.0))


composed = building(ComposedFlow)
