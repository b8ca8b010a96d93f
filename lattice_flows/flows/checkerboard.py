"""The checkerboard flow of scalar fields."""

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.line_maps import LINE_MAPS, LineMap
from lattice_flows.flows.line_transform import LineTransform, SinhArcsinh
from lattice_flows.flows.map_catalogue import settle_options
from lattice_flows.flows.neighbour_context import NeighbourContext
from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.flows.plan import MOST_LAYERS, FlowPlan, building, check_between, check_widths
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.site_coupling import SiteCoupling, SiteMap, stencil
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.free_field import FreeField

_START_MASS_SQUARED = 1.0  # of the free field: a correlation length of one site, from which it is learnt
_LARGEST_KERNEL = 99
_BOUND = 4.0  # of the splines, in units of the prior's width: a normal deviate lies outside once in 16,000


@dataclass(frozen=True)
class CheckerboardFlow(FlowPlan):
    """The flow of `n_layers` checkerboard couplings (arXiv:1904.12072) to a phi^4 theory, odd under phi -> -phi.

    Layer k moves the sites whose coordinates have an even (k = 0, 2, ...) or odd sum, given the others within a window
    of `kernel` sites along every axis. `hidden` are the widths of the context networks; the weights do not depend on
    the shape, which may have any dimension. `transform` is a map of LINE_MAPS, whose options may stand in its table or
    beside it: "affine" is smooth, which suits latent HMC, and ends with one learnt sinh-arcsinh map of every site,
    since the conditional densities of affine maps are all normal; "spline" comes much closer to the target. The prior
    is a free field with the action's hopping term and a learnt mass, or independent normal deviates of the same width:
    the free one already holds most of the correlations between sites. All maps begin as the identity.

    Raises ValueError for a theory that is not phi^4, odd sides, and values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    n_layers: int = 6
    transform: LineMap = "spline"
    n_bins: int | None = None  # of the spline: 8
    prior: Literal["gaussian", "free"] = "free"
    hidden: tuple[int, ...] = (16, 16)
    kernel: int = 5

    space: ClassVar[Space] = REAL

    def __post_init__(self) -> None:
        self._hop  # noqa: B018  (checks the theory and the shape)
        _check(self.n_layers, self.hidden, self.kernel)
        settle_options(self, LINE_MAPS, n_bins=8)
        self._line()  # which checks its own
        if self.prior not in ("gaussian", "free"):
            raise ValueError(f'prior must be "gaussian" or "free", got {self.prior!r}')

    @property
    def table_bytes(self) -> int:
        """The frozen sites that each active one sees: every second place of the window."""
        return 8 * (self.kernel ** len(self.shape) // 2) * (math.prod(self.shape) // 2)

    def assemble(self) -> Flow:
        """The couplings after each other, all with one kind of map."""
        line = self._line()
        odd = np.indices(self.shape).sum(0) % 2 == 1
        places = [stencil(active, ~active, self.kernel // 2) for active in (~odd, odd)]
        layers: list[Transform] = []
        for layer in range(self.n_layers):
            active, neighbours = places[layer % 2]
            context = NeighbourContext(len(neighbours), tuple(self.hidden), line.n_even, line.n_odd)
            layers.append(SiteCoupling(active, neighbours, line, context))
        if self.transform == "affine":
            layers.append(SiteMap(SinhArcsinh(self._width)))
        return Flow(self._prior(), Chain(*layers))

    def _line(self) -> LineTransform:
        lengths = {"bound": _BOUND * self._width, "width": self._width}
        return LINE_MAPS.build(self.transform, n_bins=self.n_bins, **lengths)

    def _prior(self) -> Prior:
        if self.prior == "gaussian":
            return GaussianPrior(tuple(self.shape), self._width)
        return FreeFieldPrior(tuple(self.shape), _START_MASS_SQUARED, self._hop, learnable=True)

    @cached_property
    def _hop(self) -> float:
        """The hopping term's coefficient. Raises ValueError for what the flow does not support."""
        if not isinstance(self.action, LocalScalar):
            name = type(self.action).__name__
            raise ValueError(f"checkerboard_coupling is a flow of phi4 and phi4_hopping, got {name}")
        if not self.shape or any(side < 2 or side % 2 for side in self.shape):
            text = " x ".join(str(side) for side in self.shape) or "no lattice"
            raise ValueError(f"checkerboard_coupling needs even sides, such as 8 x 6; got {text}")
        return self.action.couplings(len(self.shape)).hop

    @cached_property
    def _width(self) -> float:
        """Of the prior, on a fixed lattice: what the weights mean must not depend on the shape."""
        return FreeField(_START_MASS_SQUARED, (8,) * len(self.shape), self._hop).phi_squared ** 0.5


checkerboard_coupling = building(CheckerboardFlow)


def _check(n_layers: int, hidden: tuple[int, ...], kernel: int) -> None:
    check_between("n_layers", n_layers, 1, MOST_LAYERS)
    check_widths(hidden, fewest=1)
    if not 3 <= kernel <= _LARGEST_KERNEL or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and between 3 and {_LARGEST_KERNEL}, got {kernel}")
