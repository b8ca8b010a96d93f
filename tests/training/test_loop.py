"""The training loop: it learns, resumes to the bit, reports, and stops where it must."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lattice_flows.actions import Action, WilsonU1
from lattice_flows.flows import Flow, initialise, plaquette_coupling
from lattice_flows.lattice import CIRCLE
from lattice_flows.training import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    CheckpointError,
    Progress,
    TrainingDiverged,
    TrainingResult,
    TrainingSettings,
    load_flow_weights,
    read_checkpoint,
    read_history,
    train,
)

ACTION = WilsonU1(1.0)
HEADER = {"theory": {"name": "u1", "beta": 1.0}, "flow": {"name": "plaquette_coupling"}}
SETTINGS = TrainingSettings(max_steps=60, batch_size=16, monitor_every=20, monitor_samples=64, anneal=0.3)


def _flow(seed: int = 1, n_layers: int = 5) -> Flow:
    flow = plaquette_coupling((4, 4), n_layers=n_layers, n_components=2, hidden=(4,))
    initialise(flow, torch.Generator().manual_seed(seed))
    return flow


def _train(folder: Path, **changes: Any) -> TrainingResult:
    arguments: dict[str, Any] = {"flow": _flow(), "action": ACTION, "settings": SETTINGS, "seed": 3, "header": HEADER}
    arguments |= changes
    flow, action, settings = (arguments.pop(name) for name in ("flow", "action", "settings"))
    return train(flow, action, settings, folder, **arguments)


def _after(n: int) -> Callable[[], bool]:
    """A should_stop that turns true when asked the n-th time: once a step."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= n


def _content(folder: Path) -> tuple[list[Tensor], list[tuple[object, ...]]]:
    """Everything that a resume must reproduce, times excepted."""
    checkpoint = read_checkpoint(folder / CHECKPOINT_NAME)
    moments = [value for state in checkpoint.optimizer["state"].values() for value in state.values()]
    tensors = [*checkpoint.flow.values(), *checkpoint.average.values(), *moments, *checkpoint.generators]
    history = [
        (row.step, row.loss, row.ess, row.log_z_bound, row.learning_rate, row.action_scale, row.gradient_norm)
        for row in read_history(folder / HISTORY_NAME)
    ]
    return tensors, history


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    assert _train(folder).reason == "max_steps"
    return folder


@pytest.mark.parametrize("stops", [(7,), (20,), (33, 5)], ids=str)
def test_a_resumed_training_is_the_uninterrupted_one(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    for resumption, stop in enumerate(stops):
        result = _train(tmp_path, flow=_flow(seed=10 + resumption) if resumption else _flow(), should_stop=_after(stop))
        assert result.reason == "stopped"
    assert result.step == sum(stops)
    result = _train(tmp_path, flow=_flow(seed=20))
    assert (result.reason, result.step) == ("max_steps", 60)
    tensors, history = _content(tmp_path)
    expected_tensors, expected_history = _content(whole)
    assert _equal(tensors, expected_tensors)
    assert history == expected_history
    assert [row[0] for row in history] == [20, 40, 60]


def test_lost_work_leaves_no_trace(whole: Path, tmp_path: Path) -> None:
    """A kill after the last checkpoint: rows beyond it, the last one cut short, are dropped."""
    _train(tmp_path, should_stop=_after(25))
    history = tmp_path / HISTORY_NAME
    history.write_text(history.read_text() + "40,1.0,2.0,0.5,-1.0,0.1,1.0,1.0\n60,1.0,2")
    _train(tmp_path)
    assert _content(tmp_path)[1] == _content(whole)[1]


def test_another_seed_is_another_training(whole: Path, tmp_path: Path) -> None:
    _train(tmp_path, seed=4)
    assert not _equal(_content(tmp_path)[0], _content(whole)[0])


def test_a_finished_training_is_returned_again(whole: Path) -> None:
    before = (whole / CHECKPOINT_NAME).read_bytes()
    flow = _flow(seed=5)
    assert _train(whole, flow=flow).step == 60
    assert (whole / CHECKPOINT_NAME).read_bytes() == before
    assert _equal(list(flow.state_dict().values()), list(load_flow_weights(whole / CHECKPOINT_NAME).weights.values()))


def test_the_flow_is_left_with_the_averaged_weights(tmp_path: Path) -> None:
    flow = _flow()
    _train(tmp_path, flow=flow)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert _equal(list(flow.state_dict().values()), list(checkpoint.average.values()))
    assert not _equal(list(checkpoint.flow.values()), list(checkpoint.average.values()))


def test_it_learns(tmp_path: Path) -> None:
    settings = TrainingSettings(max_steps=150, batch_size=64, monitor_every=50, monitor_samples=1024)
    _train(tmp_path, flow=_flow(n_layers=8), settings=settings, action=WilsonU1(2.0))
    first, *_, last = read_history(tmp_path / HISTORY_NAME)
    assert last.ess > 0.1  # 4e-6 without a flow
    assert last.log_z_bound > first.log_z_bound
    assert 0 < first.seconds < last.seconds
    assert first.learning_rate > last.learning_rate >= 0


def test_reports_progress(tmp_path: Path) -> None:
    seen: list[Progress] = []
    _train(tmp_path, report=seen.append)
    assert [progress.step for progress in seen] == [10, 20, 30, 40, 50, 60]
    assert seen[-1].fraction == 1.0
    assert seen[0].record is None
    assert seen[-1].record == read_history(tmp_path / HISTORY_NAME)[-1]


def test_ends_at_the_time_limit(tmp_path: Path) -> None:
    result = _train(tmp_path, settings=TrainingSettings(max_seconds=0.3, batch_size=16, monitor_samples=16))
    assert result.reason == "max_seconds"
    assert 0.3 <= result.train_seconds < 30
    assert read_history(tmp_path / HISTORY_NAME)[-1].step == result.step


def test_ends_when_the_flow_is_good_enough(tmp_path: Path) -> None:
    settings = TrainingSettings(max_steps=10_000, batch_size=16, monitor_every=10, monitor_samples=64, target_ess=0.05)
    result = _train(tmp_path, settings=settings, action=WilsonU1(0.3))
    assert (result.reason, result.step) == ("target_ess", 10)


@dataclass(frozen=True)
class Spoiled(Action):
    """The Wilson action until it has been asked `calls` times; from then on `factor` times it."""

    factor: float
    calls: int
    count: list[int]
    space = CIRCLE

    def event_shape(self, lattice_shape):
        return (len(lattice_shape), *lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        self.count.append(1)
        return ACTION(x) * (self.factor if len(self.count) > self.calls else 1.0)


@pytest.mark.parametrize(("factor", "what"), [(math.nan, "not finite"), (math.inf, "not finite"), (1e3, "above where")])
def test_divergence_says_what_to_change_and_keeps_the_checkpoint(tmp_path: Path, factor: float, what: str) -> None:
    settings = TrainingSettings(
        objective="reverse_kl", max_steps=1000, batch_size=16, monitor_every=500, checkpoint_seconds=1e-9
    )
    message = rf"at step 40: .*{what}.*lower training\.learning_rate \(now 0\.\d+\)"
    with pytest.raises(TrainingDiverged, match=message) as caught:
        _train(tmp_path, settings=settings, action=Spoiled(factor, 36, []))
    assert "\n" not in str(caught.value)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert checkpoint.step == 30
    assert all(torch.isfinite(weight).all() for weight in checkpoint.flow.values())


def test_refuses_the_checkpoint_of_another_training(whole: Path) -> None:
    for changes in ({"seed": 4}, {"header": {}}, {"settings": TrainingSettings(max_steps=61)}):
        with pytest.raises(CheckpointError, match=f"another {next(iter(changes))}"):
            _train(whole, **changes)


def test_refuses_another_number_of_threads(whole: Path) -> None:
    torch.set_num_threads(2)
    with pytest.raises(CheckpointError, match="made with 1 torch threads, not 2"):
        _train(whole)
