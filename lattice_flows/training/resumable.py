"""The checkpoint of a training and the settings of a later call: what may differ, and whether the training goes on.

A training may become longer. Everything else that its numbers depend on stays as it was.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from lattice_flows.differences import differences, few
from lattice_flows.later_keys import completed
from lattice_flows.training.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    CheckpointError,
    completed_header,
    read_checkpoint,
)
from lattice_flows.training.settings import TrainingSettings

_ENDS = {"max_steps": "max_steps", "max_seconds": "max_seconds", "target_ess": "target_ess", "converged": "patience"}
"""The key that lets a training of this end go on: it may grow, and be taken away."""
_SCHEDULED_BY = ("max_steps", "max_seconds")
_FREE = ("checkpoint_seconds", "tensorboard")  # no number depends on them


def settings_as_begun(folder: Path, settings: TrainingSettings) -> TrainingSettings:
    """The settings with the former values of the later keys that the folder's checkpoint lacks, where there is one.

    A key whose default is the former value stays as it is: another value was asked for, and `check_same` refuses it.
    """
    path = folder / CHECKPOINT_NAME
    held = read_checkpoint(path).settings if path.exists() else settings.added
    silent = {one.name: one.default for one in fields(settings)}
    changed = {key: value for key, value in settings.added.items() if value != silent[key]}
    return replace(settings, **{key: value for key, value in changed.items() if key not in held})


def check_same(
    path: Path, checkpoint: Checkpoint, header: Mapping[str, Any], settings: TrainingSettings, seed: int
) -> None:
    """Raise CheckpointError if the checkpoint is of a training with another header, settings or seed.

    Its ends (max_steps, max_seconds, target_ess, patience) may have moved away: the training is then a longer one.
    """
    told = differences({"seed": seed}, {"seed": checkpoint.seed}, "")
    told += differences(_as_json(header), completed_header(checkpoint.header), "")
    told += refused_settings(settings, _held(checkpoint, settings))
    if told:
        raise CheckpointError(
            f"{path}: was trained by another card: {few(told)}; restore what was there, or choose another folder"
        )


def refused_settings(settings: TrainingSettings, before: Mapping[str, Any]) -> list[str]:
    """What keeps a training with the settings `before` from going on with these, a text for each key."""
    now, before = _table(settings), _as_json(before)
    kept = [
        key for key in now if key not in _FREE and not (key in _ENDS.values() and _later(now[key], before.get(key)))
    ]
    told = differences({key: now[key] for key in kept}, {key: before.get(key) for key in kept}, "training")
    ends = tuple(f"training.{key}:" for key in _ENDS.values())
    return [f"{text}, and it may only grow" if text.startswith(ends) else text for text in told]


def has_ended(checkpoint: Checkpoint, settings: TrainingSettings) -> bool:
    """Whether the training is at the end that these settings ask for: also one that ended goes on if its end moved."""
    if checkpoint.reason not in _ENDS:  # "" while it is under way; a flow without parameters has nothing to go on with
        return bool(checkpoint.reason)
    if settings.progress(checkpoint.step, checkpoint.train_seconds) == 1.0:
        return True
    key = _ENDS[checkpoint.reason]
    return bool(_table(settings)[key] == _held(checkpoint, settings).get(key))


def is_rescheduled(checkpoint: Checkpoint, settings: TrainingSettings) -> bool:
    """Whether the schedules of the steps already done were others: of a training that was to be shorter."""
    now, before = _table(settings), _held(checkpoint, settings)
    return checkpoint.step > 0 and any(now[key] != before.get(key) for key in _SCHEDULED_BY)


def has_more_patience(checkpoint: Checkpoint, settings: TrainingSettings) -> bool:
    """Whether the settings wait longer for an improvement than the checkpoint's did."""
    return bool(settings.patience != _held(checkpoint, settings).get("patience"))


def _later(now: float | None, before: float | None) -> bool:
    """Whether the end is not before the other; None never comes."""
    return now is None or (before is not None and now >= before)


def _table(settings: TrainingSettings) -> dict[str, Any]:
    return _as_json(asdict(settings))


def _held(checkpoint: Checkpoint, settings: TrainingSettings) -> dict[str, Any]:
    """The checkpoint's settings, with the former values of those that came later."""
    return completed(checkpoint.settings, _as_json(settings.added))


def _as_json(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table as it is read from a checkpoint: tuples are lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}
