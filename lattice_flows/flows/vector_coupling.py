"""The coupling flow of vectors: theories without a lattice."""

import math
from dataclasses import KW_ONLY, dataclass

import torch

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.line_maps import LINE_MAPS, LineMap
from lattice_flows.flows.line_transform import LineTransform
from lattice_flows.flows.onto_box import OntoBox, parts_of
from lattice_flows.flows.phi4_prior import GaussianPrior
from lattice_flows.flows.plan import MOST_LAYERS, FlowPlan, building, check_between, check_widths
from lattice_flows.flows.site_coupling import SiteCoupling
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.vector_context import VectorContext
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action

_BOUND = 4.0  # of the splines, in units of the prior's width: a normal deviate lies outside once in 16,000


@dataclass(frozen=True)
class VectorCouplingFlow(FlowPlan):
    """The flow of `n_layers` couplings of the coordinates of a vector (RealNVP, arXiv:1605.08803).

    Layer k moves the even (k = 0, 2, ...) or odd coordinates, each by a map of LINE_MAPS that depends on all others: in
    two dimensions two layers can make any density, if the map can. "spline" is that of arXiv:1906.04032; what "affine"
    maps make of a normal deviate is one again, and several modes take many layers. `hidden` are the widths of the
    context networks. The prior is a normal deviate of `prior_width` in every coordinate. Coordinates in an interval
    come last from the line by the normal distribution function: the flow begins as the uniform density between walls,
    and as the prior on the line. No symmetry is built in.

    Raises ValueError for a theory on a lattice, fewer than two coordinates, coordinates other than real numbers and
    those in intervals, and values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    n_layers: int = 4
    transform: LineMap = "spline"
    hidden: tuple[int, ...] = (32, 32)
    prior_width: float = 1.0

    def __post_init__(self) -> None:
        if self.shape:
            text = " x ".join(map(str, self.shape))
            raise ValueError(f"vector_coupling is a flow of theories without a lattice, got one on {text} sites")
        event = self.action.event_shape(())
        if len(event) != 1 or event[0] < 2:
            raise ValueError(f"vector_coupling needs vectors of two coordinates or more, got the shape {list(event)}")
        parts_of(self.action.space)  # which checks them
        if not 0 < self.prior_width < math.inf:
            raise ValueError(f"prior_width must be positive and finite, got {self.prior_width}")
        self._line()  # which checks its own
        check_between("n_layers", self.n_layers, 1, MOST_LAYERS)
        check_widths(self.hidden, fewest=1)

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of the theory."""
        return self.action.space

    def assemble(self) -> Flow:
        """The couplings after each other, and the map into the box."""
        event = self.action.event_shape(())
        coordinates, line = torch.arange(*event), self._line()
        layers: list[Transform] = []
        for layer in range(self.n_layers):
            moves = coordinates % 2 == layer % 2
            active, frozen = coordinates[moves], coordinates[~moves]
            context = VectorContext(len(frozen), len(active), tuple(self.hidden), line.n_even, line.n_odd)
            layers.append(SiteCoupling(active, frozen[:, None], line, context))
        if self.space != REAL:
            layers.append(OntoBox(self.space, self.prior_width))
        return Flow(GaussianPrior(event, self.prior_width), Chain(*layers))

    def _line(self) -> LineTransform:
        return LINE_MAPS.build(self.transform, bound=_BOUND * self.prior_width, width=self.prior_width)


vector_coupling = building(VectorCouplingFlow)
