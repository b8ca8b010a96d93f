"""The multiscale flow with plaquette couplings on top, for actions whose plaquettes interact."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lattice_flows.flows.circle_maps import CIRCLE_MAPS, CircleMap
from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.conditioners import MAX_BETA
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.map_catalogue import settle_options
from lattice_flows.flows.multiscale import ConditionerName, MultiscaleFlow
from lattice_flows.flows.plan import FlowPlan, building
from lattice_flows.flows.plaquette_action import stiffness
from lattice_flows.flows.plaquette_coupling import PatternName, check_shape, check_sweeps, sweeps
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.transform import Chain
from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.action import WilsonU1

_LAST_LAYER = 0.02  # initial size of the networks' last layers, where they cannot be zero


@dataclass(frozen=True)
class HybridFlow(FlowPlan):
    """The flow from Haar-random links through the tree of `multiscale` and then `n_layers` plaquette couplings.

    The tree sets the widths of the fluxes of large regions, which couplings hardly change; the couplings, identities at
    first, make neighbouring plaquettes interact. Under the checkerboard pattern the conditional densities of any action
    of loops up to 2x1 are within their reach.

    conditioner: that of the tree. "exact" is that of the Wilson action at `tree_beta`, which defaults to a mean
    curvature of `action`; it needs no training, and the weights of one lattice serve every other one. The other options
    are those of `plaquette_coupling`; several components must be told apart before they can learn different things, so
    more than one begin near the identity, not at it.

    Raises ValueError for a shape whose sides are not multiples of 4, and for values out of range.
    """

    shape: tuple[int, int]
    action: Action
    _: KW_ONLY
    conditioner: ConditionerName = "exact"
    tree_beta: float | None = None
    n_layers: int = 16
    pattern: PatternName = "checkerboard"
    transform: CircleMap = "projection"
    n_components: int | None = None  # of the projection: 1
    n_bins: int | None = None  # of the spline: 8
    hidden: tuple[int, ...] = (16,)

    space: ClassVar[Space] = CIRCLE

    def __post_init__(self) -> None:
        check_shape("hybrid", self.shape)
        settle_options(self, CIRCLE_MAPS, n_components=1, n_bins=8)
        self._circle()  # which checks its own
        self._tree()  # likewise
        check_sweeps(self.n_layers, self.pattern, self.hidden)

    @property
    def table_bytes(self) -> int:
        """Those of the tree."""
        return self._tree().table_bytes

    def assemble(self) -> Flow:
        """The tree, and the couplings after it."""
        circle = self._circle()
        last_layer = 0.0 if circle.n_vectors == 1 else _LAST_LAYER  # alike components would stay so
        couplings = sweeps(self.n_layers, self.pattern, circle, self.hidden, last_layer)
        return Flow(HaarU1((2, *self.shape)), Chain(self._tree().assemble().transform, *couplings))

    def _circle(self) -> CircleTransform:
        return CIRCLE_MAPS.build(self.transform, n_components=self.n_components, n_bins=self.n_bins)

    def _tree(self) -> MultiscaleFlow:
        return MultiscaleFlow(self.shape, _tree_action(self.action, self.tree_beta), conditioner=self.conditioner)


hybrid = building(HybridFlow)


def _tree_action(action: Action, tree_beta: float | None) -> WilsonU1:
    """The action of independent plaquettes that the tree starts from."""
    if tree_beta is not None and not 0 <= tree_beta <= MAX_BETA:
        raise ValueError(f"tree_beta must be between 0 and {MAX_BETA:g}, got {tree_beta}")
    return WilsonU1(stiffness(action) if tree_beta is None else tree_beta)
