"""Flows of scalar fields and their contract's cases; tests/cases.py has those of links, and all samplers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lattice_flows.flows import LINE_MAPS, Flow, initialise
from lattice_flows.flows.checkerboard import checkerboard_coupling
from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, Shift, SinhArcsinh
from lattice_flows.flows.logistics import LogisticDensity, LogisticMixture
from lattice_flows.flows.map_catalogue import MapTable
from lattice_flows.flows.monotone import MonotoneNetwork
from lattice_flows.theories import Action, Phi4, Phi4Hopping
from lattice_flows.training import TrainingSettings, train

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ScalarFlowCase:
    """A flow of scalar fields that commutes with phi -> -phi and with translations by an even number of steps.

    `build(shape)` gives float64 weights far from the identity; `refused` are shapes that it must not accept.
    """

    name: str
    catalogue_name: str
    build: Callable[[Shape], Flow]
    shapes: tuple[Shape, ...]
    refused: tuple[Shape, ...]


def far_flow(shape: Shape, action: Action, transform: MapTable, prior: str, **options: object) -> Flow:
    """Every site moves twice; no weight is zero, and no parameter of the maps is small."""
    flow = checkerboard_coupling(shape, action, n_layers=4, transform=transform, prior=prior, **options).double()
    generator = torch.Generator().manual_seed(1)
    initialise(flow, generator)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return flow


def affine_flow(shape: Shape) -> Flow:
    return far_flow(shape, Phi4(-4.0, 8.0), "affine", "free", hidden=(6,), kernel=3)


def spline_flow(shape: Shape) -> Flow:
    return far_flow(shape, Phi4Hopping(0.2, 0.5), "spline", "gaussian", hidden=(6, 5), n_bins=5)


def density_flow(shape: Shape) -> Flow:
    transform = {"name": "logistic_density", "n_components": 2}
    return far_flow(shape, Phi4(-4.0, 8.0), transform, "free", hidden=(6,), kernel=3)


def logistics_flow(shape: Shape) -> Flow:
    transform = {"name": "logistics", "n_components": 2}
    return far_flow(shape, Phi4(-4.0, 8.0), transform, "free", hidden=(6,), kernel=3)


def monotone_flow(shape: Shape) -> Flow:
    return far_flow(shape, Phi4Hopping(0.2, 0.5), {"name": "monotone", "n_units": 3}, "gaussian", hidden=(6,))


@dataclass(frozen=True)
class LineCase:
    name: str
    line: LineTransform


LINES = [
    LineCase("affine", Affine()),
    LineCase("sinh-arcsinh", SinhArcsinh(0.7)),
    LineCase("shift", Shift()),
    LineCase("one logistic", LogisticMixture(1, 0.7)),
    LineCase("logistics of 4", LogisticMixture(4)),
    LineCase("logistics of 5", LogisticMixture(5, 1.5)),
    LineCase("density of 4 logistics", LogisticDensity(4)),
    LineCase("density of 3 logistics", LogisticDensity(3, 0.7)),
    LineCase("monotone of 1", MonotoneNetwork(1, 3.0)),
    LineCase("monotone of 8", MonotoneNetwork(8, 4.0)),
    LineCase("spline of 2", LineSpline(2, 3.0)),
    LineCase("spline of 7", LineSpline(7, 1.5)),
    LineCase("spline of 8", LineSpline(8, 4.0)),
]

assert {type(case.line) for case in LINES} == set(LINE_MAPS.maps.values()), "every catalogued map needs a case"

SHAPES = ((4, 4), (2, 6), (6,), (2, 4, 2))
FEW_SHAPES = ((4, 4), (6,))
REFUSED = ((5, 4), (4, 3), (7,), (2, 2, 1), ())

SCALAR_FLOWS = [
    ScalarFlowCase("affine", "checkerboard_coupling", affine_flow, SHAPES, REFUSED),
    ScalarFlowCase("spline", "checkerboard_coupling", spline_flow, SHAPES, REFUSED),
    ScalarFlowCase("logistics", "checkerboard_coupling", logistics_flow, FEW_SHAPES, REFUSED[:1]),
    ScalarFlowCase("logistic density", "checkerboard_coupling", density_flow, FEW_SHAPES, REFUSED[:1]),
    ScalarFlowCase("monotone", "checkerboard_coupling", monotone_flow, FEW_SHAPES, REFUSED[:1]),
]


@cache
def trained_scalar_flow(shape: Shape, action: Action, transform: str, steps: int = 120) -> Flow:
    """A small flow, trained for a few seconds; float64 throughout."""
    torch.set_num_threads(1)
    flow = checkerboard_coupling(shape, action, n_layers=4, transform=transform, hidden=(8,), kernel=3)
    settings = TrainingSettings(max_steps=steps, batch_size=64, learning_rate=0.01, monitor_samples=128)
    with TemporaryDirectory() as folder:
        train(flow, action, settings, Path(folder), seed=1, header={})
    return flow.double().requires_grad_(False)
