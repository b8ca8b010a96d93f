"""cluster/jobs.json: the submitted jobs of a run. It is rewritten after every job, so that no id is lost.

cluster/cancelled.json: the ids of those that `cancel` has ended.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lattice_flows.atomic_files import write_atomically
from lattice_flows.card.arguments import describe
from lattice_flows.cluster.profile import SCHEDULER_NAMES
from lattice_flows.errors import InputError, written_to
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.regular_files import read_text

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Job:
    """The last submission of one stage."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    script: str
    after: list[str]  # stages
    tasks: int | None = None  # of the ensemble's array
    indices: str | None = None  # those submitted, "0-3,7"
    job: str | None = None  # the scheduler's id; None: nothing was left to do, or it was not submitted
    dependencies: list[str] = field(default_factory=list)  # ids
    submitted: float = 0.0  # seconds since the epoch


@dataclass(frozen=True)
class Jobs:
    """The last submissions of all stages of a run."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    scheduler: str
    directory: str  # where it was submitted; relative paths of the card begin there
    stages: dict[str, Job]

    @property
    def ids(self) -> list[str]:
        """The ids of all jobs, each once."""
        return list(dict.fromkeys(job.job for job in self.stages.values() if job.job is not None))


def jobs_path(folder: RunFolder) -> Path:
    """The path of jobs.json."""
    return folder.cluster / "jobs.json"


def read_jobs(folder: RunFolder) -> Jobs | None:
    """The submitted jobs; None if there are none. Raises InputError for a damaged file."""
    path = jobs_path(folder)
    try:
        jobs = TypeAdapter(Jobs).validate_json(read_text(path), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise _damaged(path, describe(error, "its content", ())) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error.strerror) if isinstance(error, OSError) else "is not UTF-8 text") from None
    if jobs.scheduler not in SCHEDULER_NAMES:
        raise _damaged(path, f"scheduler = {jobs.scheduler!r} is none of {', '.join(SCHEDULER_NAMES)}")
    return jobs


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: damaged ({why}); make sure that no job of the run is queued, and delete it")


def jobs_text(jobs: Jobs) -> str:
    """The content of jobs.json."""
    return json.dumps(asdict(jobs), indent=1) + "\n"


def cancelled_jobs(folder: RunFolder) -> set[str]:
    """The ids of the jobs that `cancel` has ended."""
    try:
        return set(map(str, json.loads(read_text(_cancelled(folder)))))
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


def note_cancelled(folder: RunFolder, jobs: Iterable[str]) -> None:
    """Note that these were ended by `cancel`. Raises InputError or OSError if that cannot be written."""
    with written_to(path := _cancelled(folder)):
        write_atomically(path, (json.dumps(sorted(cancelled_jobs(folder) | set(jobs))) + "\n").encode())


def forget_cancelled(folder: RunFolder) -> None:
    """Delete the notes of earlier submissions: ids come again."""
    _cancelled(folder).unlink(missing_ok=True)


def _cancelled(folder: RunFolder) -> Path:
    return folder.cluster / "cancelled.json"
