"""The common interface of the schedulers: jobs go in, their states come out."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from lattice_flows.cluster.plan import Part
from lattice_flows.errors import InputError

_PATIENCE = 120.0  # seconds; a busy scheduler answers late


class SchedulerError(InputError):
    """The scheduler is missing, or refuses. The message is one line with the scheduler's own words."""


class Queued(NamedTuple):
    """The state of a job, or of one task, according to the scheduler."""

    state: str  # "waiting", "running", "ended"
    words: str = ""  # why it waits; how it ended where that is not by itself
    requeued: int = 0  # times


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last line of the text that is all of the pattern: sites print banners and warnings around an answer."""
    found = [pattern.fullmatch(line.strip()) for line in text.splitlines()]
    return next((match for match in reversed(found) if match), None)


def is_of(key: str, job: str) -> bool:
    """Whether a key of `Scheduler.queue` is the job, or one of its tasks."""
    return key == job or key.startswith(f"{job}_")


class Scheduler(Protocol):
    """A batch system."""

    look: str  # the command that shows the user's jobs

    def command(self, script: Path, part: Part, dependencies: Sequence[str]) -> list[str]:
        """The command that submits the script; it prints the job's id."""

    def job(self, answer: str) -> str | None:
        """The id in what that command printed, among other lines of the site; None if there is none."""

    def most_tasks(self, cluster: str | None) -> int | None:
        """The largest number of tasks in one array, of this cluster where the site has several; None if not known."""

    def queue(self, ids: Sequence[str]) -> Mapping[str, Queued]:
        """The known states of the jobs: of a plain job by its id, of the tasks of an array by ID_i.

        Raises SchedulerError if the scheduler does not answer.
        """

    def cancel(self, ids: Sequence[str]) -> None:
        """Remove the jobs from the queue, and end those that are running. Raises SchedulerError."""


def call(command: Sequence[str], patience: float | None = _PATIENCE) -> str:
    """The output of a program of the scheduler. patience: how long to wait, in seconds; None for no limit.

    Raises SchedulerError with the program's own error message.
    """
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=patience, errors="replace", check=False)
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: there is no such program here") from None
    except OSError as error:
        raise SchedulerError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]}: no answer in {patience:.0f} s") from None
    if ended.returncode:
        lines = [line.strip().removeprefix(f"{command[0]}: ") for line in ended.stderr.splitlines() if line.strip()]
        words = "; ".join(lines) or f"ended with status {ended.returncode}"
        raise SchedulerError(f"{command[0]}: {words}")
    return ended.stdout
