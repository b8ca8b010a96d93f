"""What must pass each contract: one entry here buys every test that applies to it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lattice_flows.actions import ACTIONS, Action, WilsonU1
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
from lattice_flows.samplers import HMC, SAMPLERS, Direct, FlowHMC, FlowMetropolis, FlowSamples, Sampler
from lattice_flows.training import TrainingSettings, train

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
    TransformCase("spline", lambda shape: spline_flow(shape).transform, COUPLING_SHAPES, translation=4),
    TransformCase(
        "inverse of a chain of both",
        lambda shape: Inverse(Chain(projection_flow(shape).transform, spline_flow(shape).transform)),
        ((4, 4),),
        translation=4,
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


@dataclass(frozen=True)
class ActionCase:
    """An action on configurations of shape `event`."""

    name: str
    action: Action
    event: Shape


ACTION_CASES = [
    ActionCase("u1 8x8", WilsonU1(2.0), (2, 8, 8)),
    ActionCase("u1 5x3", WilsonU1(0.7), (2, 5, 3)),
    ActionCase("u1 3x4x3", WilsonU1(1.3), (3, 3, 4, 3)),
]

assert {type(case.action) for case in ACTION_CASES} == set(ACTIONS.values()), "every catalogued action needs a case"


@dataclass(frozen=True)
class SamplerCase:
    """A sampler of 2D U(1): `build(action, shape)`, and how much of it the tests of expectation values need.

    `points` are the lattices and couplings. `compiled` samplers give the same bits for any threads and grouping.
    """

    name: str
    catalogue_name: str
    build: Callable[[WilsonU1, Shape], Sampler]
    points: tuple[tuple[Shape, float], ...]
    n_chains: int
    n_configs: int
    n_updates: int
    compiled: bool


MANY_POINTS = (((4, 4), 1.0), ((8, 8), 2.0), ((6, 10), 1.5), ((3, 5), 2.5), ((2, 2), 1.0), ((16, 16), 3.0))
FLOW_POINTS = (((4, 4), 1.0), ((8, 4), 1.0))


@cache
def trained_flow(shape: Shape, beta: float, transform: str, steps: int = 150) -> Flow:
    """A small flow, trained for a few seconds; float64 throughout."""
    torch.set_num_threads(1)
    flow = plaquette_coupling(shape, n_layers=8, transform=transform)
    with TemporaryDirectory() as folder:
        train(flow, WilsonU1(beta), TrainingSettings(max_steps=steps), Path(folder), seed=1, header={})
    return flow.double().requires_grad_(False)


def _flow_metropolis(action: WilsonU1, shape: Shape) -> Sampler:
    return FlowMetropolis(action, trained_flow(shape, 1.0, "projection"), batch_size=500)


def _flow_hmc(action: WilsonU1, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_flow(shape, 1.0, "projection"), 1.0, 4)


def _flow_samples(action: WilsonU1, shape: Shape) -> Sampler:
    return FlowSamples(action, trained_flow(shape, 1.0, "projection"), batch_size=500)


def _torch_hmc(action: WilsonU1, shape: Shape) -> Sampler:
    return HMC(WithoutKernels(action.beta), 1.0, 6)


class WithoutKernels(WilsonU1):
    """The Wilson action without its compiled forms, for the torch path of HMC."""

    def kernels(self, event: Shape) -> None:
        return None


SAMPLER_CASES = [
    SamplerCase("hmc", "hmc", lambda action, shape: HMC(action, 1.0, 6), MANY_POINTS, 16, 800, 8, True),
    SamplerCase("hmc in torch", "hmc", _torch_hmc, (((4, 4), 1.0),), 200, 60, 3, False),
    SamplerCase("direct", "direct", lambda action, shape: Direct(action), MANY_POINTS, 16, 500, 1, True),
    SamplerCase("flow_metropolis", "flow_metropolis", _flow_metropolis, FLOW_POINTS, 10, 1000, 2, False),
    SamplerCase("flow_hmc", "flow_hmc", _flow_hmc, FLOW_POINTS, 200, 50, 1, False),
    SamplerCase("flow_samples", "flow_samples", _flow_samples, FLOW_POINTS, 10, 1000, 1, False),
]

assert {case.catalogue_name for case in SAMPLER_CASES} == set(SAMPLERS), "every catalogued sampler needs a case"
