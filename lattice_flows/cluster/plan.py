"""The stages of a run as jobs: the command of each, its resources, and the stages that come before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lattice_flows.card.budget import is_complete
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.cluster.profile import AnalyseTable, Profile, SampleTable, TrainTable
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.production.job_array import Task, TaskProgress, task_progress
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import is_at_end
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint

TRAIN, ANALYSE = "train", "analyse"


@dataclass(frozen=True)
class Stage:
    """One job, or one array of them."""

    name: str  # "train", "sample-NAME", "analyse"
    kind: str  # "train", "sample", "analyse"
    table: TrainTable | SampleTable | AnalyseTable  # what the profile says of its kind
    after: tuple[str, ...] = ()  # the stages whose results it needs
    ensemble: EnsembleTable | None = None
    count: int | None = None  # tasks of an array

    @property
    def indices(self) -> list[int] | None:
        """The indices of all tasks of an array."""
        return None if self.count is None else list(range(self.count))


@dataclass(frozen=True)
class Part:
    """The part of a stage that is left to do."""

    stage: Stage
    after: tuple[str, ...]  # of the stages it needs, those that are themselves left to do
    indices: list[int] | None  # the tasks of an array


def plan(card: Card, profile: Profile) -> list[Stage]:
    """All stages of the card, each after those that it needs. Raises InputError if the chains cannot be divided so."""
    stages = [] if card.flow is None else [Stage(TRAIN, TRAIN, profile.train)]
    for table in card.ensembles:
        after = (TRAIN,) if table.needs_flow else ()
        count = _n_tasks(table, profile.sample.chains_per_task)
        stages.append(Stage(f"sample-{table.name}", "sample", profile.sample, after, table, count))
    return [*stages, Stage(ANALYSE, ANALYSE, profile.analyse, tuple(stage.name for stage in stages))]


def _n_tasks(table: EnsembleTable, chains_per_task: int) -> int:
    count = -(-table.n_chains // chains_per_task)
    in_set = table.chains_per_set
    if not _are_whole_sets(table, count):
        raise InputError(
            f"[sample]: chains_per_task = {chains_per_task}: each task of the {table.sampler} ensemble "
            f"{table.name!r} needs whole sets of {in_set} chains; chains_per_task = {in_set} would be right"
        )
    return count


def _are_whole_sets(table: EnsembleTable, count: int) -> bool:
    """Whether each of so many tasks gets whole sets of chains, where the sampler has any."""
    in_set = table.chains_per_set or 1
    return in_set == 1 or not any(len(Task(i, count).chains(table.n_chains)) % in_set for i in range(count))


def require_arrays(parts: Sequence[Part], most: int) -> None:
    """Raise InputError for an array of more tasks than the scheduler allows."""
    for part in parts:
        table, count, profile = part.stage.ensemble, part.stage.count, part.stage.table
        if not part.indices or part.indices[-1] < most:
            continue
        assert table is not None
        assert count is not None
        assert isinstance(profile, SampleTable)
        counts = (-(-table.n_chains // chains) for chains in range(profile.chains_per_task, table.n_chains + 1))
        fits = next((n for n in counts if n <= most and _are_whole_sets(table, n)), None)
        right = "" if fits is None else f"; chains_per_task = {-(-table.n_chains // fits)} would be right"
        raise InputError(
            f"[sample]: chains_per_task = {profile.chains_per_task}: makes {count} tasks of the ensemble "
            f"{table.name!r}, and an array has {most} at most here (MaxArraySize){right}"
        )


def left_to_do(folder: RunFolder, card: Card, stages: list[Stage]) -> list[Part]:
    """The parts of all stages that the files lack; the analysis if its report is older than any of them.

    Raises InputError if the files of an ensemble were made for other tasks, EnsembleError for a broken one.
    """
    parts: list[Part] = []
    for stage in stages:
        indices = unfinished_tasks(folder, stage) if stage.ensemble else None
        if indices == [] or (stage.kind == TRAIN and training_finished(folder, card)):
            continue
        if stage.kind == ANALYSE and not parts and _is_reported(folder, card):
            continue
        waiting_for = {part.stage.name for part in parts}
        parts.append(Part(stage, tuple(name for name in stage.after if name in waiting_for), indices))
    return parts


def _is_reported(folder: RunFolder, card: Card) -> bool:
    """Whether there is a report of the files as they are."""
    summary = folder.report / "summary.json"
    files = [folder.card, folder.evaluation, *(path for table in card.ensembles for path in folder.files(table.name))]
    newest = max((path.stat().st_mtime for path in files if path.exists()), default=0.0)
    return summary.exists() and summary.stat().st_mtime >= newest


def training_finished(folder: RunFolder, card: Card) -> bool:
    """Whether the flow is trained to the end of the card, and measured: the evaluation is written last.

    Raises CheckpointError if it is the flow of another card.
    """
    checkpoint = folder.flow / CHECKPOINT_NAME
    return folder.evaluation.exists() and checkpoint.exists() and is_at_end(folder, card, read_checkpoint(checkpoint))


def unfinished_tasks(folder: RunFolder, stage: Stage) -> list[int]:
    """The tasks of an ensemble that lack configurations. Raises the same errors as `left_to_do`."""
    return [task.index for task in progress_of_tasks(folder, stage) if not task.finished]


def progress_of_tasks(folder: RunFolder, stage: Stage) -> list[TaskProgress]:
    """The progress of each task of an ensemble. If a single process has finished it, all its tasks are finished.

    Raises the same errors as `left_to_do`.
    """
    table, count = stage.ensemble, stage.count
    assert table is not None
    assert count is not None
    path = folder.ensemble(table.name)
    if not Ensemble.exists(path):
        return task_progress(folder, table, count)
    with Ensemble.open(path) as held:
        n_configs = held.n_configs
        if not is_complete(held, table):
            raise InputError(
                f"{path}: was begun by one process, not as a job array; let `lattice-flows sample` finish it first"
            )
    return [TaskProgress(index, n_configs, table.n_thermalisation, True) for index in range(count)]


def log(folder: RunFolder, name: str) -> Path:
    """The log of a stage, or of a task as NAME.i."""
    return folder.cluster / "logs" / f"{name}.out"


def outcome(folder: RunFolder, name: str) -> Path:
    """The file that records how the last attempt of a stage, or of a task as NAME.i, ended."""
    return folder.cluster / "outcomes" / f"{name}.json"
