"""The catalogue of transforms and what each claims: one entry buys the contract of tests/flows/test_catalogue.py."""

from dataclasses import dataclass, field

import torch

from lattice_flows.flows import LINE_MAPS, TRANSFORMS, ComposedFlow, Flow, initialise, integrated_parts, refine
from lattice_flows.theories import XY, Action, DoubleWell, Phi4

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
    size: float = 0.1
    odd: bool = False  # commutes with phi -> -phi
    period: int = 0  # sites, along every axis, by which it commutes with translations; 0: none
    rotations: bool = False  # commutes with reflections and, of equal sides, exchanges of axes
    turns: bool = False  # commutes with a rotation of all angles
    identity: bool = True  # to begin with
    any_volume: bool = False  # the weights do on a periodic copy what they do at home
    extreme: float = 1e3  # a field of this size stays finite
    prior: str | dict | None = field(default="gaussian")

    def plan(self, shape: Shape) -> ComposedFlow:
        return ComposedFlow(shape, self.action, transforms=self.tables, prior=self.prior)

    def build(self, shape: Shape) -> Flow:
        """The flow, float64, far from where it begins, in as many steps as it needs where it is integrated."""
        flow = self.plan(shape).build().double()
        generator = torch.Generator().manual_seed(1)
        initialise(flow, generator)
        with torch.no_grad():
            for weight in flow.parameters():
                weight.add_(self.size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        assert isinstance(flow, Flow)
        if integrated_parts(flow):
            refine(flow, self.action, flow.prior.sample(8, generator))
        return flow


_OF_CHANNELS = {"name": "coupling", "mask": "channels", "context": "mlp"}
SHAPES = ((4, 4), (6, 4), (6,), (2, 4, 2))

CATALOGUE = [
    CatalogueCase(
        "elementwise", ("elementwise",), (*SHAPES, (5, 3)), odd=True, period=1, rotations=True, any_volume=True
    ),
    CatalogueCase("coupling", ("coupling",), SHAPES, odd=True, period=2, any_volume=True, identity=True),
    CatalogueCase(
        "coupling with rotations",
        ({"name": "coupling", "map": "affine", "context": {"name": "stencil", "rotations": True, "hidden": (6,)}},),
        SHAPES,
        refused=((3, 3), (9, 3), (3, 4)),
        odd=True,
        period=2,
        rotations=True,
        any_volume=True,
    ),
    CatalogueCase("coupling of three colours", ("coupling",), ((3, 3), (9, 3)), odd=True, period=3),
    CatalogueCase("coupling of coprime sides", ("coupling",), ((3, 4), (5, 6)), odd=True),
    CatalogueCase(
        "stripes and a network",
        ({"name": "coupling", "mask": "stripes", "map": "affine", "context": {"name": "cnn", "hidden": (5,)}},),
        ((4, 4), (6,), (3, 4), (2, 4, 2)),
        odd=True,
    ),
    CatalogueCase(
        "checkerboard and a residual network",
        ({"name": "coupling", "context": {"name": "resnet", "width": 4}},),
        ((4, 4), (6,), (2, 4, 2)),
        odd=True,
        period=2,
        any_volume=True,
    ),
    CatalogueCase(
        "random masks and a dense network",
        ({"name": "coupling", "mask": {"name": "random", "n_halves": 2}, "map": "affine", "context": "mlp"},),
        ((4, 4), (5,), (3, 3)),
    ),
    CatalogueCase(
        "hierarchical masks",
        ({"name": "coupling", "mask": "hierarchical", "context": {"name": "mlp", "odd": True}},),
        ((4, 4), (8,), (6, 4), (3, 3), (2, 4, 2)),
        odd=True,
        size=0.03,
    ),
    CatalogueCase("coupling of vectors", ("coupling",), ((),), DoubleWell()),
    CatalogueCase(
        "coarse couplings",
        ({"name": "coarse", "transforms": ({"name": "coarse", "transforms": ("coupling",)}, "coupling")},),
        ((8, 8), (12, 12), (12, 8), (8,)),
        odd=True,
        refused=((6, 6), (4, 9), (10, 10)),
        size=0.05,
    ),
    CatalogueCase(
        "block sums that see the details",
        ({"name": "blocks", "basis": "sums", "transforms": ({"name": "coupling", "mask": "first_channel"},)},),
        ((4, 4), (6, 4), (6, 6), (8,)),
        odd=True,
        refused=((5, 4),),
    ),
    CatalogueCase(
        "channels of blocks",
        ({"name": "blocks", "transforms": ({**_OF_CHANNELS, "context": "cnn"},)},),
        ((4, 4), (6, 4), (8,)),
        odd=True,
        period=2,
        any_volume=True,
    ),
    CatalogueCase(
        "a part of the channels",
        (
            {
                "name": "blocks",
                "channels": 2,
                "transforms": ({"name": "coupling", "mask": "channels", "context": "mlp"},),
            },
        ),
        ((4, 4),),
    ),
    CatalogueCase(
        "angle coupling",
        ("angle_coupling",),
        ((4, 4), (6, 4), (3, 3)),
        XY(1.0),
        prior="uniform",
        odd=True,
        identity=False,
        turns=True,
    ),
    CatalogueCase(
        "angle coupling by splines",
        ({"name": "angle_coupling", "map": "spline", "mask": "stripes"},),
        ((4, 4), (6, 4)),
        XY(1.0),
        prior=None,
        odd=True,
        identity=False,
        any_volume=True,
    ),
    CatalogueCase(
        "continuous on a lattice",
        ({"name": "continuous_lattice", "n_steps": 30, "n_knots": 4},),
        ((4, 4), (5, 3), (6,), (2, 3, 4)),
        odd=True,
        period=1,
        rotations=True,
        prior="free",
    ),
    CatalogueCase(
        "continuous along a network", ({"name": "continuous", "hidden": (5,), "n_steps": 30},), ((),), DoubleWell()
    ),
    CatalogueCase(
        "single sites",
        ("single_sites",),
        (*SHAPES, (5, 3)),
        odd=True,
        period=1,
        rotations=True,
        identity=False,
        any_volume=True,
    ),
    CatalogueCase(
        "single sites of vectors",
        ({"name": "single_sites", "quadratic": -2.0, "quartic": 0.5},),
        ((),),
        DoubleWell(),
        identity=False,
    ),
    *(
        CatalogueCase(f"elementwise {name}", ({"name": "elementwise", "map": name},), ((4, 4),), odd=True, period=1)
        for name in sorted(set(LINE_MAPS.maps) - {"spline", "shift"})
    ),
    CatalogueCase(
        "inverse",
        ({"name": "inverse", "transforms": ({"name": "planar", "n_terms": 2}, "elementwise")},),
        ((4, 4), (3, 5)),
        size=0.3,
    ),
    CatalogueCase("elementwise of vectors", ({"name": "elementwise", "map": "sinh_arcsinh"},), ((),), DoubleWell()),
    CatalogueCase("planar", ("planar",), SHAPES, size=1.0),
    CatalogueCase("planar of vectors", ({"name": "planar", "n_terms": 2},), ((),), DoubleWell(), size=1.0),
    CatalogueCase("sylvester", ({"name": "sylvester", "rank": 3},), ((4, 4), (6,), (3,)), size=1.0, refused=((2,),)),
    CatalogueCase("sylvester of all directions", ({"name": "sylvester", "rank": 2},), ((),), DoubleWell(), size=1.0),
    CatalogueCase("actnorm", ("actnorm",), SHAPES, period=1, rotations=True, any_volume=True),
    CatalogueCase(
        "actnorm without shift",
        ({"name": "actnorm", "shift": False},),
        SHAPES,
        odd=True,
        period=1,
        rotations=True,
        any_volume=True,
    ),
    CatalogueCase("actnorm of vectors", ("actnorm",), ((),), DoubleWell()),
    CatalogueCase("mixed coordinates", ("convolution_1x1",), ((),), DoubleWell()),
    CatalogueCase(
        "mixed channels of blocks",
        ({"name": "blocks", "transforms": ("actnorm", "convolution_1x1", "spectrum", {"name": "residual"})},),
        ((4, 4), (6,)),
        period=2,
    ),
    CatalogueCase("spectrum", ("spectrum",), (*SHAPES, (5, 3)), odd=True, period=1, rotations=True),
    CatalogueCase("smooth spectrum", ({"name": "spectrum", "n_knots": 5},), SHAPES, odd=True, period=1, rotations=True),
    CatalogueCase(
        "free field",
        ({"name": "free_field", "mass_squared": 0.5},),
        (*SHAPES, (5, 3)),
        odd=True,
        period=1,
        rotations=True,
        identity=False,
    ),
    CatalogueCase("maf", ({"name": "maf", "hidden": [8]},), ((4, 2), (3,))),
    CatalogueCase(
        "maf of splines", ({"name": "maf", "map": "spline", "hidden": [8], "reverse": True},), ((2, 3), (5,))
    ),
    CatalogueCase(
        "maf of two groups",
        ({"name": "maf", "map": "sinh_arcsinh", "hidden": [8], "passes": 2},),
        ((3, 3), (4, 4)),
    ),
    CatalogueCase(
        "maf of monotone networks", ({"name": "maf", "map": "naf", "hidden": [8]},), ((3, 2),), identity=False
    ),
    CatalogueCase("maf of integrals", ({"name": "maf", "map": "umnn", "hidden": [8]},), ((),), DoubleWell()),
    CatalogueCase("iaf", ({"name": "iaf", "hidden": [8]},), ((4, 2), (3,))),
    CatalogueCase(
        "iaf of monotone networks",
        ({"name": "iaf", "map": "naf", "hidden": [8]},),
        ((),),
        DoubleWell(),
        identity=False,
    ),
    CatalogueCase("iaf of integrals of networks", ({"name": "iaf", "map": "umnn", "hidden": [8]},), ((2, 3),)),
    CatalogueCase("residual", ({"name": "residual", "hidden": [4]},), (*SHAPES, (5, 3)), period=1),
    CatalogueCase(
        "odd residual", ({"name": "residual", "hidden": [4, 4], "odd": True, "kernel": 5},), SHAPES, odd=True, period=1
    ),
    CatalogueCase(
        "residual of vectors", ({"name": "residual", "hidden": [8, 8], "contraction": 0.7},), ((),), DoubleWell()
    ),
]

NAMED = {table if isinstance(table, str) else table["name"] for case in CATALOGUE for table in case.tables}
assert set(TRANSFORMS.maps) == NAMED, "every catalogued transform needs a case"
