"""The [training] table."""

import importlib.util
import math
from typing import Any

import pytest

from lattice_flows.training import TrainingSettings

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", "backward_kl"),
        ("mixture_reverse", "mixture"),
        ("mixture_weights", (1.0, 0.0)),
        ("buffer_size", 0),
        ("group_size", 1),
        ("latent_moves", -1),
        ("latent_time", 0.0),
        ("hot_temperature", 1.0),
        ("highest_action", 0.0),
        ("highest_action", math.inf),
        ("reaction_weight", 0.0),
        ("patience", 0),
        ("final_batch_size", 32),
        ("adam_beta2", 1.0),
        ("precision", "float16"),
        ("clip_norm", -1.0),
        ("max_steps", -1),
        ("max_seconds", -1.0),
        ("target_ess", 1.5),
        ("batch_size", 0),
        ("micro_batch", 0),
        ("network_precision", "float16"),
        ("learning_rate", math.inf),
        ("learning_rate", math.nan),
        ("warmup", 1.0),
        ("clip", 0.0),
        ("anneal", -0.1),
        ("ema_decay", 1.0),
        ("monitor_every", 0),
        ("monitor_samples", 1),
        ("checkpoint_seconds", 0.0),
    ],
)
def test_refuses_bad_values_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"training\.{name} must be .*, got"):
        TrainingSettings(**{name: value})


def test_a_limit_is_always_there() -> None:
    assert TrainingSettings().max_seconds == 120.0
    assert TrainingSettings(max_steps=10).max_seconds is None


def test_schedules_follow_the_progress() -> None:
    settings = TrainingSettings(max_steps=1000, max_seconds=10.0, warmup=0.1, anneal=0.5, learning_rate=0.01)
    assert settings.progress(100, 9.0) == 0.9
    assert settings.progress(950, 9.0) == 0.95
    assert settings.progress(2000, 0.0) == 1.0
    assert settings.learning_rate_at(0.0) < 0.001
    assert settings.learning_rate_at(0.1) == pytest.approx(0.01 * 0.5 * (1 + math.cos(0.1 * math.pi)))
    assert settings.learning_rate_at(1.0) == pytest.approx(0.0, abs=1e-15)
    assert [settings.action_scale_at(at) for at in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    assert TrainingSettings().action_scale_at(0.0) == 1.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"objective": "forward_kl"}, "'forward_kl' needs training.data: 'direct' or an ensemble file"),
        ({"objective": "mixture"}, "'mixture' needs training.data"),
        ({"objective": "mixture", "data": "direct", "anneal": 0.1}, "training.anneal must be 0 with mixture"),
        ({"objective": "reinforce", "batch_size": 1}, "training.batch_size must be at least 2 with reinforce"),
        (
            {"objective": "mixture", "mixture_reverse": "reinforce", "batch_size": 1, "data": "direct"},
            "training.batch_size must be at least 2",
        ),
        ({"objective": "reinforce", "micro_batch": 2}, "training.micro_batch must be at least 3 with reinforce"),
        ({"objective": "log_variance", "batch_size": 1}, "training.batch_size must be at least 2 with log_variance"),
        ({"objective": "log_variance", "micro_batch": 2}, "training.micro_batch must be at least 3 with log_variance"),
    ],
)
def test_refuses_what_does_not_go_together(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**table)


def test_tensorboard_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not TrainingSettings().tensorboard
    with pytest.raises(ValueError, match=r"training\.tensorboard = true needs the package tensorboard: pip install"):
        TrainingSettings(tensorboard=True)


def test_batch_size_doubles_in_equal_parts_of_the_run() -> None:
    settings = TrainingSettings(batch_size=100, final_batch_size=800)
    assert [settings.batch_size_at(at) for at in (0.0, 0.24, 0.26, 0.51, 0.76, 1.0)] == [100, 100, 200, 400, 800, 800]
    odd = TrainingSettings(batch_size=64, final_batch_size=200)
    assert [odd.batch_size_at(at) for at in (0.0, 0.5, 0.9)] == [64, 113, 200]
    assert TrainingSettings(batch_size=64, final_batch_size=64).batch_size_at(0.7) == 64
    assert TrainingSettings(batch_size=64).batch_size_at(1.0) == 64
