"""Two estimators of one gradient."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from cases import projection_flow, spline_flow
from torch import Tensor

from lattice_flows.flows import Flow, plaquette_coupling
from lattice_flows.lattice import CIRCLE
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.theories.u1.action import link_field
from lattice_flows.training import ImportanceWeighted, LogVariance, LossEstimate, path_gradient, reverse_kl

Objective = Callable[..., LossEstimate]
FLOWS = pytest.mark.parametrize("build", [projection_flow, spline_flow])


@dataclass(frozen=True)
class OwnDensity(Action):
    """S = -log q of a flow: the target that the flow meets exactly."""

    flow: Flow
    space = CIRCLE

    def field(self, lattice_shape):
        return link_field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return -self.flow.log_prob(x)


def _gradient(objective: Objective, flow: Flow, action: Action, n: int, generator: torch.Generator) -> Tensor:
    flow.zero_grad()
    objective(flow, action, n, generator).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in flow.parameters() if weight.grad is not None])


def _pull(flow: Flow, action: Action, generator: torch.Generator, planted: float = 1.0) -> float:
    """Difference of both gradients of the same samples along one fixed direction, in units of its error."""
    direction = _gradient(reverse_kl, flow, action, 500, generator)
    direction = direction / direction.norm()
    differences = []
    for _ in range(40):
        seed = int(torch.randint(2**31, (1,), generator=generator))
        gradients = [
            factor * _gradient(objective, flow, action, 200, torch.Generator().manual_seed(seed))
            for objective, factor in ((path_gradient, planted), (reverse_kl, 1.0))
        ]
        differences.append(float((gradients[0] - gradients[1]) @ direction))
    sample = torch.tensor(differences)
    return float(sample.mean() / (sample.std() / math.sqrt(len(sample))))


@pytest.mark.parametrize("transform", ["projection", "spline"])
def test_both_gradients_have_one_expectation(transform: str, generator: torch.Generator) -> None:
    flow, action = plaquette_coupling((4, 4), n_layers=2, transform=transform).double(), WilsonU1(1.0)
    assert abs(_pull(flow, action, generator)) < 4
    assert abs(_pull(flow, action, generator, planted=1.1)) > 6


@FLOWS
def test_both_losses_are_minus_the_mean_log_weight(build: Callable[..., Flow], seed: int) -> None:
    flow, action = build((4, 4)), WilsonU1(1.0)
    estimates = [
        objective(flow, action, 8, torch.Generator().manual_seed(seed)) for objective in (reverse_kl, path_gradient)
    ]
    for loss, log_w in estimates:
        assert log_w.shape == (8,)
        assert not log_w.requires_grad
        torch.testing.assert_close(loss.detach(), -log_w.mean(), atol=1e-10, rtol=0)
    torch.testing.assert_close(estimates[0].log_w, estimates[1].log_w, atol=1e-7, rtol=0)


@FLOWS
def test_gradients_vanish_on_target(build: Callable[..., Flow], generator: torch.Generator) -> None:
    """Sample by sample, at any weights; the reparametrised gradient does so only on average."""
    flow = build((4, 4))
    target = OwnDensity(build((4, 4)))
    assert _gradient(path_gradient, flow, target, 16, generator).abs().max() < 1e-6
    assert _gradient(ImportanceWeighted(4), flow, target, 4, generator).abs().max() < 1e-6
    assert _gradient(LogVariance(None), flow, target, 16, generator).abs().max() < 1e-6
    assert _gradient(reverse_kl, flow, target, 16, generator).abs().max() > 1e-2


def test_path_gradient_vanishes_at_beta_zero(generator: torch.Generator) -> None:
    flow = plaquette_coupling((4, 4), n_layers=8).double()
    with torch.no_grad():
        for weight in flow.parameters():
            weight.zero_()
    assert _gradient(path_gradient, flow, WilsonU1(0.0), 16, generator).abs().max() < 1e-12


@FLOWS
def test_likelihoods_have_the_gradient_of_finite_differences(
    build: Callable[..., Flow], generator: torch.Generator
) -> None:
    """Through the inverse of the maps, which forward_kl and reinforce need."""
    flow = build((4, 4)).double()
    x = 2.0 * math.pi * torch.rand((4, 2, 4, 4), generator=generator, dtype=torch.float64) - math.pi
    weights = list(flow.parameters())
    directions = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
    gradients = torch.autograd.grad(flow.log_prob(x).sum(), weights, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions) if g is not None)
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            torch._foreach_add_(weights, directions, alpha=step)
            ends.append(float(flow.log_prob(x).sum()))
    difference = (ends[0] - ends[1]) / 2e-6
    assert difference == pytest.approx(slope, rel=1e-4)
    assert abs(slope) > 1e-2


def test_scaled_action(generator: torch.Generator) -> None:
    action = WilsonU1(3.0)
    x = torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64)
    scaled = action.scaled(0.25)
    torch.testing.assert_close(scaled(x), 0.25 * action(x))
    torch.testing.assert_close(scaled.force(x), 0.25 * action.force(x))
    assert scaled.space is CIRCLE
