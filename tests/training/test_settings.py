"""The [training] table."""

import math

import pytest

from lattice_flows.training import TrainingSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", "forward_kl"),
        ("max_steps", 0),
        ("max_seconds", -1.0),
        ("target_ess", 1.5),
        ("batch_size", 0),
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
