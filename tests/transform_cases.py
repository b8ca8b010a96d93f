"""The catalogue of transforms and what each claims: one entry buys the contract of tests/flows/test_catalogue.py."""

from dataclasses import dataclass, field

import torch

from lattice_flows.flows import TRANSFORMS, ComposedFlow, Flow, initialise
from lattice_flows.lattice import REAL
from lattice_flows.theories import Action, DoubleWell, Phi4

Shape = tuple[int, ...]
PHI4 = Phi4(-4.0, 8.0)


@dataclass(frozen=True)
class CatalogueCase:
    """Transforms by their tables, on lattices (or without one, (), for vectors), and the symmetries they claim.

    `size` is that of random numbers added to all weights; `refused` are shapes that cannot be mapped.
    """

    name: str
    tables: tuple[str | dict, ...]
    shapes: tuple[Shape, ...]
    action: Action = PHI4
    refused: tuple[Shape, ...] = ()
    size: float = 0.3
    odd: bool = False  # commutes with phi -> -phi
    period: int = 0  # sites, along every axis, by which it commutes with translations; 0: none
    rotations: bool = False  # commutes with reflections and, of equal sides, exchanges of axes
    identity: bool = True  # to begin with
    any_volume: bool = False  # the weights do on a periodic copy what they do at home
    extreme: float = 1e3  # a field of this size stays finite
    prior: str | dict | None = field(default="gaussian")

    def plan(self, shape: Shape) -> ComposedFlow:
        return ComposedFlow(shape, self.action, transforms=self.tables, prior=self.prior)

    def build(self, shape: Shape) -> Flow:
        """The flow, float64, far from where it begins."""
        flow = self.plan(shape).build().double()
        generator = torch.Generator().manual_seed(1)
        initialise(flow, generator)
        with torch.no_grad():
            for weight in flow.parameters():
                weight.add_(self.size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        assert isinstance(flow, Flow)
        return flow


SHAPES = ((4, 4), (6, 4), (6,), (2, 4, 2))

CATALOGUE = [
    CatalogueCase(
        "elementwise", ("elementwise",), (*SHAPES, (5, 3)), odd=True, period=1, rotations=True, any_volume=True
    ),
    CatalogueCase("elementwise of vectors", ({"name": "elementwise", "map": "sinh_arcsinh"},), ((),), DoubleWell()),
]

NAMED = {table if isinstance(table, str) else table["name"] for case in CATALOGUE for table in case.tables}
assert set(TRANSFORMS.maps) == NAMED, "every catalogued transform needs a case"
assert all(case.action.space == REAL for case in CATALOGUE if case.odd)
