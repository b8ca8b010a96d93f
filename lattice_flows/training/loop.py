"""The one training loop."""

import copy
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.flows import Flow
from lattice_flows.statistics import effective_sample_size
from lattice_flows.training.checkpoint import Checkpoint, CheckpointError, read_checkpoint, save_checkpoint
from lattice_flows.training.evaluate import evaluate
from lattice_flows.training.history import Record, append_record, truncate_history
from lattice_flows.training.objectives import OBJECTIVES, Scaled
from lattice_flows.training.settings import TrainingSettings

CHECKPOINT_NAME = "checkpoint.pt"
HISTORY_NAME = "history.csv"
STOPPED = "stopped"  # by should_stop(): saved, and to be resumed

_CHECK_EVERY = 10  # steps between two looks at the losses: a look waits for the device


class TrainingDiverged(RuntimeError):
    """The loss left the range of sensible values; the message says what to change. The last checkpoint is sound."""


class Progress(NamedTuple):
    """What a progress bar shows. `record` is the latest row of the history, if there is one yet."""

    step: int
    seconds: float
    fraction: float  # of the run
    loss: float
    record: Record | None


class TrainingResult(NamedTuple):
    """`reason`: "max_steps", "max_seconds", "target_ess", or "stopped" where should_stop() ended it early."""

    reason: str
    step: int
    train_seconds: float


def train(
    flow: Flow,
    action: Action,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    header: dict[str, Any],
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train `flow` towards exp(-S), or resume what `folder` holds; the flow is left with the averaged weights.

    `folder` receives checkpoint.pt and history.csv. `header` is JSON-able and names what is trained (theory,
    flow, versions); it is stored, and a resume must bring an equal one. A run that ended is not continued: its
    result is returned again. Networks and maps compute in the dtype of the flow's weights, on their device.

    Raises CheckpointError for a folder whose checkpoint is of another training, unreadable, or from another number
    of torch threads, and TrainingDiverged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(flow, action, settings, folder, seed, header)
    if (folder / CHECKPOINT_NAME).exists():
        run.restore()
    truncate_history(folder / HISTORY_NAME, run.step)
    if not run.reason:
        run.loop(report, should_stop)
    flow.load_state_dict(run.average.state_dict())
    return TrainingResult(run.reason, run.step, run.train_seconds)


class _Losses(NamedTuple):
    """The last step's loss and gradient norm, and whether both were finite in all steps since the last check."""

    loss: Tensor
    gradient_norm: Tensor
    finite: Tensor


class _Run:
    """A training in progress: what the checkpoint holds, live."""

    def __init__(
        self, flow: Flow, action: Action, settings: TrainingSettings, folder: Path, seed: int, header: dict[str, Any]
    ) -> None:
        self.flow, self.action, self.settings, self.folder = flow, action, settings, folder
        self.seed, self.header = seed, header
        self.objective = OBJECTIVES[settings.objective]
        self.parameters = list(flow.parameters())
        self.average = copy.deepcopy(flow).requires_grad_(False)
        self.averages: list[Tensor] = list(self.average.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate, fused=True)
        self.dtype, device = self.parameters[0].dtype, self.parameters[0].device
        self.generator, self.monitor_generator = (_generator(seed, name, device) for name in ("training", "monitor"))
        self.step, self.train_seconds, self.reason, self.worst_loss = 0, 0.0, "", math.inf

    def loop(self, report: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
        """Steps until an end is reached; ends with a checkpoint, or with TrainingDiverged."""
        start = time.perf_counter() - self.train_seconds
        saved_at = self.train_seconds
        finite: Tensor | None = None
        record: Record | None = None
        while not self.reason:
            losses = self._advance(finite)
            finite = losses.finite
            self.train_seconds = time.perf_counter() - start
            self.reason = self._end(should_stop)
            if self.step % self.settings.monitor_every == 0 or self.reason not in ("", STOPPED):
                self._check(losses)
                record = self._look(losses)
                self.reason = self._reached(record) or self.reason
            if self.reason or self.step % _CHECK_EVERY == 0:
                self._check(losses)
                finite = None
                report(Progress(self.step, self.train_seconds, self._progress(), float(losses.loss), record))
                if self.reason or self.train_seconds - saved_at > self.settings.checkpoint_seconds:
                    self.save()
                    saved_at = self.train_seconds

    def save(self) -> None:
        save_checkpoint(
            self.folder / CHECKPOINT_NAME,
            Checkpoint(
                header=self.header,
                settings=asdict(self.settings),
                seed=self.seed,
                threads=torch.get_num_threads(),
                step=self.step,
                train_seconds=self.train_seconds,
                reason="" if self.reason == STOPPED else self.reason,
                worst_loss=self.worst_loss,
                flow=self.flow.state_dict(),
                average=self.average.state_dict(),
                optimizer=self.optimizer.state_dict(),
                generators=[self.generator.get_state(), self.monitor_generator.get_state()],
            ),
        )

    def restore(self) -> None:
        """Take up the folder's checkpoint. Raises CheckpointError where it is of another training."""
        path = self.folder / CHECKPOINT_NAME
        checkpoint = read_checkpoint(path)
        mine = {"header": self.header, "settings": asdict(self.settings), "seed": self.seed}
        for name, value in mine.items():
            if getattr(checkpoint, name) != value:
                raise CheckpointError(f"{path}: made with another {name}; choose another folder or remove this one")
        if checkpoint.threads != (threads := torch.get_num_threads()):
            raise CheckpointError(f"{path}: made with {checkpoint.threads} torch threads, not {threads}")
        self.flow.load_state_dict(checkpoint.flow)
        self.average.load_state_dict(checkpoint.average)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.generator.set_state(checkpoint.generators[0])
        self.monitor_generator.set_state(checkpoint.generators[1])
        self.step, self.train_seconds = checkpoint.step, checkpoint.train_seconds
        self.reason, self.worst_loss = checkpoint.reason, checkpoint.worst_loss

    def _progress(self) -> float:
        return self.settings.progress(self.step, self.train_seconds)

    def _advance(self, finite: Tensor | None) -> _Losses:
        """One step of Adam and of the average."""
        settings, progress = self.settings, self._progress()
        if self.step == 0:
            self._set_worst_loss()
        action = self._scaled_action(progress)
        loss, _ = self.objective(self.flow, action, settings.batch_size, self.generator, self.dtype)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(progress)
        self.optimizer.step()
        self.step += 1
        # The average forgets the first weights faster than ema_decay would, as in an arithmetic mean.
        decay = min(settings.ema_decay, self.step / (self.step + 10.0))
        torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.parameters], 1.0 - decay)
        loss = loss.detach()
        now_finite = torch.isfinite(loss) & torch.isfinite(norm)
        return _Losses(loss, norm, now_finite if finite is None else finite & now_finite)

    def _scaled_action(self, progress: float) -> Action:
        factor = self.settings.action_scale_at(progress)
        return self.action if factor == 1.0 else Scaled(self.action, factor)

    def _set_worst_loss(self) -> None:
        """Training should improve on the flow it starts from; 10 deviations above that loss it diverges."""
        log_w = evaluate(self.flow, self.action, 256, self.monitor_generator, dtype=self.dtype)
        self.worst_loss = float(-log_w.mean() + 10.0 * log_w.std() + 10.0)

    def _look(self, losses: _Losses) -> Record:
        """A row of the history, from fresh samples of the averaged weights."""
        settings, progress = self.settings, self._progress()
        log_w = evaluate(self.average, self.action, settings.monitor_samples, self.monitor_generator, dtype=self.dtype)
        if not np.isfinite(log_w).all() or -log_w.mean() > self.worst_loss:
            raise self._diverged(f"the loss of the averaged weights is {-log_w.mean():.6g}")
        record = Record(
            step=self.step,
            seconds=self.train_seconds,
            loss=float(losses.loss),
            ess=effective_sample_size(log_w).value,
            log_z_bound=float(log_w.mean()),
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            action_scale=settings.action_scale_at(progress),
            gradient_norm=float(losses.gradient_norm),
        )
        append_record(self.folder / HISTORY_NAME, record)
        return record

    def _check(self, losses: _Losses) -> None:
        if not bool(losses.finite):
            raise self._diverged("a loss or a gradient is not finite")
        if float(losses.loss) > self.worst_loss:
            raise self._diverged(f"the loss is {float(losses.loss):.6g}, above where it started")

    def _diverged(self, what: str) -> TrainingDiverged:
        settings = self.settings
        return TrainingDiverged(
            f"training diverged at step {self.step}: {what}; "
            f"lower training.learning_rate (now {settings.learning_rate:g}) "
            f"or training.clip (now {settings.clip:g}), or raise training.warmup (now {settings.warmup:g})"
        )

    def _reached(self, record: Record) -> str:
        target = self.settings.target_ess
        return "target_ess" if target is not None and record.ess >= target else ""

    def _end(self, should_stop: Callable[[], bool]) -> str:
        """Why the run ends here; "" where it goes on."""
        settings = self.settings
        if settings.max_steps is not None and self.step >= settings.max_steps:
            return "max_steps"
        if settings.max_seconds is not None and self.train_seconds >= settings.max_seconds:
            return "max_seconds"
        return STOPPED if should_stop() else ""


def _generator(seed: int, name: str, device: torch.device) -> torch.Generator:
    """An independent stream for each purpose."""
    words = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]) >> 1)
