"""The gradient of every objective against the analytic one of a Gaussian flow and a Gaussian target."""

import math
from collections.abc import Callable

import pytest
import torch
from gaussian import GaussianAction, forward_kl_gradient, gaussian_flow, reverse_kl_gradient
from torch import Tensor

from lattice_flows.flows import Flow
from lattice_flows.training import (
    OBJECTIVES,
    Drawn,
    ForwardKL,
    Mixture,
    Objective,
    SampleBuffer,
    SelfNormalised,
    path_gradient,
    reinforce,
    reverse_kl,
)

pytestmark = pytest.mark.quick

N_BATCHES, BATCH = 100, 10_000

# Narrower than the flow in every dimension, so that weights are bounded and none is truncated.
THEORIES = [
    pytest.param(([0.0], [0.0]), GaussianAction((0.6,), (0.75,)), id="1D"),
    pytest.param(([0.2, -0.3, 0.0], [0.1, 0.0, 0.2]), GaussianAction((-0.4, 0.3, 0.5), (0.8, 0.75, 0.9)), id="3D"),
]


def _objectives(action: GaussianAction) -> dict[str, Callable[[], Objective]]:
    """Each by what makes a fresh one: a buffer must not connect the batches."""
    buffer = (BATCH, (len(action.m),), torch.float64, torch.device("cpu"))
    return {
        "reverse_kl": lambda: reverse_kl,
        "path_gradient": lambda: path_gradient,
        "reinforce": lambda: reinforce,
        "forward_kl": lambda: ForwardKL(Drawn(action.draw)),
        "mixture": lambda: Mixture(path_gradient, ForwardKL(Drawn(action.draw)), 0.7, 1.6),
        "self_normalised": lambda: SelfNormalised(SampleBuffer(*buffer)),
    }


def _expected(name: str, flow: Flow, action: GaussianAction) -> Tensor:
    reverse, forward = reverse_kl_gradient(flow, action), forward_kl_gradient(flow, action)
    if name == "mixture":
        return 0.7 * reverse + 1.6 * forward
    return forward if name in ("forward_kl", "self_normalised") else reverse


def _gradients(objective: Callable[[], Objective], flow: Flow, action: GaussianAction, generator) -> Tensor:
    """Of independent batches, (N_BATCHES, 2 d)."""
    rows = []
    for _ in range(N_BATCHES):
        flow.zero_grad()
        objective()(flow, action, BATCH, generator, torch.float64).loss.backward()
        rows.append(torch.cat([weight.grad for weight in flow.parameters()]))
    return torch.stack(rows)


def _largest_pull(gradients: Tensor, expected: Tensor) -> float:
    error = gradients.std(0) / math.sqrt(len(gradients))
    return float(((gradients.mean(0) - expected).abs() / error).max())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("start", "action"), THEORIES)
def test_gradient_is_the_analytic_one(
    name: str, start: tuple[list[float], list[float]], action: GaussianAction, generator: torch.Generator
) -> None:
    """And one that is 2 % too large is seen."""
    flow = gaussian_flow(*start)
    gradients, expected = _gradients(_objectives(action)[name], flow, action, generator), _expected(name, flow, action)
    assert _largest_pull(gradients, expected) < 4.5
    assert _largest_pull(1.02 * gradients, expected) > 4.5


@pytest.mark.parametrize("name", ["reverse_kl", "path_gradient", "reinforce"])
def test_reverse_losses_are_minus_the_mean_log_weight(name: str, generator: torch.Generator) -> None:
    action = GaussianAction((0.6,), (0.75,))
    loss, log_w = _objectives(action)[name]()(gaussian_flow([0.0], [0.0]), action, 50, generator, torch.float64)
    torch.testing.assert_close(loss.detach(), -log_w.mean())


def test_forward_loss_is_the_cross_entropy(generator: torch.Generator) -> None:
    """-E_p[log q] = KL(p|q) + H(p), and <log w>_p = log Z + KL(p|q); a target 3 % wider is seen."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.6,), (0.75,))
    loss, log_w = ForwardKL(Drawn(action.draw))(flow, action, 100_000, generator)

    def kl(t: float) -> float:
        return -math.log(t) + (t**2 + 0.36) / 2 - 0.5

    error = float(log_w.std()) / math.sqrt(len(log_w))
    assert abs(float(log_w.mean()) - action.log_z - kl(0.75)) < 4.5 * error
    assert abs(float(log_w.mean()) - action.log_z - kl(0.7725)) > 4.5 * error
    log_q = math.log(2 * math.pi) / 2 + (0.75**2 + 0.36) / 2
    assert abs(float(loss.detach()) - log_q) < 4.5 * 1.5 / math.sqrt(100_000)


def test_reinforce_needs_two(generator: torch.Generator) -> None:
    action = GaussianAction((0.6,), (0.75,))
    with pytest.raises(ValueError, match="at least 2"):
        reinforce(gaussian_flow([0.0], [0.0]), action, 1, generator)


def test_without_its_baseline_reinforce_would_be_noisier(generator: torch.Generator) -> None:
    """A constant in S changes no gradient of it, not even of one batch."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.6,), (0.75,))

    class Shifted(GaussianAction):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) + 1000.0

    gradients = []
    for target in (action, Shifted(action.m, action.t)):
        flow.zero_grad()
        reinforce(flow, target, 100, torch.Generator().manual_seed(1)).loss.backward()
        gradients.append(torch.cat([weight.grad for weight in flow.parameters()]))
    torch.testing.assert_close(*gradients)
