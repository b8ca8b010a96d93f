"""The score-function gradient by regions: unbiased, and much quieter than that of whole configurations."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numba
import pytest
import torch
from cases import mlp_tree, structured_tree
from torch import Tensor

from lattice_flows.flows import Flow, multiscale
from lattice_flows.lattice import CIRCLE
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.training import LossEstimate, path_gradient, reinforce, reverse_kl

Objective = Callable[..., LossEstimate]
ACTION = WilsonU1(2.0)
SHAPES = pytest.mark.parametrize("shape", [(4, 4), (6, 4), (3, 5)], ids=str)
TREES = pytest.mark.parametrize("build", [mlp_tree, structured_tree])


@dataclass(frozen=True)
class Whole(Action):
    """The same action without its parts, so that no objective can take it region by region."""

    action: Action
    space = CIRCLE

    def field(self, lattice_shape):
        return self.action.field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.action(x)


def _gradient(objective: Objective, flow: Flow, action: Action, n: int, generator: torch.Generator) -> Tensor:
    flow.zero_grad()
    objective(flow, action, n, generator).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in flow.parameters()])


def _near(shape: tuple[int, int]) -> Flow:
    """A tree that is nearly the identity: its gradient is large, and quieter than far from it."""
    flow = multiscale(shape, ACTION, n_bins=5, n_knots=9, hidden=(8,))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.03 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return flow


def _pulls(
    flow: Flow, n: int, repetitions: int, generator: torch.Generator, planted: float = 1.0
) -> tuple[float, float]:
    """Difference from the path gradient of the same samples along that of many, in units of its error.

    And the same where the gradient is multiplied by `planted`.
    """
    direction = _gradient(path_gradient, flow, ACTION, 4000, generator)
    direction = direction / direction.norm()
    pairs = []
    for _ in range(repetitions):
        seed = int(torch.randint(2**31, (1,), generator=generator))
        pairs.append(
            torch.stack(
                [
                    _gradient(objective, flow, ACTION, n, torch.Generator().manual_seed(seed)) @ direction
                    for objective in (reinforce, path_gradient)
                ]
            )
        )
    by_region, by_path = torch.stack(pairs, 1)
    samples = [factor * by_region - by_path for factor in (1.0, planted)]
    right, wrong = (float(one.mean() / (one.std() / math.sqrt(repetitions))) for one in samples)
    return right, wrong


@SHAPES
@TREES
def test_expectation_is_that_of_the_path_gradient(build, shape, generator: torch.Generator) -> None:
    assert abs(_pulls(build(shape), 1000, 40, generator)[0]) < 4.5


def test_a_gradient_three_per_cent_too_large_is_caught(generator: torch.Generator) -> None:
    right, wrong = _pulls(_near((4, 4)), 2000, 60, generator, planted=1.03)
    assert abs(right) < 4.5
    assert wrong > 4.5


@pytest.mark.parametrize("n", [2, 3])
def test_the_baseline_is_unbiased_for_the_smallest_batches(n: int, generator: torch.Generator) -> None:
    """Each sample's is made of the others: with its own in it the gradient would be (n - 1) / n of the true one."""
    right, wrong = _pulls(_near((2, 2)), n, 400, generator, planted=(n - 1) / n)
    assert abs(right) < 4.5
    assert wrong < -4.5


@SHAPES
@TREES
def test_loss_is_minus_the_mean_log_weight_of_the_samples(build, shape, seed: int) -> None:
    flow = build(shape)
    by_region, by_path = (
        objective(flow, ACTION, 9, torch.Generator().manual_seed(seed)) for objective in (reinforce, path_gradient)
    )
    assert by_region.log_w.shape == (9,)
    assert not by_region.log_w.requires_grad
    torch.testing.assert_close(by_region.loss.detach(), -by_region.log_w.mean(), atol=1e-10, rtol=0)
    torch.testing.assert_close(by_region.log_w, by_path.log_w, atol=1e-9, rtol=0)


def _noise(objective: Objective, flow: Flow, action: Action, n: int, generator: torch.Generator) -> float:
    """The summed variance of the gradient's components."""
    gradients = torch.stack([_gradient(objective, flow, action, n, generator) for _ in range(40)])
    return float(gradients.var(0).sum())


def test_vanishes_on_target(generator: torch.Generator) -> None:
    """At 2 x 2 the base of the structured conditioner is the target; what is left is the splines' error.

    The gradients through the samples keep their noise there.
    """
    flow = multiscale((2, 2), ACTION, conditioner="structured")
    by_region, by_way = (_noise(objective, flow, ACTION, 64, generator) for objective in (reinforce, reverse_kl))
    assert by_region < 1e-4 * by_way
    off = multiscale((2, 2), WilsonU1(2.04), conditioner="structured")
    assert _noise(reinforce, off, ACTION, 64, generator) > 20 * by_region


@pytest.mark.parametrize(("shape", "gain"), [((4, 4), 2.0), ((8, 8), 4.0)], ids=str)
def test_noise_is_below_that_of_whole_configurations(shape, gain: float, generator: torch.Generator) -> None:
    """The more so the larger the lattice."""
    flow = _near(shape)
    whole = _noise(reinforce, flow, Whole(ACTION), 128, generator)
    assert _noise(reinforce, flow, ACTION, 128, generator) < whole / gain


@TREES
def test_same_bits_for_any_threads(build, seed: int) -> None:
    flow = build((6, 4))
    one = _gradient(reinforce, flow, ACTION, 77, torch.Generator().manual_seed(seed))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    two = _gradient(reinforce, flow, ACTION, 77, torch.Generator().manual_seed(seed))
    assert torch.equal(one, two)
    assert one.abs().max() > 0


def test_a_batch_of_one_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        reinforce(mlp_tree((4, 4)), ACTION, 1, generator)
