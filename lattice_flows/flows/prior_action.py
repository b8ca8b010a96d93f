"""A flow's prior as a target: where annealing begins."""

import copy
from dataclasses import dataclass

from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows.flow import Flow, Proposer
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action


@dataclass(frozen=True)
class PriorAction(Action):
    """S(x) = -log r(z) - log|det dz/dx| at x = onto(z), z distributed as the prior's r: normalised, log Z = 0.

    `onto` has no parameters and maps the prior's space onto that of x. log r must be differentiable.
    """

    prior: Prior
    onto: Transform

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.onto.codomain or self.prior.space

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """Numbered axes, whatever they mean to a theory."""
        shape = self.prior.shape
        return FieldSpec("x", tuple(f"axis{k}" for k in range(len(shape))), shape)

    def __call__(self, x: Tensor) -> Tensor:
        z, log_det = self.onto.inverse(x)
        return -(self.prior.log_prob(z) + log_det).double()


def prior_action(flow: Proposer) -> PriorAction | None:
    """The action of the flow's prior at its current parameters, which are constants of it; None where it is flat.

    Where the prior lives in another space than the flow, the flow's last maps, which change the space, carry it over;
    if these have parameters the flow ends in a bounded space, and a flat start serves there: None again. So it is for
    a stochastic flow, which anneals by itself.
    """
    if not isinstance(flow, Flow):
        return None
    space, maps = flow.space, list[Transform]()
    sequence = flow.transform.sequence() if isinstance(flow.transform, Chain) else [flow.transform]
    while space != flow.prior.space:
        maps.insert(0, sequence.pop())
        space = maps[0].domain or space
    onto = Chain(*maps)
    if flow.prior.flat or any(True for _ in onto.parameters()):
        return None
    return PriorAction(copy.deepcopy(flow.prior).requires_grad_(False), onto)
