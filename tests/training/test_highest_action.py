"""A training that damps S where it is high, and figures that do not."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian import GaussianAction, gaussian_flow
from torch import Tensor

from lattice_flows.theories import DoubleWell, Regularised
from lattice_flows.training import CheckpointError, TrainingSettings, read_history, train
from lattice_flows.training.training_state import learnt_target
from lattice_flows.training.validate import validate

pytestmark = pytest.mark.quick

SETTINGS = TrainingSettings(
    objective="reverse_kl", max_steps=40, batch_size=64, monitor_every=20, monitor_samples=256, highest_action=20.0
)


@dataclass(frozen=True)
class Half(GaussianAction):
    """The half of a Gaussian with x_0 < m_0: S is infinite on the other."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0] < self.m[0], super().__call__(x), math.inf)


class Walled(GaussianAction):
    """A Gaussian with walls at |x - m| = 2 t that are nearly those of atoms."""

    def __call__(self, x: Tensor) -> Tensor:
        s = super().__call__(x)
        return torch.where(s < 2.0, s, 1e12 * s)


def test_the_height_counts_from_the_cold_start() -> None:
    action = DoubleWell()
    target = learnt_target(action, (2,), 5.0)
    assert isinstance(target, Regularised)
    assert target.high == float(action(torch.from_numpy(action.cold((2,)))[None])) + 5.0
    assert learnt_target(action, (2,), None) is action


def test_training_sees_the_damped_action_and_its_figures_the_action(tmp_path: Path) -> None:
    """An eighth of the samples lies in the walls: a loss of S has 10^11, and log Z - KL(q|p) must have it."""
    torch.set_num_threads(1)

    def row(name: str, highest: float | None):
        settings = TrainingSettings(**{**vars(SETTINGS), "highest_action": highest})
        train(gaussian_flow([0.0], [0.0]), Walled((0.0,), (1.0,)), settings, tmp_path / name, seed=1, header={})
        return read_history(tmp_path / name / "history.csv")[0]

    damped, plain = row("damped", 20.0), row("plain", None)
    assert abs(damped.loss) < 100.0
    assert damped.log_z_bound < -1e8
    assert plain.loss > 1e8


def test_a_training_keeps_its_height(tmp_path: Path) -> None:
    action, header = GaussianAction((0.0,), (1.0,)), {"theory": {"name": "gaussian"}}
    train(gaussian_flow([0.0], [0.0]), action, SETTINGS, tmp_path, seed=1, header=header, should_stop=lambda: True)
    other = TrainingSettings(**{**vars(SETTINGS), "highest_action": 30.0})
    with pytest.raises(CheckpointError, match="highest_action"):
        train(gaussian_flow([0.0], [0.0]), action, other, tmp_path, seed=1, header=header)


def test_a_damped_action_cannot_hold_many_dimensions() -> None:
    """The reverse KL of a Gaussian stretched by s: beyond `high` S rises as 2 log s, and entropy as n log s."""
    n = 60
    action, stretch = GaussianAction((0.0,) * n, (1.0,) * n), torch.logspace(0, 8, 9, dtype=torch.float64)
    typical = torch.ones(n, dtype=torch.float64)  # S = n / 2, its mean

    def loss(action: GaussianAction | Regularised) -> Tensor:
        return action(stretch[:, None] * typical) - n * stretch.log()

    assert (loss(action).diff() > 0).all()
    assert (loss(Regularised(action, 100.0))[1:].diff() < 0).all()
    assert loss(Regularised(action, 100.0))[2] < loss(action)[0] < loss(Regularised(action, 500.0))[2]


def test_samples_without_weight_count(generator: torch.Generator) -> None:
    """S is infinite for half of the samples: the bound is -inf, and ESS and log Z count their weights, which are 0."""
    flow, action = gaussian_flow([0.0, 0.0], [0.0, 0.0]), Half((0.0, 0.0), (1.0, 1.0))
    found = validate(flow, action, 4000, generator, torch.float64)
    assert found.finite
    assert found.lower.value == -math.inf
    assert math.isnan(found.lower.error)
    for figure, exact, wrong in (
        (found.ess, 0.5, 0.55),
        (found.log_z, action.log_z - math.log(2.0), action.log_z - math.log(1.8)),
    ):
        assert abs(figure.value - exact) < 4.0 * figure.error
        assert abs(figure.value - wrong) > 4.0 * figure.error  # 10 % more
    assert found.largest_share == pytest.approx(1.0 / 2000.0, rel=0.2)


def test_no_sample_with_a_weight_is_no_figure(generator: torch.Generator) -> None:
    flow = gaussian_flow([50.0], [0.0])
    found = validate(flow, Half((0.0,), (1.0,)), 100, generator, torch.float64)
    assert not found.finite
    assert np.isnan([*found.ess, *found.log_z, *found.lower, found.largest_share]).all()
