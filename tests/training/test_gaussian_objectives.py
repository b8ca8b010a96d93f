"""The gradient of every objective against the analytic one of a Gaussian flow and a Gaussian target."""

import math
from collections.abc import Callable

import pytest
import torch
from gaussian import (
    GaussianAction,
    forward_kl_gradient,
    gaussian_flow,
    half_variance_gradient,
    reverse_kl_gradient,
    weighted_bias,
    weighted_gradient,
)
from torch import Tensor

from lattice_flows.flows import Flow
from lattice_flows.theories import Action
from lattice_flows.training import (
    OBJECTIVES,
    Drawn,
    ForwardKL,
    ImportanceWeighted,
    LogVariance,
    LossEstimate,
    Mixture,
    Objective,
    SampleBuffer,
    SelfNormalised,
    path_gradient,
    reinforce,
    reverse_kl,
)
from lattice_flows.training.objectives import Batch, paths

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
        "dreg": lambda: ImportanceWeighted(3),
        "log_variance": lambda: LogVariance(Drawn(action.draw)),
        "forward_kl": lambda: ForwardKL(Drawn(action.draw)),
        "mixture": lambda: Mixture(path_gradient, ForwardKL(Drawn(action.draw)), 0.7, 1.6),
        "self_normalised": lambda: SelfNormalised(SampleBuffer(*buffer)),
    }


def _expected(name: str, flow: Flow, action: GaussianAction) -> Tensor:
    reverse, forward = reverse_kl_gradient(flow, action), forward_kl_gradient(flow, action)
    if name == "mixture":
        return 0.7 * reverse + 1.6 * forward
    if name == "log_variance":
        return half_variance_gradient(flow, action)
    return forward if name in ("forward_kl", "self_normalised") else reverse


def _gradients(
    objective: Callable[[], Objective],
    flow: Flow,
    action: GaussianAction,
    generator: torch.Generator,
    n_batches: int = N_BATCHES,
    batch: int = BATCH,
) -> Tensor:
    """Of independent batches, (n_batches, 2 d)."""
    rows = []
    for _ in range(n_batches):
        flow.zero_grad()
        objective()(flow, action, batch, generator, torch.float64).loss.backward()
        rows.append(torch.cat([weight.grad for weight in flow.parameters()]))
    return torch.stack(rows)


def _of_one_batch(objective: Objective, flow: Flow, action: GaussianAction, generator: torch.Generator) -> Tensor:
    flow.zero_grad()
    objective(flow, action, 50, generator).loss.backward()
    return torch.cat([weight.grad for weight in flow.parameters() if weight.grad is not None])


def _largest_pull(gradients: Tensor, expected: Tensor) -> float:
    error = gradients.std(0) / math.sqrt(len(gradients))
    return float(((gradients.mean(0) - expected).abs() / error).max())


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "dreg"])
@pytest.mark.parametrize(("start", "action"), THEORIES)
def test_gradient_is_the_analytic_one(
    name: str, start: tuple[list[float], list[float]], action: GaussianAction, generator: torch.Generator
) -> None:
    """And one that is 2 % too large is seen."""
    flow = gaussian_flow(*start)
    gradients, expected = _gradients(_objectives(action)[name], flow, action, generator), _expected(name, flow, action)
    assert _largest_pull(gradients, expected) < 4.5
    assert _largest_pull(1.02 * gradients, expected) > 4.5


@pytest.mark.parametrize("name", ["reverse_kl", "path_gradient", "reinforce", "dreg"])
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


@pytest.mark.parametrize("objective", [reinforce, LogVariance(None)], ids=["reinforce", "log_variance"])
def test_it_needs_two(objective: Objective, generator: torch.Generator) -> None:
    action = GaussianAction((0.6,), (0.75,))
    with pytest.raises(ValueError, match="at least 2"):
        objective(gaussian_flow([0.0], [0.0]), action, 1, generator)


@pytest.mark.parametrize("group_size", [2, 3])
def test_gradient_of_small_groups(group_size: int, generator: torch.Generator) -> None:
    """The exact one, of a target that is wider than the flow; weights that are reparametrised once only are seen."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.8,), (1.2,))
    exact = weighted_gradient(flow, action, group_size)
    torch.testing.assert_close(exact, weighted_gradient(flow, action, group_size, n_nodes=80), rtol=1e-5, atol=0.0)

    class Once(ImportanceWeighted):
        def loss(self, flow: Flow, action: Action, batch: Batch) -> LossEstimate:
            along, log_w = paths(flow, action, batch[0].flatten(0, 1))
            shares = torch.softmax(log_w.unflatten(0, (-1, self.group_size)), 1).flatten()
            return LossEstimate((shares * along.sum(1)).sum() / len(batch[0]), log_w)

    right, wrong = (
        _gradients(lambda kind=kind: kind(group_size), flow, action, generator) for kind in (ImportanceWeighted, Once)
    )
    assert _largest_pull(right, exact) < 4.5
    assert _largest_pull(1.02 * right, exact) > 4.5
    assert _largest_pull(wrong, exact) > 20


def test_large_groups_have_the_gradient_of_the_forward_divergence(generator: torch.Generator) -> None:
    """But for the bias that is told, which is seen."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.6,), (0.75,))
    forward, bias = forward_kl_gradient(flow, action), weighted_bias(flow, action) / 100
    found = _gradients(lambda: ImportanceWeighted(100), flow, action, generator, batch=600)
    assert _largest_pull(found, forward + bias) < 4.5
    assert _largest_pull(found, forward) > 4.5


def test_near_the_target_a_group_of_two_has_half_of_the_gradient_of_the_reverse_kl() -> None:
    flow = gaussian_flow([0.0], [0.0])
    for distance in (0.02, 0.01):
        action = GaussianAction((distance,), (1.0 + distance,))
        half = 0.5 * reverse_kl_gradient(flow, action)
        assert (weighted_gradient(flow, action, 2) - half).abs().max() < 2.0 * distance * half.abs().max()


def test_a_group_of_one_has_no_gradient() -> None:
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        ImportanceWeighted(1)


def test_log_variance_of_its_own_samples_has_the_gradient_of_reinforce(seed: int) -> None:
    """To rounding, batch by batch."""
    flow, action = gaussian_flow([0.2, -0.3], [0.1, 0.0]), GaussianAction((-0.4, 0.3), (0.8, 0.75))
    found = [
        _of_one_batch(objective, flow, action, torch.Generator().manual_seed(seed))
        for objective in (LogVariance(None), reinforce)
    ]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_a_variance_of_few_rows_is_unbiased(generator: torch.Generator) -> None:
    """As parts of a batch have few; the mean square about their own mean would be 3/4 of it."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.6,), (0.75,))
    found = _gradients(lambda: LogVariance(Drawn(action.draw)), flow, action, generator, n_batches=3000, batch=4)
    exact = half_variance_gradient(flow, action)
    assert _largest_pull(found, exact) < 4.5
    assert _largest_pull(0.75 * found, exact) > 4.5


def test_a_reference_that_is_differentiated_is_seen(generator: torch.Generator) -> None:
    """The gradient of Var(log w) with respect to the samples, too, is another one."""
    flow, action = gaussian_flow([0.0], [0.0]), GaussianAction((0.6,), (0.75,))

    class Differentiated(LogVariance):
        def loss(self, flow: Flow, action: Action, batch: Batch) -> LossEstimate:
            x, log_q = flow.image(batch[0])
            log_w = -action(x) - log_q
            return LossEstimate(0.5 * log_w.var(), log_w.detach())

    exact = reverse_kl_gradient(flow, action)
    assert _largest_pull(_gradients(lambda: LogVariance(None), flow, action, generator), exact) < 4.5
    assert _largest_pull(_gradients(lambda: Differentiated(None), flow, action, generator), exact) > 20


def test_log_variance_vanishes_on_target_over_any_reference(generator: torch.Generator) -> None:
    """Sample by sample, also over configurations of another density."""
    flow, action = gaussian_flow([0.6], [math.log(0.75)]), GaussianAction((0.6,), (0.75,))
    elsewhere = GaussianAction((-2.0,), (3.0,))
    assert _of_one_batch(LogVariance(Drawn(elsewhere.draw)), flow, action, generator).abs().max() < 1e-12
    assert _of_one_batch(LogVariance(Drawn(elsewhere.draw)), flow, elsewhere, generator).abs().max() > 0.1


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
