"""The training loop: it learns, resumes to the bit, reports, and stops where it must."""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gaussian import GaussianAction, gaussian_flow
from torch import Tensor

from lattice_flows.flows import Chain, Flow, initialise, plaquette_coupling
from lattice_flows.lattice import CIRCLE
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.theories.u1.action import link_field
from lattice_flows.training import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    OBJECTIVES,
    CheckpointError,
    DataError,
    Drawn,
    Progress,
    TrainingDiverged,
    TrainingResult,
    TrainingSettings,
    load_flow_weights,
    read_checkpoint,
    read_history,
    train,
)
from lattice_flows.training.history import append_record

ACTION = WilsonU1(1.0)
HEADER = {"theory": {"name": "u1", "beta": 1.0}, "flow": {"name": "plaquette_coupling"}}
SETTINGS = TrainingSettings(max_steps=60, batch_size=16, monitor_every=20, monitor_samples=64, anneal=0.3)

IMPATIENT = TrainingSettings(
    max_steps=10_000, batch_size=16, monitor_every=10, monitor_samples=1024, learning_rate=1e-12, warmup=0.0, patience=3
)


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
    kept = [*checkpoint.clip.values(), *checkpoint.noise.values(), *checkpoint.objective.values()]
    tensors = [*checkpoint.flow.values(), *checkpoint.average.values(), *moments, *kept, *checkpoint.generators]
    history = [astuple(replace(row, seconds=0.0)) for row in read_history(folder / HISTORY_NAME)]
    return tensors, [*history, (checkpoint.best, checkpoint.parent, checkpoint.worst_loss)]


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
    assert [row[0] for row in history[:-1]] == [20, 40, 60]


def _direct(n: int, generator: torch.Generator) -> Tensor:
    """Not of the theory, but configurations."""
    return torch.rand((n, 2, 4, 4), generator=generator, dtype=torch.float64) - 0.5


VARIANTS = {
    "clip": {"clip": 1.5},
    "batch schedule": {"batch_size": 8, "final_batch_size": 32},
    "patience": {"patience": 100},
    "reinforce": {"objective": "reinforce"},
    "dreg": {"objective": "dreg", "group_size": 3},
    "log_variance": {"objective": "log_variance"},
    "log_variance of data": {"objective": "log_variance", "data": "direct"},
    "forward_kl": {"objective": "forward_kl", "data": "direct", "anneal": 0.0},
    "mixture": {"objective": "mixture", "data": "direct", "mixture_weights": (0.5, 2.0), "anneal": 0.0},
    "latent moves": {"objective": "forward_kl", "data": "direct", "buffer_size": 40, "latent_moves": 2},
    "self_normalised": {"objective": "self_normalised", "buffer_size": 100, "anneal": 0.0},
    "self_normalised, annealed": {
        "objective": "self_normalised",
        "buffer_size": 100,
        "anneal": 0.7,
        "anneal_from": "hot",
    },
    "damped": {"objective": "reverse_kl", "highest_action": 0.5},
    "data to judge by": {"data": "direct"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_state_is_resumed(name: str, tmp_path: Path) -> None:
    """To the bit, also where a part of it would be easy to forget: 17 is neither a look nor a doubling."""
    settings = replace(SETTINGS, **{"max_steps": 30, "monitor_every": 10, **VARIANTS[name]})
    action = GaussianAction((0.6, -0.2), (0.75, 0.9))
    changes = {"settings": settings, "action": action, "data": None if settings.data is None else Drawn(action.draw)}
    first, other = ([0.0, 0.0], [0.1, 0.2]), ([0.5, 0.5], [0.0, 0.0])
    assert _train(tmp_path / "whole", **changes, flow=gaussian_flow(*first)).step == 30
    stopped = _train(tmp_path / "parts", **changes, flow=gaussian_flow(*first), should_stop=_after(17))
    assert stopped.reason == "stopped"
    assert _train(tmp_path / "parts", **changes, flow=gaussian_flow(*other)).step == 30
    tensors, history = _content(tmp_path / "whole")
    resumed_tensors, resumed_history = _content(tmp_path / "parts")
    assert _equal(resumed_tensors, tensors)
    assert resumed_history == history


def test_lost_work_leaves_no_trace(whole: Path, tmp_path: Path) -> None:
    """A kill after the last checkpoint: rows beyond it, the last one cut short, are dropped."""
    _train(tmp_path, should_stop=_after(25))
    history = tmp_path / HISTORY_NAME
    append_record(history, replace(read_history(history)[-1], step=40))
    history.write_text(history.read_text() + "60,1.0,2")
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
    """Judged by 4096 fresh samples, whatever the looks are of."""
    settings = TrainingSettings(max_steps=10_000, batch_size=16, monitor_every=10, monitor_samples=64, target_ess=0.05)
    result = _train(tmp_path, settings=settings, action=WilsonU1(0.3))
    assert (result.reason, result.step) == ("target_ess", 10)
    (row,) = read_history(tmp_path / HISTORY_NAME)
    assert row.n_samples == 4096
    assert row.ess_error is not None
    assert row.ess - row.ess_error >= 0.05


def test_a_lucky_look_does_not_end_it(tmp_path: Path) -> None:
    """Two samples have an ESS of 1/2 or more, whatever the flow; 4096 tell."""
    settings = TrainingSettings(max_steps=20, batch_size=16, monitor_every=10, monitor_samples=2, target_ess=0.5)
    result = _train(tmp_path, settings=settings, action=WilsonU1(4.0))
    assert result.reason == "max_steps"
    rows = read_history(tmp_path / HISTORY_NAME)
    assert [row.n_samples for row in rows] == [4096, 4096]
    assert all(row.ess < 0.2 for row in rows)


def test_ends_when_nothing_improves_any_more(tmp_path: Path) -> None:
    """With a learning rate that changes nothing, the first look is the best for as long as the patience lasts. Then it
    falls to 0 over a tenth of the steps, or to the next look.
    """
    result = _train(tmp_path, settings=IMPATIENT)
    assert result.reason == "converged"
    assert 50 <= result.step <= 160  # a later look may be better by an error
    assert _train(tmp_path, settings=IMPATIENT) == result
    since = int(read_checkpoint(tmp_path / CHECKPOINT_NAME).best["decays_from"])
    assert result.step == since + max(10, math.ceil(0.1 * since))
    rates = {row.step: row.learning_rate for row in read_history(tmp_path / HISTORY_NAME)}
    assert rates[since] > 0.9 * IMPATIENT.learning_rate
    assert 0 < rates[result.step] < 0.03 * IMPATIENT.learning_rate


@pytest.mark.parametrize("after", [0, 5])
def test_a_decay_is_resumed_to_the_bit(after: int, tmp_path: Path) -> None:
    """Stopped where it begins, and half way."""
    end = _train(tmp_path / "whole", settings=IMPATIENT).step
    since = int(read_checkpoint(tmp_path / "whole" / CHECKPOINT_NAME).best["decays_from"])
    stopped = _train(tmp_path / "parts", settings=IMPATIENT, should_stop=_after(since + after))
    assert (stopped.reason, stopped.step) == ("stopped", since + after)
    result = _train(tmp_path / "parts", settings=IMPATIENT, flow=_flow(seed=9))
    assert (result.reason, result.step) == ("converged", end)
    for one, other in zip(_content(tmp_path / "parts"), _content(tmp_path / "whole")):
        assert _equal(one, other) if torch.is_tensor(one[0]) else one == other


def test_a_decay_ends_with_the_steps_that_are_left(tmp_path: Path) -> None:
    result = _train(tmp_path, settings=replace(IMPATIENT, max_steps=44, patience=1, monitor_every=20))
    assert (result.reason, result.step) == ("max_steps", 44)


def test_looks_enclose_log_z(tmp_path: Path) -> None:
    """<log w> over the flow's samples is a lower bound, over exact configurations an upper one; an unbiased estimate
    lies between, and all have errors.
    """
    action = GaussianAction((0.6, -0.2), (0.75, 0.9))
    settings = TrainingSettings(
        objective="mixture",
        data="direct",
        max_steps=100,
        learning_rate=0.002,
        monitor_every=100,
        monitor_samples=20_000,
    )
    _train(
        tmp_path, flow=gaussian_flow([0.0, 0.0], [0.0, 0.0]), action=action, settings=settings, data=Drawn(action.draw)
    )
    (row,) = read_history(tmp_path / HISTORY_NAME)
    assert abs(row.log_z - action.log_z) < 4.5 * row.log_z_error
    assert row.log_z_bound + 4.5 * row.log_z_bound_error < action.log_z < row.log_z_upper - 4.5 * row.log_z_upper_error


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_a_gaussian(objective: str, tmp_path: Path) -> None:
    """A flow that can be the target becomes it."""
    action = GaussianAction((0.6, -0.2), (0.75, 0.9))
    flow = gaussian_flow([0.0, 0.0], [0.3, 0.3])
    data = "direct" if objective in ("forward_kl", "mixture", "log_variance") else None
    settings = TrainingSettings(
        objective=objective, data=data, max_steps=400, batch_size=256, learning_rate=0.02, ema_decay=0.95
    )
    _train(tmp_path, flow=flow, action=action, settings=settings, data=Drawn(action.draw) if data else None)
    last = read_history(tmp_path / HISTORY_NAME)[-1]
    assert last.ess > 0.99
    assert abs(last.log_z - action.log_z) < 0.01


def test_signal_to_noise_of_the_gradient(tmp_path: Path) -> None:
    """With weights that stand still, that of a batch of reverse KL: |E g| against sqrt(E|g - E g|^2), within its noise;
    sixteen times the batch has four times as much.
    """
    action = GaussianAction((0.6,), (0.75,))
    found = []
    for batch_size in (64, 1024):
        settings = TrainingSettings(
            objective="reverse_kl", max_steps=1000, batch_size=batch_size, learning_rate=1e-9, monitor_every=1000
        )
        folder = tmp_path / str(batch_size)
        _train(folder, flow=gaussian_flow([0.0], [0.0]), action=action, settings=settings)
        found.append(read_history(folder / HISTORY_NAME)[-1].gradient_snr)
    # d/dmu: (z - 0.6) / t^2, d/dlog_s: z (z - 0.6) / t^2 - 1
    t2 = 0.75**2
    signal = (0.6 / t2) ** 2 + (1 / t2 - 1) ** 2
    noise = (1 / t2) ** 2 + (2 + 0.36) / t2**2
    assert found[0] == pytest.approx(math.sqrt(64 * signal / noise), rel=0.15)
    assert found[1] == pytest.approx(math.sqrt(1024 * signal / noise), rel=0.15)


def test_a_flow_without_parameters_is_trained_at_once(tmp_path: Path) -> None:
    flow = Flow(gaussian_flow([0.0], [0.0]).prior, Chain())
    action = GaussianAction((0.0,), (1.0,))
    for _ in range(2):
        result = _train(tmp_path, flow=flow, action=action)
        assert result == TrainingResult("no_parameters", 0, 0.0)
    held = load_flow_weights(tmp_path / CHECKPOINT_NAME)
    assert (held.header, held.weights, held.step) == (HEADER, {}, 0)
    with pytest.raises(CheckpointError, match="seed: "):
        _train(tmp_path, flow=flow, action=action, seed=5)
    with pytest.raises(CheckpointError, match="no parameters"):
        _train(tmp_path, flow=flow, action=action, settings=TrainingSettings(init_from="parent.pt"))


def test_events_for_tensorboard(tmp_path: Path) -> None:
    """The numbers of the history, and after a kill no trace of lost work."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = replace(SETTINGS, tensorboard=True)
    _train(tmp_path, settings=settings, should_stop=_after(33))
    _train(tmp_path, settings=settings)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = read_history(tmp_path / HISTORY_NAME)
    assert [event.step for event in events.Scalars("ess")] == [20, 40, 60]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row.loss for row in rows])


@dataclass(frozen=True)
class Spoiled(Action):
    """The Wilson action until it has been asked `calls` times; from then on `factor` times it."""

    factor: float
    calls: int
    count: list[int]
    space = CIRCLE

    def field(self, lattice_shape):
        return link_field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        self.count.append(1)
        return ACTION(x) * (self.factor if len(self.count) > self.calls else 1.0)


@pytest.mark.parametrize(("factor", "what"), [(math.nan, "not finite"), (math.inf, "not finite"), (1e3, "above where")])
def test_divergence_says_what_to_change_and_keeps_the_checkpoint(tmp_path: Path, factor: float, what: str) -> None:
    settings = TrainingSettings(
        objective="reverse_kl", max_steps=1000, batch_size=16, monitor_every=500, checkpoint_seconds=1e-9
    )
    message = rf"at step 40: .*{what}.*lower training\.learning_rate \(now 0\.\d+\) or training\.clip_norm"
    with pytest.raises(TrainingDiverged, match=message) as caught:
        _train(tmp_path, settings=settings, action=Spoiled(factor, 36, []))
    assert "\n" not in str(caught.value)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert checkpoint.step == 30
    assert all(torch.isfinite(weight).all() for weight in checkpoint.flow.values())


def test_refuses_the_checkpoint_of_another_training(whole: Path) -> None:
    shorter = replace(SETTINGS, max_steps=59)
    refused = (
        ({"seed": 4}, "seed: 4 on the card, 3 in the run"),
        ({"header": {}}, "absent on the card"),
        ({"settings": shorter}, "and it may only grow"),
    )
    for changes, message in refused:
        with pytest.raises(CheckpointError, match=message):
            _train(whole, **changes)


def test_refuses_another_number_of_threads(whole: Path) -> None:
    torch.set_num_threads(2)
    with pytest.raises(CheckpointError, match="made with 1 torch threads, not 2"):
        _train(whole)


def test_refuses_data_that_are_no_configurations(tmp_path: Path) -> None:
    settings = replace(SETTINGS, objective="forward_kl", data="direct", anneal=0.0)
    bad = [
        (lambda n, generator: torch.zeros(n, 2, 4, 8), r"holds configurations of shape \[2, 4, 8\], the theory has"),
        (lambda n, generator: torch.full((n, 2, 4, 4), math.nan), "holds values that are not finite"),
        (lambda n, generator: torch.full((n, 2, 4, 4), 6.0), "does not hold angles: the largest is 6, beyond pi"),
    ]
    for source, message in bad:
        with pytest.raises(DataError, match=message):
            _train(tmp_path, settings=settings, data=Drawn(source))
    with pytest.raises(ValueError, match="give both or neither"):
        _train(tmp_path, settings=settings)
    with pytest.raises(ValueError, match="give both or neither"):
        _train(tmp_path, data=Drawn(_direct))
    assert not (tmp_path / CHECKPOINT_NAME).exists()
