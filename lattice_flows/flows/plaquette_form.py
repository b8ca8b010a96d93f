"""A flow of links and its target in terms of gauge-invariant angles: equal weights at a fraction of the cost."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows.flow import Flow, Proposer
from lattice_flows.flows.multiscale import Multiscale
from lattice_flows.flows.plaquette_action import PlaquetteAction
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.tree_map import tree_forward, tree_inverse, tree_score
from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.theories.action import Action


class Reduced(NamedTuple):
    """A flow with the weights of another one, and its action: their samples have log_w of the same distribution."""

    flow: Proposer
    action: Action


def reduced(flow: Proposer, action: Action) -> Reduced:
    """The pair in its plaquettes (B, L0, L1), with V - 1 uniform latent shares, where both allow it; else unchanged.

    The parameters are the flow's own. Densities are relative to the Haar measure of the plaquettes under the
    constraint that they sum to a multiple of 2 pi, which that of the links implies.
    """
    if isinstance(flow, Flow) and isinstance(flow.transform, Multiscale) and isinstance(action, PlaquetteAction):
        prior = HaarU1((len(flow.transform.tree.nodes),))
        return Reduced(Flow(prior, PlaquetteTree(flow.transform)), ActionOfPlaquettes(action))
    return Reduced(flow, action)


@dataclass(frozen=True)
class ActionOfPlaquettes(Action):
    """S as a function of the plaquettes (B, L0, L1)."""

    action: PlaquetteAction

    @property
    def space(self) -> Space:  # type: ignore[override]
        return CIRCLE

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """One plaquette per site."""
        return FieldSpec("plaquette", tuple(f"x{axis}" for axis in range(len(lattice_shape))), lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.action.of_plaquettes(x)


class PlaquetteTree(Transform):
    """The map of a `Multiscale` from its latent shares (B, V - 1) to plaquettes (B, L0, L1)."""

    domain = codomain = CIRCLE

    def __init__(self, transform: Multiscale) -> None:
        super().__init__()
        self.links = transform

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        plaquettes, log_det = tree_forward(z.double(), self.links.conditioner.tables(), self.links.tree)
        return self.links.field(plaquettes).to(z.dtype), log_det.to(z.dtype)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shares, log_det = tree_inverse(
            self.links.leaves_of(x.double()), self.links.conditioner.tables(), self.links.tree
        )
        return shares.to(x.dtype), log_det.to(x.dtype)


@forward_with_score.register
def _(transform: PlaquetteTree, z: Tensor, score: Tensor) -> ScoredField:
    """The uniform shares have no score, and that of the plaquettes needs no inverse: the shares are known.

    It is the derivative along plaquettes whose sum is fixed; its other component has no meaning.
    """
    if score.device.type == "cpu" and score.any():  # elsewhere a look would wait for the device
        raise ValueError("the latent shares of a tree are uniform: their score is zero")
    links = transform.links
    tables = links.conditioner.tables()
    plaquettes, log_det, at_plaquettes = tree_score(z.double(), tables, links.tree)
    parts = links.field(plaquettes), log_det, links.field(at_plaquettes)
    return ScoredField(*(part.to(z.dtype) for part in parts))
