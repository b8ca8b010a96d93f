"""The flows of the registry, each with an action that it can be trained for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from cases import FLOW_CASES, exact_tree
from scalar_cases import SCALAR_FLOWS
from torch import Tensor
from transform_cases import CATALOGUE
from vector_cases import VECTOR_FLOWS

from lattice_flows.flows import Chain, Flow, PlaquetteCoupling
from lattice_flows.lattice import REAL
from lattice_flows.theories import Action, ImprovedU1, Phi4, WilsonU1


@dataclass(frozen=True)
class Pair:
    """A flow far from the identity, and a target."""

    name: str
    flow: Flow
    action: Action

    def one_layer(self) -> "Pair":
        """Itself, of couplings that are all alike the first one only."""
        for part in list(self.flow.modules()):
            if isinstance(part, Chain):
                part.transforms = torch.nn.ModuleList({type(one): one for one in reversed(part.sequence())}.values())
            if isinstance(part, PlaquetteCoupling):
                part.offsets = part.offsets[:1]
        return self

    def field(self, n: int, device: torch.device | str, dtype: torch.dtype = torch.float64) -> Tensor:
        """n configurations, spread over the circle or around zero; of no particular values where there are none."""
        shape = (n, *self.flow.prior.shape)
        if torch.device(device).type == "meta":
            return torch.empty(shape, dtype=dtype, device=device)
        u = torch.rand(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        return self.action.space.wrap((6.0 * u - 3.0) if self.flow.prior.space != REAL else 2.0 * u - 1.0).to(
            device=device, dtype=dtype
        )


# Its tables go to the device at every call, and map and inverse agree to the error of its steps only.
INTEGRATED = {"gradient flow"}
# One of each kind; what is iterated or integrated looks at numbers to know when it has arrived.
COMPOSED = {
    "coupling with rotations",
    "checkerboard and a residual network",
    "block sums that see the details",
    "angle coupling",
    "spectrum",
    "planar",
    "sylvester",
    "iaf",
}
_BUILDERS: dict[str, tuple[Callable[[], Flow], Action]] = {
    **{
        case.name: (partial(case.build, case.shapes[0]), WilsonU1(2.0))
        for case in FLOW_CASES
        if case.name not in INTEGRATED
    },
    "tree exact": (partial(exact_tree, (6, 4)), WilsonU1(2.0)),
    **{f"scalar {case.name}": (partial(case.build, (4, 4)), Phi4(-4.0, 8.0)) for case in SCALAR_FLOWS},
    **{f"vector {case.name}": (case.build, case.action) for case in VECTOR_FLOWS[1:5:3]},
    **{
        f"composed {case.name}": (partial(case.build, case.shapes[0]), case.action)
        for case in CATALOGUE
        if case.name in COMPOSED
    },
}
_BUILDERS["hybrid"] = _BUILDERS["hybrid"][0], ImprovedU1(1.5, 1.0 / 12.0)

PAIR_NAMES = list(_BUILDERS)


def pair_named(name: str) -> Pair:
    """Built anew, so that a test may do with it what it wants."""
    build, action = _BUILDERS[name]
    return Pair(name, build(), action)
