"""What must pass each contract: one entry here buys every test that applies to it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lattice_flows.flows import (
    FLOWS,
    Chain,
    CircleTransform,
    CircularSpline,
    Flow,
    Inverse,
    ProjectionMixture,
    Transform,
    initialise,
    plaquette_coupling,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TransformCase:
    """A transform of 2D links and the symmetries it claims. `build` gives float64 weights far from the identity."""

    name: str
    build: Callable[[Shape], Transform]
    shapes: tuple[Shape, ...]
    gauge: bool = True
    translation: int = 0  # sites, along either axis; 0: none
    conjugation: bool = False
    smooth: bool = True


@dataclass(frozen=True)
class FlowCase:
    """A flow builder: `build(shape)` is small and quick; `refused` are shapes that it must not accept."""

    name: str
    catalogue_name: str
    build: Callable[[Shape], Flow]
    shapes: tuple[Shape, ...]
    refused: tuple[Shape, ...]


@dataclass(frozen=True)
class CircleCase:
    name: str
    circle: CircleTransform


def _coupling(shape: Shape, transform: str, **options: object) -> Flow:
    """Eight layers move every link; tripled weights make the map far from the identity."""
    flow = plaquette_coupling(shape, n_layers=8, transform=transform, hidden=(6,), **options).double()
    initialise(flow, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(3.0)
    return flow


def projection_flow(shape: Shape) -> Flow:
    return _coupling(shape, "projection")


def spline_flow(shape: Shape) -> Flow:
    return _coupling(shape, "spline", n_bins=5)


COUPLING_SHAPES = ((4, 4), (8, 4), (4, 12))

TRANSFORMS = [
    TransformCase(
        "projection",
        lambda shape: projection_flow(shape).transform,
        COUPLING_SHAPES,
        translation=4,
        conjugation=True,
    ),
    TransformCase(
        "spline", lambda shape: spline_flow(shape).transform, COUPLING_SHAPES, translation=4, smooth=False
    ),
    TransformCase(
        "inverse of a chain of both",
        lambda shape: Inverse(Chain(projection_flow(shape).transform, spline_flow(shape).transform)),
        ((4, 4),),
        translation=4,
        smooth=False,
    ),
]

CIRCLES = [
    CircleCase("projection of 1", ProjectionMixture(1)),
    CircleCase("projection of 3", ProjectionMixture(3)),
    CircleCase("spline of 2", CircularSpline(2)),
    CircleCase("spline of 8", CircularSpline(8)),
]

FLOW_CASES = [
    FlowCase("projection", "plaquette_coupling", projection_flow, ((4, 4), (8, 4)), ((6, 4), (4, 6), (2, 4), (4,))),
    FlowCase("spline", "plaquette_coupling", spline_flow, ((4, 4), (8, 4)), ((6, 4), (4, 6), (2, 4), (4,))),
]

assert {case.catalogue_name for case in FLOW_CASES} == set(FLOWS), "every catalogued flow needs a case"
