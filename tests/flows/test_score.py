"""d log q / dx carried along the flow, against autograd through the inverse."""

import pytest
import torch
from cases import TRANSFORMS, TransformCase

from lattice_flows.flows import Flow, HaarU1, forward_with_score

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("case", "shape"),
    [pytest.param(case, shape, id=f"{case.name} {shape}") for case in TRANSFORMS for shape in case.shapes],
)
def test_score_is_the_gradient_of_log_prob(
    case: TransformCase, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    flow = Flow(HaarU1((2, *shape)), case.build(shape))
    z = flow.prior.sample(3, generator)
    x, log_det, score = forward_with_score(flow.transform, z, torch.zeros_like(z))
    expected_x, expected_log_det = flow.transform.forward(z)
    torch.testing.assert_close(x, expected_x, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_det, expected_log_det, atol=1e-12, rtol=0)
    end = x.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)
    assert not score.requires_grad
    assert expected.abs().max() > 1
