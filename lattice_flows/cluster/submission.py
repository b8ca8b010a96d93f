"""Submit a run: write its scripts, hand what is left to do to the scheduler, keep the ids."""

import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lattice_flows.atomic_files import write_atomically
from lattice_flows.cluster import local
from lattice_flows.cluster.jobs import Job, Jobs, forget_cancelled, jobs_path, jobs_text, read_jobs
from lattice_flows.cluster.pbs import Pbs
from lattice_flows.cluster.plan import Part, Stage, left_to_do, outcome, plan, require_arrays
from lattice_flows.cluster.profile import Profile, SampleTable, read_profile, shipped
from lattice_flows.cluster.schedulers import Scheduler, SchedulerError, call, is_of
from lattice_flows.cluster.scripts import ALL, compressed, render, script_path
from lattice_flows.cluster.slurm import Slurm
from lattice_flows.errors import InputError, written_to
from lattice_flows.production.consistency import check_run
from lattice_flows.production.one_at_a_time import locked
from lattice_flows.production.run_folder import RunFolder, asked_for, claim, default_folder
from lattice_flows.regular_files import real

SCHEDULERS: Mapping[str, Scheduler] = {"slurm": Slurm(), "pbs": Pbs()}
_NO_SERVER = ("configuration source", "contact slurm controller", "cannot connect to server")  # of Slurm, and of PBS
_SHOWN = 300  # characters of an answer that is not understood
_TOO_LARGE = ("Invalid job array specification", "exceeds server or queue size limit")
_PROGRAMS = {"slurm": "sbatch", "pbs": "qsub", "local": "xargs"}


def submit(
    source: Path, profile_path: Path | None, out: Path | None, overrides: Sequence[str], dry_run: bool, console: Console
) -> None:
    """Submit what is left to do of the card's run, or of the run folder, as batch jobs.

    profile_path: the cluster profile, a TOML file; None: the one that the run was submitted with.
    out and overrides go with a card, as for `asked_for`.
    dry_run: write the scripts, print them and the commands, submit nothing.
    Raises InputError for what is wrong with the card, the profile or the folder; for a run that still has jobs; and
    if the scheduler refuses: then the jobs of this call are cancelled.
    """
    folder = RunFolder(real(_folder(source, out)))
    profile_path = profile_path or _kept_profile(folder)
    profile = read_profile(profile_path)
    if not dry_run and shutil.which(program := _PROGRAMS[profile.scheduler]) is None:
        raise InputError(
            f"{profile_path}: scheduler = {profile.scheduler!r}: {program} was not found; "
            "submit from a login node of the cluster, or look at the scripts with --dry-run"
        )
    with ExitStack() as stack:
        if begun := folder.card.exists():  # nothing of a run may change while it has jobs
            stack.enter_context(_alone(folder))
            _refuse_a_second(folder, dry_run)
        _, card = asked_for(source, out, overrides)
        check_run(folder, card)
        stages = plan(card, profile)
        # What is refused is refused before the folder is changed.
        _require_arrays(profile_path, profile, left_to_do(folder, card, stages))
        claim(folder, card)
        if not begun:
            stack.enter_context(_alone(folder))
        parts = left_to_do(folder, card, stages)
        if not parts:
            console.print(f"{folder.path}: everything is finished", markup=False, highlight=False, soft_wrap=True)
            return
        scripts = render(folder, profile, parts, _directory(folder))
        _write_all({folder.cluster / "profile.toml": profile.text, **scripts})
        if dry_run:
            _show(folder, profile, parts, scripts, console)
            return
        jobs = _Submission(folder, profile, stages, parts).run()
    for part in parts:
        console.print(_line(part, jobs), markup=False, highlight=False, soft_wrap=True)
    console.print(f"lattice-flows status {shlex.quote(str(folder.path))}", highlight=False, soft_wrap=True)


class _Submission:
    """The jobs of one call, and jobs.json beside them."""

    def __init__(self, folder: RunFolder, profile: Profile, stages: Sequence[Stage], parts: Sequence[Part]) -> None:
        self.folder, self.profile, self.parts = folder, profile, parts
        entries = {stage.name: Job(_script(stage), list(stage.after), stage.count) for stage in stages}
        self.jobs = Jobs(profile.scheduler, str(_directory(folder)), entries)

    def run(self) -> Jobs:
        """Submit all parts, or none."""
        for part in self.parts:
            _forget_outcomes(self.folder, part)
        forget_cancelled(self.folder)
        self._keep()
        if self.profile.scheduler == "local":
            job = local.start(self.folder)
            for part in self.parts:
                self._add(part, job, [])
            return self.jobs
        scheduler = SCHEDULERS[self.profile.scheduler]
        try:
            for part in self.parts:
                dependencies = [str(self.jobs.stages[name].job) for name in part.after]
                command = scheduler.command(script_path(self.folder, part.stage.name), part, dependencies)
                job = _submitted(scheduler, command)
                cluster = self.profile.cluster(part.stage.table)
                self._add(part, job if ";" in job or cluster is None else f"{job};{cluster}", dependencies)
        except BaseException:  # ctrl-C too: half of the stages is of no use
            if self.jobs.ids:
                self._withdraw(scheduler)
            raise
        return self.jobs

    def _add(self, part: Part, job: str, dependencies: list[str]) -> None:
        name = part.stage.name
        entry = replace(
            self.jobs.stages[name],
            job=job,
            indices=None if part.indices is None else compressed(part.indices),
            dependencies=dependencies,
            submitted=time.time(),
        )
        self.jobs = replace(self.jobs, stages={**self.jobs.stages, name: entry})
        self._keep()

    def _withdraw(self, scheduler: Scheduler) -> None:
        with suppress(SchedulerError):  # the ids stay then, for `cancel`
            scheduler.cancel(self.jobs.ids)
            stages = {name: replace(job, job=None, dependencies=[]) for name, job in self.jobs.stages.items()}
            self.jobs = replace(self.jobs, stages=stages)
            self._keep()

    def _keep(self) -> None:
        _write_all({jobs_path(self.folder): jobs_text(self.jobs)})


def _submitted(scheduler: Scheduler, command: Sequence[str]) -> str:
    """Submit one job. Returns its id."""
    # An answer that comes late is waited for: a job whose id is lost could not be cancelled.
    try:
        answer = call(command, patience=None)
    except SchedulerError as error:
        if any(words in str(error) for words in _NO_SERVER):
            advice = "no controller can be reached from here; submit from a login node of the cluster"
            raise SchedulerError(f"{command[0]}: {advice} ({error})") from None
        if any(words in str(error) for words in _TOO_LARGE):
            raise SchedulerError(f"{error}: too many tasks; raise chains_per_task in [sample] of the profile") from None
        raise
    if (job := scheduler.job(answer)) is not None:
        return job
    printed = " | ".join(line.strip() for line in answer.splitlines() if line.strip())[-_SHOWN:]
    raise SchedulerError(
        f"{command[0]}: printed no job id but {printed!r}; its job may be in the queue all the same: look with "
        f"`{scheduler.look}`, and end it there"
    )


def _require_arrays(profile_path: Path, profile: Profile, parts: Sequence[Part]) -> None:
    """Raise InputError for an array with more tasks than the scheduler says it takes."""
    scheduler = SCHEDULERS.get(profile.scheduler)
    if scheduler is None or not any(part.indices for part in parts):
        return
    most = scheduler.most_tasks(profile.cluster(profile.sample))
    if most is not None:
        try:
            require_arrays(parts, most)
        except InputError as error:
            raise InputError(f"{profile_path}: {error}") from None


def _script(stage: Stage) -> str:
    return f"cluster/{stage.name}.sh"


def require_no_jobs(source: Path, out: Path | None) -> None:
    """Raise InputError if the run of a card or of a folder has jobs that wait or run."""
    folder = RunFolder(real(_folder(source, out)))
    if jobs_path(folder).exists():
        _refuse_a_second(folder, dry_run=True)


def _folder(source: Path, out: Path | None) -> Path:
    return source if source.is_dir() else out or default_folder(source)


def _kept_profile(folder: RunFolder) -> Path:
    path = folder.cluster / "profile.toml"
    if not path.exists():
        raise InputError(f"--cluster: name a profile, since this run has none yet{shipped()}")
    return path


def _directory(folder: RunFolder) -> Path:
    """The directory from which relative paths of the card are taken: where the run was first submitted."""
    jobs = read_jobs(folder)
    return Path.cwd() if jobs is None else Path(jobs.directory)


def _refuse_a_second(folder: RunFolder, dry_run: bool) -> None:
    """Raise InputError if jobs of the run are still in a queue: two would work on the same files.

    A dry run, which may be made far from the scheduler, does without its answer.
    """
    jobs = read_jobs(folder)
    if jobs is None or not jobs.ids:
        return
    try:
        left = active(folder, jobs)
    except SchedulerError as error:
        if dry_run:
            return
        raise InputError(
            f"{folder.path}: was submitted to {jobs.scheduler}, which does not answer ({error}); "
            f"if none of its jobs is left, delete {jobs_path(folder)}"
        ) from None
    if left:
        raise InputError(
            f"{folder.path}: still has jobs ({', '.join(left)}); wait for them, or end them with "
            f"`lattice-flows cancel {shlex.quote(str(folder.path))}`"
        )


def active(folder: RunFolder, jobs: Jobs) -> list[str]:
    """The ids of the jobs that wait or run. Raises SchedulerError if the scheduler does not answer."""
    if jobs.scheduler == "local":
        return [job for job in jobs.ids if local.is_running(job, folder)]
    queue = SCHEDULERS[jobs.scheduler].queue(jobs.ids)
    at_work = {key for key, job in queue.items() if job.state != "ended"}
    return [job for job in jobs.ids if any(is_of(key, job) for key in at_work)]


def _forget_outcomes(folder: RunFolder, part: Part) -> None:
    """Delete the outcomes of earlier attempts of what is submitted now."""
    name = part.stage.name
    for task in [name] if part.indices is None else [f"{name}.{index}" for index in part.indices]:
        outcome(folder, task).unlink(missing_ok=True)


def _show(
    folder: RunFolder, profile: Profile, parts: Sequence[Part], scripts: Mapping[Path, str], console: Console
) -> None:
    """The scripts and the commands that would submit them."""

    def show(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for path, text in scripts.items():
        show(f"==> {path} <==\n{text}")
    if profile.scheduler == "local":
        show(shlex.join(["bash", str(folder.cluster / ALL)]))
    for part in parts if profile.scheduler in SCHEDULERS else ():
        ids = [f"ID_OF_{name}" for name in part.after]
        show(shlex.join(SCHEDULERS[profile.scheduler].command(script_path(folder, part.stage.name), part, ids)))


def _line(part: Part, jobs: Jobs) -> str:
    """A description in words of what was submitted."""
    job = jobs.stages[part.stage.name]
    words = [f"{part.stage.name}: {'process' if jobs.scheduler == 'local' else 'job'} {job.job}"]
    if part.indices is not None and isinstance(part.stage.table, SampleTable):
        n = len(part.indices)
        words.append(f"{n} {'task' if n == 1 else 'tasks'}, at most {part.stage.table.array_limit} at once")
    if part.after:
        words.append(f"after {', '.join(part.after)}")
    return "; ".join(words)


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Keep others from submitting this run. Raises InputError if another submission is in progress."""
    for path in (folder.cluster, folder.cluster / "logs", folder.cluster / "outcomes"):
        with written_to(path):
            path.mkdir(parents=True, exist_ok=True)
    with locked(folder.cluster / "submit.lock", f"{folder.path}: is being submitted by another process"):
        yield


def _write_all(texts: Mapping[Path, str]) -> None:
    """Replace small files, each atomically."""
    for path, text in texts.items():
        with written_to(path):
            write_atomically(path, text.encode())
