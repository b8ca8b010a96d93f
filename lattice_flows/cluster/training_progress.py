"""How far a training is, in a few words, from what it has written."""

from contextlib import suppress
from pathlib import Path

from lattice_flows.monitor.screen import count
from lattice_flows.monitor.watch import marked_ess
from lattice_flows.terminal import numbers
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, TrainingSettings
from lattice_flows.training.checkpoint import CheckpointError, read_checkpoint
from lattice_flows.training.history import is_trusted, read_history


def training_progress(flow: Path, settings: TrainingSettings) -> str:
    """The steps or seconds of those after which it ends, and the ESS at its last look: "1200/20000 steps, ESS 0.43(2)".

    flow: the folder of the checkpoint and the history. Before the first look the checkpoint says it, without an ESS;
    empty if there is none either.
    """
    with suppress(CheckpointError):
        if (path := flow / HISTORY_NAME).exists() and (records := read_history(path)):
            last = records[-1]
            ess = marked_ess(numbers.ess(last.ess, last.ess_error, last.n_samples or 0), is_trusted(last))
            return f"{_towards_the_end(last.step, last.seconds, settings)}, {ess}"
    with suppress(CheckpointError):
        saved = read_checkpoint(flow / CHECKPOINT_NAME)
        return _towards_the_end(saved.step, saved.train_seconds, settings)
    return ""


def _towards_the_end(step: int, seconds: float, settings: TrainingSettings) -> str:
    """The progress towards the limit that comes first."""
    limits = [(step, settings.max_steps, "steps"), (seconds, settings.max_seconds, "s")]
    far = [(done / total, done, total, unit) for done, total, unit in limits if total]
    _, done, total, unit = max(far, default=(1.0, 0, 0, "steps"))
    return f"{count(done)}/{count(total)} {unit}" + ("" if unit == "steps" else f", {count(step)} steps")
