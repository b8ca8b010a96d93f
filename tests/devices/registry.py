"""The flows of the registry, each with an action that it can be trained for."""

from dataclasses import dataclass

import torch
from cases import FLOW_CASES, exact_tree, rows_flow
from scalar_cases import SCALAR_FLOWS
from torch import Tensor

from lattice_flows.actions import Action, ImprovedU1, Phi4, WilsonU1
from lattice_flows.flows import Flow
from lattice_flows.lattice import REAL


@dataclass(frozen=True)
class Pair:
    """A flow far from the identity, and a target. `double` names the flows whose maps are float64 by design."""

    name: str
    flow: Flow
    action: Action

    @property
    def double(self) -> bool:
        """Region trees compute in float64 and hand over what is asked for."""
        return "tree" in self.name or self.name == "hybrid"

    def field(self, n: int, device: torch.device | str, dtype: torch.dtype = torch.float64) -> Tensor:
        """n configurations, spread over the circle or around zero; of no particular values where there are none."""
        shape = (n, *self.flow.prior.shape)
        if torch.device(device).type == "meta":
            return torch.empty(shape, dtype=dtype, device=device)
        u = torch.rand(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        return self.action.space.wrap((6.0 * u - 3.0) if self.flow.prior.space is not REAL else 2.0 * u - 1.0).to(
            device=device, dtype=dtype
        )


def pairs() -> list[Pair]:
    """Built anew, so that a test may do with them what it wants."""
    flows = [(case.name, case.build(case.shapes[0])) for case in FLOW_CASES]
    flows += [("rows", rows_flow((4, 4))), ("tree exact", exact_tree((6, 4)))]
    actions = {"hybrid": ImprovedU1(1.5, 1.0 / 12.0)}
    links = [Pair(name, flow, actions.get(name, WilsonU1(2.0))) for name, flow in flows]
    return links + [Pair(f"scalar {case.name}", case.build((4, 4)), Phi4(-4.0, 8.0)) for case in SCALAR_FLOWS]


PAIR_NAMES = [pair.name for pair in pairs()]


def pair_named(name: str) -> Pair:
    """The one of this name."""
    return next(pair for pair in pairs() if pair.name == name)
