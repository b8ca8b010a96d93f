"""The state of every stage of a run in the terminal: `lattice-flows status`."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lattice_flows.card.card import Card
from lattice_flows.cluster import local
from lattice_flows.cluster.job_outcomes import BY_YOU, Evidence, Verdict, joined, read_outcome
from lattice_flows.cluster.jobs import Job, Jobs, cancelled_jobs, read_jobs
from lattice_flows.cluster.plan import ANALYSE, TRAIN, Stage, log, outcome, plan, progress_of_tasks, training_finished
from lattice_flows.cluster.profile import read_profile
from lattice_flows.cluster.schedulers import Queued, SchedulerError
from lattice_flows.cluster.scripts import compressed
from lattice_flows.cluster.slurm import FOR_OTHERS
from lattice_flows.cluster.submission import SCHEDULERS
from lattice_flows.cluster.training_progress import training_progress
from lattice_flows.ensembles import EnsembleError
from lattice_flows.errors import InputError
from lattice_flows.monitor.screen import count
from lattice_flows.production.job_array import Task, TaskProgress
from lattice_flows.production.run_folder import RunFolder, find_run
from lattice_flows.regular_files import real
from lattice_flows.training import CheckpointError

_STYLES = {"running": "green", "failed": "red", "cancelled": "red", "stopped": "yellow", "waiting": "dim"}
_MOST_NOTES = 10  # of the tasks of one ensemble
NOT_YET = "its turn has not come yet"
_BEHIND_OTHERS = (FOR_OTHERS, NOT_YET)  # the scheduler's words where stages of the run may be ahead
_GONE = ("failed", "stopped", "cancelled")


class Row(NamedTuple):
    """The line shown for a stage."""

    name: str
    state: str
    job: str
    progress: str
    notes: list[str]


def status(folder: Path, console: Console) -> bool:
    """Show the progress of each stage of the run, and what holds it up. Returns whether nothing failed, no task either.

    The state is that of the run's files, and of the scheduler if it answers. Raises InputError if there is no run, or
    it was never submitted.
    """
    held, card = find_run(folder, None)
    look = _Look(RunFolder(real(held.path)), card)
    rows = look.rows()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "state", "job", "progress"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(row.name, Text(row.state, _STYLES.get(row.state.partition(",")[0], "")), row.job, row.progress)
    console.print(table)
    for note in [*(note for row in rows for note in row.notes), *look.doubts]:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    return not look.failed


class _Look:
    """The state of the run at this moment."""

    def __init__(self, folder: RunFolder, card: Card) -> None:
        profile = folder.cluster / "profile.toml"
        if not profile.exists():
            raise InputError(f"{folder.path}: was never submitted; `lattice-flows watch` shows a run on this machine")
        self.folder, self.card, self.doubts = folder, card, list[str]()
        self.stages = plan(card, read_profile(profile))
        self.jobs = read_jobs(folder)
        self.verdicts: dict[str, Verdict] = {}
        self.failed, self._cancelled = False, cancelled_jobs(folder)
        self.reachable, self._queue, self._alive = True, dict[str, Queued](), set[str]()
        if self.jobs is not None:
            self._ask(self.jobs)

    def _ask(self, jobs: Jobs) -> None:
        try:
            if jobs.scheduler == "local":
                self._alive = {job for job in jobs.ids if local.is_running(job, self.folder)}
            else:
                self._queue = dict(SCHEDULERS[jobs.scheduler].queue(jobs.ids))
        except SchedulerError as error:
            self.reachable = False
            self.doubts.append(f"{jobs.scheduler} does not answer, so this is what the files say ({error})")

    def rows(self) -> list[Row]:
        """One row for each stage."""
        rows, verdicts = list[Row](), self.verdicts
        for stage in self.stages:
            blocker = next((_blocks(name, verdicts[name]) for name in stage.after if verdicts[name].state in _GONE), "")
            row, verdicts[stage.name] = self._array(stage, blocker) if stage.ensemble else self._single(stage, blocker)
            rows.append(row)
        return rows

    def _single(self, stage: Stage, blocker: str) -> tuple[Row, Verdict]:
        try:
            finished = training_finished(self.folder, self.card) if stage.kind == TRAIN else self._analysed()
        except CheckpointError as error:
            self.failed, broken = True, Verdict("failed", str(error))
            return self._row(stage, "broken", "", [f"{stage.name}: {error}"]), broken
        verdict = self._verdict(stage, None, finished, blocker)
        progress = training_progress(self.folder.flow, self.card.training) if stage.kind == TRAIN else ""
        return self._row(stage, _with_requeues(verdict), progress, _notes(stage.name, [verdict])), verdict

    def _array(self, stage: Stage, blocker: str) -> tuple[Row, Verdict]:
        table = stage.ensemble
        assert table is not None
        assert stage.count is not None
        try:
            tasks = self._tasks(stage)
        except (EnsembleError, InputError) as error:
            self.failed, broken = True, Verdict("failed", str(error))
            return self._row(stage, "broken", "", [f"{stage.name}: {error}"]), broken
        verdicts = [self._verdict(stage, task.index, task.finished, blocker) for task in tasks]
        done = sum(len(Task(task.index, stage.count).chains(table.n_chains)) * task.n_configs for task in tasks)
        total = "" if table.max_seconds else f"/{count(table.n_chains * table.n_configs)}"
        progress = f"{count(done)}{total} configurations; {_counted(verdicts)}"
        state = joined(verdicts)
        whole = Verdict(state, _first_note(verdicts, state), sum(verdict.requeued for verdict in verdicts))
        return self._row(stage, _with_requeues(whole), progress, _notes(stage.name, verdicts)), whole

    def _tasks(self, stage: Stage) -> list[TaskProgress]:
        try:
            return progress_of_tasks(self.folder, stage)
        except EnsembleError:  # joined while it was read, perhaps: the next look sees it whole
            return progress_of_tasks(self.folder, stage)

    def _verdict(self, stage: Stage, index: int | None, finished: bool, blocker: str) -> Verdict:
        name = stage.name if index is None else f"{stage.name}.{index}"
        job = self.jobs.stages.get(stage.name) if self.jobs else None
        queued = self._queued(job, name, index) if job and job.job else None
        if queued and queued.state == "waiting" and queued.words in _BEHIND_OTHERS:
            ahead = [other for other in stage.after if self.verdicts[other].state != "finished"]
            queued = queued._replace(words=f"for {', '.join(ahead)}") if ahead else queued
        submitted = job is not None and job.job is not None
        cancelled = job is not None and job.job in self._cancelled
        verdict = Evidence(self.folder, name, finished, submitted, queued, self.reachable, cancelled, blocker).verdict()
        self.failed |= verdict.state == "failed"
        return verdict

    def _queued(self, job: Job, name: str, index: int | None) -> Queued | None:
        if job.job in self._alive:
            if outcome(self.folder, name).exists():
                return None
            begun = _changed(log(self.folder, name)) >= job.submitted
            return Queued("running") if begun else Queued("waiting", NOT_YET)
        return self._queue.get(str(job.job) if index is None else f"{job.job}_{index}")

    def _analysed(self) -> bool:
        """Whether the run is analysed, by its job or by hand."""
        ended = read_outcome(self.folder, ANALYSE)
        job = self.jobs.stages.get(ANALYSE) if self.jobs else None
        by_hand = (job is None or job.job is None) and (self.folder.report / "summary.json").exists()
        return by_hand if ended is None else ended.status == 0

    def _row(self, stage: Stage, state: str, progress: str, notes: list[str]) -> Row:
        job = self.jobs.stages.get(stage.name) if self.jobs else None
        return Row(stage.name, state, (job.job or "") if job else "", progress, notes)


def _blocks(name: str, verdict: Verdict) -> str:
    """The reason why a stage after this one cannot run; if this one is itself held up, its own reason."""
    if verdict.state == "cancelled":
        by_you = verdict.note.startswith(BY_YOU)
        return f"{name} was cancelled {BY_YOU}" if by_you else verdict.note.removeprefix("because ")
    note = f": {verdict.note}" if verdict.note else ""
    return f"{name} {'failed' if verdict.state == 'failed' else 'was stopped'}{note}"


def _with_requeues(verdict: Verdict) -> str:
    n = verdict.requeued
    return verdict.state + (f", requeued {n} {'time' if n == 1 else 'times'}" if n else "")


def _counted(verdicts: Sequence[Verdict]) -> str:
    """The number of tasks in each state, such as "4 tasks: 3 finished, 1 running"."""
    n = len(verdicts)
    states = Counter(verdict.state for verdict in verdicts)
    return f"{n} {'task' if n == 1 else 'tasks'}: " + ", ".join(f"{k} {state}" for state, k in states.most_common())


def _first_note(verdicts: Sequence[Verdict], state: str) -> str:
    """The note of the first task in this state."""
    return next((verdict.note for verdict in verdicts if verdict.state == state), "")


def _notes(stage: str, verdicts: Sequence[Verdict]) -> list[str]:
    """One line for all tasks with the same reason; it names the `tasks 3,7-9` if not all share it."""
    reasons: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, verdict in enumerate(verdicts):
        if verdict.note:
            reasons[verdict.state, verdict.note].append(index)
    lines = []
    for (state, note), indices in reasons.items():
        tasks = f" {'task' if len(indices) == 1 else 'tasks'} {compressed(indices)}"
        words = f"{state} {note}" if note.startswith(("because ", BY_YOU)) else f"{state}: {note}"
        words = f"waits {note}" if note.startswith("for ") else words
        lines.append(f"{stage}{'' if len(indices) == len(verdicts) else tasks}: {words}")
    more = len(lines) - _MOST_NOTES
    return lines if more <= 0 else [*lines[:_MOST_NOTES], f"{stage}: and {more} more reasons; see cluster/outcomes"]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
