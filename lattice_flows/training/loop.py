"""The one training loop."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lattice_flows.flows import Proposer
from lattice_flows.theories.action import Action
from lattice_flows.training.checkpoint import CHECKPOINT_NAME, CheckpointError
from lattice_flows.training.events import EVENTS_NAME, event_writer
from lattice_flows.training.history import HISTORY_NAME, Record, append_record, truncate_history
from lattice_flows.training.ranks import ALONE, Ranks, TooManyRanks
from lattice_flows.training.resumable import settings_as_begun
from lattice_flows.training.settings import TrainingSettings
from lattice_flows.training.source import Source
from lattice_flows.training.training_state import Run, TrainingDiverged, save_untrained

__all__ = ["STOPPED", "Progress", "TrainingDiverged", "TrainingResult", "train"]

STOPPED = "stopped"  # by should_stop(): saved, and to be resumed

_CHECK_EVERY = 10  # steps between two looks at the losses: a look waits for the device


class Progress(NamedTuple):
    """The state of a training for a progress bar. `record` is the latest row of the history, if there is one yet: its
    ESS, with error, is of fresh samples; that of a training batch would be far too large and is never shown.
    """

    step: int
    seconds: float
    fraction: float  # of the run
    loss: float
    record: Record | None


class TrainingResult(NamedTuple):
    """The end of a training. `reason` is "max_steps", "max_seconds", "target_ess", "converged", "no_parameters", or
    "stopped" if should_stop() ended it early.
    """

    reason: str
    step: int
    train_seconds: float


def train(
    flow: Proposer,
    action: Action,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    header: dict[str, Any],
    data: Source | None = None,
    held_out: Source | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Train `flow` towards exp(-S), or resume what `folder` holds; the flow is left with the averaged weights.

    `folder` receives checkpoint.pt and history.csv. `header` is JSON-able and names what is trained (theory, flow,
    versions, data); it is stored, and a resume must bring an equal one. A run that ended goes on if the setting that
    ended it has grown, and else its result is returned again. Networks and maps compute in the dtype of the flow's
    weights, on their device; settings.precision may set another one for the maps. A flow without parameters needs no
    step.

    `data` goes with settings.data: configurations of the target to learn from. `held_out` are others to judge by;
    without them `data` is used, which is right for a source that never repeats itself.

    `ranks`: several processes train together, each calling train() with the same arguments. They share every batch; the
    first one writes. A stop requested of one stops all, and a training may be resumed on another number.

    Raises CheckpointError for a folder whose checkpoint is of another training, unreadable, or from another number of
    torch threads, or for a settings.init_from that does not fit; DataError for data that are not configurations of the
    theory; ValueError if only one of data and settings.data is given; TooManyRanks; RankLost if another process ended;
    and TrainingDiverged.
    """
    if (settings.data is None) != (data is None):
        raise ValueError("training.data and the data given to train() go together: give both or neither")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(True for _ in flow.parameters()):
        if settings.init_from is not None:
            raise CheckpointError("training.init_from: this flow has no parameters to start from it")
        if ranks.is_first:
            save_untrained(flow, action, settings_as_begun(folder, settings), folder, seed, header)
        return TrainingResult("no_parameters", 0, 0.0)
    _require_shares(settings, ranks)
    settings = ranks.of_first(lambda: settings_as_begun(folder, settings))
    run = Run(flow, action, settings, folder, seed, header, data, held_out, ranks)
    if ranks.of_first(lambda: (folder / CHECKPOINT_NAME).exists()):
        run.restore()
    else:
        run.begin()
        if settings.max_steps == 0:
            run.refine_average()
            run.reason = "max_steps"
            run.save(run.reason)
    with _history(run, folder) as note:
        if not run.reason:
            _loop(run, note, report, should_stop)
    flow.load_state_dict(run.average.state_dict())
    return TrainingResult(run.reason, run.step, run.train_seconds)


def _require_shares(settings: TrainingSettings, ranks: Ranks) -> None:
    """Raise TooManyRanks if a rank's share of a batch is smaller than the objective needs."""
    fewest = ranks.size * settings.fewest_rows
    if settings.batch_size < fewest:
        raise TooManyRanks(
            f"training.batch_size must be at least {fewest} for {ranks.size} processes, got {settings.batch_size}"
        )


@contextmanager
def _history(run: Run, folder: Path) -> Iterator[Callable[[Record], None]]:
    """A function that writes a row of the history, on the first process only."""
    if not run.ranks.is_first:
        yield lambda record: None
        return
    truncate_history(folder / HISTORY_NAME, run.step)
    events = folder / EVENTS_NAME if run.settings.tensorboard and not run.reason else None
    with event_writer(events, run.step) as write_event:

        def note(record: Record) -> None:
            append_record(folder / HISTORY_NAME, record)
            write_event(record)

        yield note


def _loop(
    run: Run, note: Callable[[Record], None], report: Callable[[Progress], None], should_stop: Callable[[], bool]
) -> None:
    """Steps until an end is reached; ends with a checkpoint, or with TrainingDiverged."""
    settings = run.settings
    start = time.perf_counter() - run.train_seconds
    saved_at = run.train_seconds
    record: Record | None = None
    while not run.reason:
        losses = run.advance()
        run.train_seconds, stop = run.ranks.agree(time.perf_counter() - start, should_stop())
        run.reason = _end(run, stop)
        if run.step % settings.monitor_every == 0 or run.reason not in ("", STOPPED):
            run.check(losses)
            record, reached = run.look(losses)
            note(record)
            run.reason = reached or run.reason
        if run.reason or run.step % _CHECK_EVERY == 0:
            run.check(losses)
            report(Progress(run.step, run.train_seconds, run.progress(), float(losses.loss), record))
            if run.reason or run.train_seconds - saved_at > settings.checkpoint_seconds:
                run.save("" if run.reason == STOPPED else run.reason)
                saved_at = run.train_seconds
    run.ranks.wait()  # a process that leaves early with status 75 ends the others, also while one writes


def _end(run: Run, stop: bool) -> str:
    """The reason why the run ends here, or "" if it goes on."""
    settings = run.settings
    if settings.max_steps is not None and run.step >= settings.max_steps:
        return "max_steps"
    if settings.max_seconds is not None and run.train_seconds >= settings.max_seconds:
        return "max_seconds"
    if run.decay() == 0.0:
        return "converged"
    return STOPPED if stop else ""
