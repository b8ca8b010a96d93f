"""The action in latent coordinates, and its force."""

import pytest
import torch
from cases import FLOW_CASES, FlowCase
from torch import Tensor

from lattice_flows.flows import Pullback, integrated_parts
from lattice_flows.lattice import CIRCLE
from lattice_flows.theories import WilsonU1

pytestmark = pytest.mark.quick

EVERY = pytest.mark.parametrize("case", FLOW_CASES, ids=lambda case: case.name)


def _slope(action: Pullback, z: Tensor, direction: Tensor) -> Tensor:
    """dS'/dz along a direction by central differences of fourth order."""
    h = 1e-6  # small beside the distances between the kinks of a tree of splines
    near = action(z + h * direction) - action(z - h * direction)
    far = action(z + 2 * h * direction) - action(z - 2 * h * direction)
    return (8 * near - far) / (12 * h)


@EVERY
def test_force_is_the_finite_difference(case: FlowCase, generator: torch.Generator) -> None:
    flow = case.build((4, 8))
    pullback = Pullback(WilsonU1(2.0), flow.transform)
    z = flow.prior.sample(6, generator)
    direction = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    force = pullback.force(z)
    assert force.shape == z.shape
    assert force.dtype == torch.float64
    along = (force * direction).flatten(1).sum(1)
    expected = -_slope(pullback, z, direction)
    # The spline's kinks spoil the order of a difference across them, not the force itself: most must agree closely.
    deviation = ((along - expected).abs() / expected.abs().clamp_min(1.0)).sort().values
    assert deviation[3] < 1e-5
    assert ((1.01 * along - expected).abs() / expected.abs().clamp_min(1.0)).median() > 1e-4  # 1 % off is seen


@EVERY
def test_force_leaves_the_weights_without_gradients(case: FlowCase, generator: torch.Generator) -> None:
    flow = case.build((4, 4))
    force = Pullback(WilsonU1(1.0), flow.transform).force(flow.prior.sample(2, generator))
    assert not force.requires_grad
    assert all(weight.grad is None for weight in flow.parameters())


@EVERY
def test_is_minus_the_log_weight(case: FlowCase, generator: torch.Generator) -> None:
    """With a prior of density 1, S'(z) = -log_w of the field that z becomes."""
    flow, action = case.build((4, 4)), WilsonU1(1.5)
    pullback = Pullback(action, flow.transform)
    assert pullback.space is CIRCLE
    z = flow.prior.sample(3, generator)
    x = pullback.image(z).x
    agree = 1e-5 if integrated_parts(flow) else 1e-8  # map and inverse in a finite number of steps
    torch.testing.assert_close(pullback(z), action(x) + flow.log_prob(x), atol=agree, rtol=0)
    assert pullback(z).dtype == torch.float64
