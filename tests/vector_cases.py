"""Flows of vectors and their contract's cases; tests/cases.py has those of links, and all samplers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows import Flow, initialise, vector_coupling
from lattice_flows.lattice import REAL, Interval, Product, Space
from lattice_flows.theories import Action, DoubleWell, MuellerBrown
from lattice_flows.training import TrainingSettings, train

_FIVE = Product((REAL, Interval(-1.0, 3.0), REAL, REAL, Interval(0.0, 0.5)))


@dataclass(frozen=True)
class Chain5(Action):
    """S = sum_k (x_k - x_k+1)^2 of five coordinates, of which the second and the last one are in intervals."""

    space: Space = _FIVE  # type: ignore[misc]

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        return FieldSpec("x", ("coordinate",), (5,))

    def __call__(self, x: Tensor) -> Tensor:
        return x.double().diff(dim=1).square().sum(1) + x.double().square().sum(1)


@dataclass(frozen=True)
class VectorFlowCase:
    """`build()` gives float64 weights far from the identity, for this action."""

    name: str
    catalogue_name: str
    action: Action
    build: Callable[[], Flow]

    @property
    def parts(self) -> tuple[Space, ...]:
        """The space of each coordinate."""
        (n,) = self.action.event_shape(())
        return self.action.space.parts if isinstance(self.action.space, Product) else (self.action.space,) * n


def far_flow(action: Action, size: float, **options: object) -> Flow:
    """No weight is zero; in a box they are smaller, for close to a wall a number has few digits of the distance."""
    flow = vector_coupling((), action, n_layers=4, **{"hidden": (6, 6), **options}).double()
    generator = torch.Generator().manual_seed(1)
    initialise(flow, generator)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return flow


def _case(name: str, action: Action, **options: object) -> VectorFlowCase:
    size = 0.2 if action.space == REAL else 0.1
    return VectorFlowCase(name, "vector_coupling", action, lambda: far_flow(action, size, **options))


VECTOR_FLOWS = [
    _case("affine", DoubleWell(), transform="affine"),
    _case("spline", DoubleWell(), transform={"name": "spline", "n_bins": 5}, prior_width=2.0),
    _case("sinh-arcsinh", DoubleWell(), transform="sinh_arcsinh", hidden=(5,)),
    _case("affine in a box", MuellerBrown(), transform="affine"),
    _case("spline in a box", MuellerBrown(), transform={"name": "spline", "n_bins": 5}),
    _case("five coordinates", Chain5(), transform={"name": "spline", "n_bins": 4}, hidden=(6, 5)),
    _case("logistics", DoubleWell(), transform={"name": "logistics", "n_components": 3}),
    _case("logistic density", DoubleWell(), transform={"name": "logistic_density", "n_components": 2}),
    _case("monotone", DoubleWell(), transform={"name": "monotone", "n_units": 5}),
]


@cache
def trained_vector_flow(action: Action, transform: str, steps: int = 300) -> Flow:
    """A small flow, trained for a few seconds; float64 throughout."""
    torch.set_num_threads(1)
    flow = vector_coupling((), action, n_layers=2, transform=transform, hidden=(16,))
    settings = TrainingSettings(
        objective="reverse_kl", max_steps=steps, batch_size=256, learning_rate=0.01, warmup=0.1, anneal=0.5
    )
    with TemporaryDirectory() as folder:
        train(flow, action, settings, Path(folder), seed=1, header={})
    return flow.double().requires_grad_(False)
