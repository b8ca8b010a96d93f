"""A whole step of the training asks the host for nothing, and makes no double-precision fields in single precision."""

import pytest
import torch
from devices.registry import PAIR_NAMES, Pair, pair_named
from devices.watch import Watch
from torch import Tensor

from lattice_flows.flows import LoopContext, root
from lattice_flows.training import ALONE, Objective, TrainingSettings, path_gradient, reinforce, reverse_kl
from lattice_flows.training.optimise import Optimiser

B = 64
IN_DOUBLE = {"tree mlp", "tree structured", "hybrid"}  # a tree's map is float64 by design: its fluxes are sums of sums
TRAINABLE = [name for name in PAIR_NAMES if name != "tree exact"]
ON_CPU_KERNELS = {
    name for name in TRAINABLE if name in IN_DOUBLE
}  # numba on the CPU; test_waits.py has their torch form

OBJECTIVES = pytest.mark.parametrize(
    "objective", [reverse_kl, path_gradient, reinforce], ids=["reverse_kl", "path_gradient", "reinforce"]
)
SETTINGS = TrainingSettings(batch_size=B, max_steps=9)


def watched_step(pair: Pair, objective: Objective, settings: TrainingSettings, dtype: torch.dtype) -> Watch:
    """The tenth step, for then the gradient's noise is measured; the first one fills what is kept."""
    optimiser = Optimiser(pair.flow, settings, objective, ALONE)
    generator = torch.Generator().manual_seed(1)
    optimiser.step(pair.action, 0.0, 0, generator, dtype)
    with Watch("cpu", largest=B) as watch:
        optimiser.step(pair.action, 0.5, 10, generator, dtype)
    return watch


@OBJECTIVES
@pytest.mark.parametrize("name", [name for name in TRAINABLE if name not in ON_CPU_KERNELS])
def test_no_step_waits(name: str, objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "_CHECK_EVERY", 1000)  # on a GPU it does not look
    monkeypatch.setattr(root, "_require_solved", lambda *_: None)
    assert watched_step(pair_named(name), objective, SETTINGS, torch.float64).waits == []


def test_clipping_by_blocks_does_not_wait() -> None:
    settings = TrainingSettings(batch_size=B, max_steps=9, clip=2.0)
    assert watched_step(pair_named("spline"), path_gradient, settings, torch.float64).waits == []


@OBJECTIVES
@pytest.mark.parametrize("name", TRAINABLE)
def test_single_precision_stays_single(name: str, objective: Objective) -> None:
    """Sums over a configuration, (B,), may be in double precision, and what does not grow with the batch."""
    pair = pair_named(name)
    pair.flow.float()
    double = watched_step(pair, objective, SETTINGS, torch.float32).double
    assert bool(double) == (name in IN_DOUBLE), double


class DoubleContext(LoopContext):
    """Multiplies its angles by a constant of double precision."""

    def forward(self, pair: Tensor, frozen: Tensor) -> Tensor:
        factor = torch.ones(pair.shape, dtype=torch.float64, device=pair.device)
        return super().forward((pair * factor).to(pair.dtype), frozen)


class LookingContext(LoopContext):
    """Looks at its largest angle."""

    def forward(self, pair: Tensor, frozen: Tensor) -> Tensor:
        return super().forward(pair * (1.0 + 0.0 * float(pair.detach().max())), frozen)


@pytest.mark.parametrize("context", [DoubleContext, LookingContext])
def test_a_wrong_context_is_caught(context: type[LoopContext]) -> None:
    pair = pair_named("projection")
    pair.flow.float()
    for part in pair.flow.modules():
        if isinstance(part, LoopContext):
            part.__class__ = context
    watch = watched_step(pair, path_gradient, SETTINGS, torch.float32)
    assert bool(watch.double) == (context is DoubleContext)
    assert bool(watch.looks) == (context is LookingContext)


def test_a_step_that_reads_its_loss_is_caught() -> None:
    class Reading(type(path_gradient)):  # type: ignore[misc]
        def loss(self, *arguments):
            estimate = super().loss(*arguments)
            return estimate._replace(loss=estimate.loss * (1.0 + 0.0 * estimate.loss.item()))

    reading = Reading(path_gradient.of_latents, path_gradient.needs)
    assert watched_step(pair_named("spline"), reading, SETTINGS, torch.float64).looks
