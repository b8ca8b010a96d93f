"""A training in progress: the live state of which the checkpoint is a copy."""

import math
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lattice_flows.flows import REFINED, TRAINING_STEP_ERROR, Flow, Proposer, integrated_parts, refine
from lattice_flows.later_keys import as_before
from lattice_flows.regular_files import at_home
from lattice_flows.theories import Action, Regularised
from lattice_flows.training.catalogue import build_objective
from lattice_flows.training.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    CheckpointError,
    Weights,
    read_checkpoint,
    save_checkpoint,
)
from lattice_flows.training.data import Source, check_source
from lattice_flows.training.history import HISTORY_NAME, Record, history_sha256
from lattice_flows.training.objectives import REVERSE_OBJECTIVES
from lattice_flows.training.optimise import Optimiser, StepInfo
from lattice_flows.training.ranks import Ranks
from lattice_flows.training.resumable import check_same, has_ended, has_more_patience
from lattice_flows.training.settings import TrainingSettings
from lattice_flows.training.validate import Validation, round_trip, validate
from lattice_flows.training.warm_start import inherit

_FIRST_SAMPLES = 256
_REFINING_SAMPLES = 32  # by which a flow's steps are chosen
_DECAY = 0.1  # of the steps until nothing improved, over which the learning rate then falls to 0
_JUDGED_SAMPLES = 4096  # of the validation that ends a training with a target


class TrainingDiverged(RuntimeError):
    """The loss left the range of sensible values; the message says what to change. The last checkpoint is sound."""


class Run:
    """Flow, optimiser, generators and counters of one training in one folder."""

    def __init__(
        self,
        flow: Proposer,
        action: Action,
        settings: TrainingSettings,
        folder: Path,
        seed: int,
        header: dict[str, Any],
        data: Source | None,
        held_out: Source | None,
        ranks: Ranks,
    ) -> None:
        first = next(flow.parameters())
        self.flow, self.action, self.settings, self.path = flow, action, settings, folder / CHECKPOINT_NAME
        self.seed, self.header, self.held_out, self.ranks = seed, header, held_out or data, ranks
        self.dtype = first.dtype if settings.precision is None else getattr(torch, settings.precision)
        for source in filter(None, (data, held_out)):
            check_source(source, flow.space, flow.prior.shape, first.device)
        self.target = learnt_target(action, flow.prior.shape, settings.highest_action)
        named = settings.reaction_coordinate
        variable = None if named is None else action.collective_variable(named)
        self.objective = build_objective(settings, flow, data, self.dtype, first.device, ranks, variable)
        self.optimiser = Optimiser(flow, settings, self.objective, ranks)
        self.average = self.optimiser.average
        self.generator, self.monitor_generator = (
            _generator(seed, name, first.device) for name in ("training", "monitor")
        )
        self.step, self.train_seconds, self.reason, self.worst_loss = 0, 0.0, "", math.inf
        self.best = {"ess": -math.inf, "log_z_bound": -math.inf, "looks": 0.0}
        self.parent = ""
        self.round_trip: float | None = None
        self.integration: dict[str, float] = {}

    def begin(self) -> None:
        """Inherit the first weights, if asked to, and set the loss beyond which the training counts as diverged."""
        if self.settings.init_from is not None:
            self.parent = inherit(self.flow, at_home(self.settings.init_from), self.header)
        # Whatever another node has read meanwhile: all begin with the weights of the first.
        self.flow.load_state_dict(self.ranks.of_first(lambda: _on_host(self.flow.state_dict())))
        self.average.load_state_dict(self.flow.state_dict())
        # Training should improve on the flow it starts from; 10 deviations above that loss it diverges.
        n = max(_FIRST_SAMPLES, self.ranks.size * self.settings.fewest_rows)
        loss, deviation = self.optimiser.first_loss(self.target, n, self.monitor_generator, self.dtype)
        # Annealing leads away from a start near the target on purpose: then only what is not finite tells.
        if self.settings.anneal == 0.0:
            self.worst_loss = loss + 10.0 * deviation + 10.0

    def save(self, reason: str) -> None:
        """Write the checkpoint, on the first rank only; `reason` says why the training ended, "" while it has not."""
        if not self.ranks.is_first:
            return
        optimiser = self.optimiser
        save_checkpoint(
            self.path,
            Checkpoint(
                header=self.header,
                settings=as_before(asdict(self.settings), self.settings.added),
                seed=self.seed,
                threads=torch.get_num_threads(),
                step=self.step,
                train_seconds=self.train_seconds,
                reason=reason,
                worst_loss=self.worst_loss,
                flow=self.flow.state_dict(),
                average=self.average.state_dict(),
                optimizer=optimiser.adam.state_dict(),
                generators=[self.generator.get_state(), self.monitor_generator.get_state()],
                clip=optimiser.clip.state_dict(),
                noise=optimiser.noise.state_dict(),
                objective=self._objective_state(),
                best=self.best,
                parent=self.parent,
                processes=self.ranks.size,
                round_trip=self.round_trip,
                history=history_sha256(self.path.parent / HISTORY_NAME, self.step),
                integration=self.integration,
            ),
        )

    def restore(self) -> None:
        """Restore the folder's checkpoint. Raises CheckpointError if it is of another training."""
        path = self.path
        checkpoint = self.ranks.of_first(lambda: read_checkpoint(path))
        check_same(path, checkpoint, self.header, self.settings, self.seed)
        if checkpoint.threads != (threads := torch.get_num_threads()):
            raise CheckpointError(f"{path}: made with {checkpoint.threads} torch threads, not {threads}")
        try:
            self._load(checkpoint)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            found = " ".join(str(error).split())[:120]
            raise CheckpointError(f"{path}: its state does not fit this training: {found}") from None
        self.step, self.train_seconds = checkpoint.step, checkpoint.train_seconds
        self.header = checkpoint.header  # its checksum names the flow: what came later stays out
        self.reason = checkpoint.reason if has_ended(checkpoint, self.settings) else ""
        self.worst_loss, self.parent = checkpoint.worst_loss, checkpoint.parent
        self.best = {**self.best, **checkpoint.best}
        if has_more_patience(checkpoint, self.settings):
            self.best.pop("decays_from", None)
        self.round_trip, self.integration = checkpoint.round_trip, checkpoint.integration

    def _load(self, checkpoint: Checkpoint) -> None:
        """Restore flow, optimiser and generators; raises whatever torch does where they do not fit."""
        self.flow.load_state_dict(checkpoint.flow)
        self.average.load_state_dict(checkpoint.average)
        self.optimiser.adam.load_state_dict(checkpoint.optimizer)
        self.optimiser.clip.load_state_dict(checkpoint.clip)
        self.optimiser.noise.load_state_dict(checkpoint.noise)
        for source in self.objective.sources:
            source.load_state_dict(checkpoint.objective)
        self.generator.set_state(checkpoint.generators[0])
        self.monitor_generator.set_state(checkpoint.generators[1])

    def progress(self) -> float:
        """The fraction of the run that is done, from 0 to 1."""
        return self.settings.progress(self.step, self.train_seconds)

    def decay(self) -> float:
        """The factor on the learning rate: 1 until nothing improves any more, then half a cosine down to 0, which is
        the end of a run that has converged.
        """
        since = self.best.get("decays_from")
        if since is None:
            return 1.0
        n = max(math.ceil(_DECAY * since), self.settings.monitor_every)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (self.step - since) / n)))

    def advance(self) -> StepInfo:
        """One step of the optimiser."""
        progress, decay = self.progress(), self.decay()
        info = self.optimiser.step(self.target, progress, self.step, self.generator, self.dtype, decay)
        self.step += 1
        return info

    def check(self, losses: StepInfo) -> None:
        """Raise TrainingDiverged if a step since the last check was not finite, or the loss is above the start."""
        if not bool(losses.finite):
            raise self._diverged("a loss or a gradient is not finite")
        if float(losses.loss) > self.worst_loss:
            raise self._diverged(f"the loss is {float(losses.loss):.6g}, above where it started")
        self.optimiser.forget_finite()

    def look(self, losses: StepInfo) -> tuple[Record, str]:
        """A row of the history, from fresh samples of the averaged weights, and why they end the run, or ""."""
        settings, progress = self.settings, self.progress()
        self.refine_average()
        found, reason = self._validated()
        if not found.finite:
            raise self._diverged("the averaged weights give samples without a finite weight")
        judged = settings.objective in REVERSE_OBJECTIVES and self.target is self.action
        if judged and -found.lower.value > self.worst_loss:
            raise self._diverged(f"the loss of the averaged weights is {-found.lower.value:.6g}")
        record = Record(
            step=self.step,
            seconds=self.train_seconds,
            loss=float(losses.loss),
            ess=found.ess.value,
            log_z_bound=found.lower.value,
            learning_rate=float(self.optimiser.adam.param_groups[0]["lr"]),
            action_scale=settings.action_scale_at(progress),
            gradient_norm=float(losses.gradient_norm),
            ess_error=found.ess.error,
            largest_share=found.largest_share,
            log_z=found.log_z.value,
            log_z_error=found.log_z.error,
            log_z_bound_error=found.lower.error,
            log_z_upper=found.upper and found.upper.value,
            log_z_upper_error=found.upper and found.upper.error,
            n_samples=float(found.n_samples),
            batch_size=float(settings.batch_size_at(progress)),
            gradient_snr=self.optimiser.noise.snr(),
            round_trip=found.round_trip,
            step_error=self.integration.get("step_error"),
        )
        self.round_trip = found.round_trip
        self._watch(record)
        for source in self.objective.sources:
            source.look(last=bool(reason or self.reason))
        return record, reason

    def refine_average(self) -> None:
        """Where the flow is integrated, let the one that is used take as many steps as its own weights ask for, and the
        trained one as many as keep it from learning what the integral misses."""
        _refined(self.flow, self.action, self.monitor_generator, TRAINING_STEP_ERROR)
        for own, trained in zip(integrated_parts(self.average), integrated_parts(self.flow), strict=True):
            own.n_steps = trained.n_steps
        self.integration = _refined(self.average, self.action, self.monitor_generator)

    def _validated(self) -> tuple[Validation, str]:
        """The figures of fresh samples, and "target_ess" if it is reached and more, independent samples confirm it."""
        settings, target = self.settings, self.settings.target_ess
        found = self._validate(settings.monitor_samples)
        if target is None or not found.ess.value >= target:
            return found, ""
        found = self._validate(max(_JUDGED_SAMPLES, settings.monitor_samples))
        return found, "target_ess" if found.ess.value - found.ess.error >= target else ""

    def _validate(self, n: int) -> Validation:
        return validate(self.average, self.action, n, self.monitor_generator, torch.float64, self.held_out, self.ranks)

    def _watch(self, record: Record) -> None:
        """Begin the decay once `patience` looks found neither ESS nor log_z_bound an error above the best so far."""
        improved = False
        for name in ("ess", "log_z_bound"):
            if getattr(record, name) > self.best[name] + getattr(record, f"{name}_error"):
                self.best[name] = getattr(record, name)
                improved = True
        self.best["looks"] = 0.0 if improved or record.action_scale < 1.0 else self.best["looks"] + 1.0
        patience = self.settings.patience
        if patience is not None and self.best["looks"] >= patience:
            self.best.setdefault("decays_from", float(self.step))

    def _objective_state(self) -> Weights:
        states = [state for source in self.objective.sources if (state := source.state_dict())]
        assert len(states) <= 1, "the states of two sources would overwrite each other"
        return states[0] if states else {}

    def _diverged(self, what: str) -> TrainingDiverged:
        settings = self.settings
        clip = "clip_norm" if settings.clip is None else "clip"
        return TrainingDiverged(
            f"training diverged at step {self.step}: {what}; "
            f"lower training.learning_rate (now {settings.learning_rate:g}) "
            f"or training.{clip} (now {getattr(settings, clip):g}), or raise training.warmup "
            f"(now {settings.warmup:g}), with another --out"
        )


def learnt_target(action: Action, event: tuple[int, ...], highest: float | None) -> Action:
    """The action that a training sees: damped where S is more than `highest` above that of the cold start."""
    if highest is None:
        return action
    return Regularised(action, float(action.evaluate(action.cold(event)[None])[0]) + highest)


def save_untrained(
    flow: Proposer, action: Action, settings: TrainingSettings, folder: Path, seed: int, header: dict[str, Any]
) -> None:
    """Save a flow without parameters. Raises CheckpointError if the folder holds another training."""
    path = folder / CHECKPOINT_NAME
    if path.exists():
        check_same(path, read_checkpoint(path), header, settings, seed)
        return
    kept, threads = as_before(asdict(settings), settings.added), torch.get_num_threads()
    generator = _generator(seed, "monitor", next(flow.buffers(), torch.zeros(())).device)
    integration = _refined(flow, action, generator)
    weights, error = flow.state_dict(), round_trip(flow, action, _FIRST_SAMPLES, generator)
    save_checkpoint(
        path,
        Checkpoint(
            header=header,
            settings=kept,
            seed=seed,
            threads=threads,
            step=0,
            train_seconds=0.0,
            reason="no_parameters",
            worst_loss=math.inf,
            flow=weights,
            average=weights,
            optimizer={},
            generators=[],
            round_trip=error,
            integration=integration,
        ),
    )


def _refined(flow: Proposer, action: Action, generator: torch.Generator, aim: float = REFINED) -> dict[str, float]:
    """The flow's steps and their error once it is refined, in double precision; the generator is left as it was."""
    same = torch.Generator(generator.device)
    same.set_state(generator.get_state())
    parts = integrated_parts(flow)
    if not parts or not isinstance(flow, Flow):
        return {}
    error = refine(flow, action, flow.prior.sample(_REFINING_SAMPLES, same), aim)
    return {"n_steps": max(part.n_steps for part in parts), "step_error": error}


def _on_host(weights: Weights) -> Weights:
    return {name: weight.cpu() for name, weight in weights.items()}


def _generator(seed: int, name: str, device: torch.device) -> torch.Generator:
    """An independent stream for each purpose."""
    words = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]) >> 1)
