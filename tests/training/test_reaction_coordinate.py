"""Samples spread along a reaction coordinate."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from gaussian import GaussianAction, gaussian_flow

from lattice_flows.errors import InputError
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.training import TrainingSettings, train
from lattice_flows.training.objectives import reverse_kl
from lattice_flows.training.reaction_coordinate import (
    WithReactionCoordinate,
    differentiable,
    divergence_from_uniform,
)

pytestmark = pytest.mark.quick

SQUARE = CollectiveVariable(
    value=lambda x: x[:, 0] ** 2 + x[:, 1],
    gradient=lambda x: np.stack([2.0 * x[:, 0], np.ones(len(x))], 1),
    symbol="r",
)


class Known(GaussianAction):
    collective_variables: ClassVar = {"r": SQUARE}


def test_it_is_the_divergence_of_what_is_not_uniform(generator: torch.Generator) -> None:
    """0 of uniform values, log 2 on half of the range, log 2 - 1/2 of a triangle; less by what the kernel blurs."""
    u = torch.rand(200_000, generator=generator, dtype=torch.float64)
    assert abs(float(divergence_from_uniform(-1.0 + 4.0 * u, -1.0, 3.0))) < 2e-3
    assert float(divergence_from_uniform(-1.0 + 2.0 * u, -1.0, 3.0)) == pytest.approx(math.log(2.0), abs=0.08)
    assert float(divergence_from_uniform(u.sqrt(), 0.0, 1.0)) == pytest.approx(math.log(2.0) - 0.5, abs=0.01)


def test_values_beyond_the_range_belong_to_its_ends(generator: torch.Generator) -> None:
    near = divergence_from_uniform(torch.full((5,), 1.0, dtype=torch.float64), 0.0, 1.0)
    far = divergence_from_uniform(torch.full((5,), 900.0, dtype=torch.float64), 0.0, 1.0)
    assert 0.3 < float(near) <= float(far) <= math.log(32.0) + 1e-12


def test_the_gradient_is_that_of_the_loss(generator: torch.Generator) -> None:
    """Against differences in every parameter of the flow, the samples held fixed."""
    flow, action = gaussian_flow([0.3, -0.2], [0.1, 0.4]), Known((0.0, 0.0), (1.0, 1.0))
    objective = WithReactionCoordinate(reverse_kl, SQUARE, -2.0, 4.0, 3.0)
    batch = objective.draw(flow, action, 64, generator)
    objective.loss(flow, action, batch).loss.backward()
    for weight in flow.parameters():
        for k in range(weight.numel()):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    weight[k] += step
                    values.append(float(objective.loss(flow, action, batch).loss))
                    weight[k] -= step
            assert float(weight.grad[k]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_the_variable_has_its_derivative() -> None:
    x = torch.tensor([[1.5, -2.0], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    s = differentiable(SQUARE, x)
    s.sum().backward()
    torch.testing.assert_close(s.detach(), torch.tensor([0.25, 3.25], dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64))


def test_a_heavy_loss_widens_the_flow(tmp_path: Path) -> None:
    """The target is narrow; with c = 20 samples cover the range that they are asked to."""
    torch.set_num_threads(1)

    def spread(**keys: object) -> float:
        settings = TrainingSettings(
            objective="reverse_kl", max_steps=200, batch_size=256, learning_rate=0.03, monitor_every=100, **keys
        )
        flow, action = gaussian_flow([0.0, 0.0], [0.0, 0.0]), Known((0.0, 0.0), (0.3, 0.3))
        train(flow, action, settings, tmp_path / str(len(keys)), seed=1, header={})
        return float(SQUARE.value(flow.sample(4000, torch.Generator().manual_seed(1)).x.detach().numpy()).std())

    plain = spread()
    assert plain == pytest.approx(math.sqrt(0.3**2 + 2.0 * 0.3**4), rel=0.1)
    assert spread(reaction_coordinate="r", reaction_range=(-3.0, 3.0), reaction_weight=20.0) > 3.0 * plain


def test_what_makes_no_sense_is_refused() -> None:
    from lattice_flows.card.card import parse_card

    with pytest.raises(ValueError, match="go together"):
        TrainingSettings(reaction_coordinate="r")
    with pytest.raises(ValueError, match=r"two finite ascending numbers, got 2\.0, 1\.0"):
        TrainingSettings(reaction_coordinate="r", reaction_range=(2.0, 1.0))
    text = """
[theory]
name = "double_well"
[flow]
name = "vector_coupling"
[training]
reaction_coordinate = "r"
reaction_range = [-2.0, 2.0]
"""
    with pytest.raises(InputError, match="reaction_coordinate = 'r'"):
        parse_card(text)
