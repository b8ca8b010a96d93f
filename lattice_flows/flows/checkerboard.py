"""The checkerboard flow of scalar fields."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, SinhArcsinh
from lattice_flows.flows.neighbour_context import NeighbourContext
from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.flows.plan import FlowPlan, building
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.site_coupling import SiteCoupling, SiteMap, stencil
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.free_field import FreeField

_START_MASS_SQUARED = 1.0  # of the free field: a correlation length of one site, from which it is learnt
_BOUND = 4.0  # of the splines, in units of the prior's width: a normal deviate lies outside once in 16,000


@dataclass(frozen=True)
class CheckerboardFlow(FlowPlan):
    """The flow of `n_layers` checkerboard couplings (arXiv:1904.12072) to a phi^4 theory, odd under phi -> -phi.

    Layer k moves the sites whose coordinates have an even (k = 0, 2, ...) or odd sum, given the others within a window
    of `kernel` sites along every axis. `hidden` are the widths of the context networks; the weights do not depend on
    the shape, which may have any dimension. "affine" maps are smooth, which suits latent HMC, and end with one learnt
    sinh-arcsinh map of every site, since their conditional densities are all normal; "spline" maps (`n_bins`) come much
    closer to the target. The prior is a free field with the action's hopping term and a learnt mass, or independent
    normal deviates of the same width: the free one already holds most of the correlations between sites. All maps begin
    as the identity.

    Raises ValueError for a theory that is not phi^4, odd sides, and values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    n_layers: int = 6
    transform: Literal["affine", "spline"] = "spline"
    n_bins: int = 8
    prior: Literal["gaussian", "free"] = "free"
    hidden: tuple[int, ...] = (16, 16)
    kernel: int = 5

    space: ClassVar[Space] = REAL

    def __post_init__(self) -> None:
        self._hop  # noqa: B018  (checks the theory and the shape)
        _check(self.n_layers, self.hidden, self.kernel)
        _line(self.transform, self.n_bins, _BOUND * self._width)  # which checks its own
        if self.prior not in ("gaussian", "free"):
            raise ValueError(f'prior must be "gaussian" or "free", got {self.prior!r}')

    def assemble(self) -> Flow:
        """The couplings after each other, all with one kind of map."""
        line = _line(self.transform, self.n_bins, _BOUND * self._width)
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
            text = " x ".join(str(side) for side in self.shape)
            raise ValueError(f"checkerboard_coupling needs even sides, such as 8 x 6; got {text}")
        return self.action.couplings(len(self.shape)).hop

    @cached_property
    def _width(self) -> float:
        """Of the prior, on a fixed lattice: what the weights mean must not depend on the shape."""
        return FreeField(_START_MASS_SQUARED, (8,) * len(self.shape), self._hop).phi_squared ** 0.5


checkerboard_coupling = building(CheckerboardFlow)


def _line(transform: str, n_bins: int, bound: float) -> LineTransform:
    if transform == "affine":
        return Affine()
    if transform == "spline":
        return LineSpline(n_bins, bound)
    raise ValueError(f'transform must be "affine" or "spline", got {transform!r}')


def _check(n_layers: int, hidden: tuple[int, ...], kernel: int) -> None:
    if n_layers < 1:
        raise ValueError(f"n_layers must be at least 1, got {n_layers}")
    if not hidden or any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be a list of one or more widths >= 1, got {list(hidden)}")
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
