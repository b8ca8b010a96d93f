"""The outcome of a job: from the run's files, from the note left at its end, and from the scheduler, in this order."""

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lattice_flows.cluster.plan import log, outcome
from lattice_flows.cluster.schedulers import Queued
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.regular_files import open_regular, read_text

EXIT_STOPPED = 75
_TERMINATED = 128 + signal.SIGTERM  # of a shell, where the program was asked to end before it could listen
BY_YOU = "by you"
_LOG_TAIL = 4096  # bytes
_ENDED = re.compile(r"ended with status (\d+)$")  # what the scripts say at last


# What still goes on counts more than what has ended, and that more than what is done.
STATES = ("running", "waiting", "submitted", "failed", "cancelled", "stopped", "unfinished", "unsubmitted", "finished")


class Verdict(NamedTuple):
    """The state of a stage or of a task, and why."""

    state: str  # one of STATES
    note: str = ""
    requeued: int = 0


class Outcome(NamedTuple):
    """The end of the last attempt of a job."""

    status: int
    message: str


@dataclass(frozen=True)
class Evidence:
    """The facts known about one job or task."""

    folder: RunFolder
    name: str  # of the stage, or of a task as NAME.i
    finished: bool  # as the run's files say
    submitted: bool
    queued: Queued | None  # what the scheduler says; None: nothing
    reachable: bool  # whether the scheduler could be asked
    cancelled: bool = False  # by `lattice-flows cancel`
    blocker: str = ""  # why a stage that it needs did not finish

    def verdict(self) -> Verdict:
        """The state that follows from these facts, and why."""
        if self.finished:
            return Verdict("finished")
        if self.queued and self.queued.state != "ended":
            return Verdict(*self.queued)
        ended = read_outcome(self.folder, self.name)
        if self.cancelled and (ended is None or ended.status in (EXIT_STOPPED, _TERMINATED)):
            return Verdict("cancelled", f"{BY_YOU}: {ended.message}" if ended and ended.message else BY_YOU)
        if ended is not None:
            return self._of_outcome(ended)
        if not self.submitted:
            return Verdict("unsubmitted")
        if self.blocker:
            return Verdict("cancelled", f"because {self.blocker}")
        if not self.reachable:
            return Verdict("submitted")
        words = self.queued.words if self.queued else ""
        if words == "cancelled":
            return Verdict("stopped", "cancelled")
        last = last_words(log(self.folder, self.name))
        return Verdict("failed", "; ".join(filter(None, (words, last))) or "ended without a message")

    def _of_outcome(self, ended: Outcome) -> Verdict:
        if ended.status == 0:  # and yet not finished: the card asks for more by now
            return Verdict("unfinished", "submit again to continue")
        if ended.status == EXIT_STOPPED:
            return Verdict("stopped", ended.message)
        return Verdict("failed", ended.message or last_words(log(self.folder, self.name)))


def read_outcome(folder: RunFolder, name: str) -> Outcome | None:
    """The end of the job or task; None if it left no note, or none that can be read."""
    try:
        content = json.loads(read_text(outcome(folder, name)))
        return Outcome(int(content["status"]), str(content["message"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def last_words(path: Path) -> str:
    """The last line of a log, with the exit status if the script recorded one; empty if there is no log."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()] or [""]
    ended = _ENDED.search(said[-1])
    if ended and (killer := _signal(int(ended[1]))):
        memory = ", perhaps for lack of memory" if killer == "SIGKILL" else ""
        return f"killed by {killer} (status {ended[1]}){memory}"
    return f"{said[-2]} (status {ended[1]})" if ended and len(said) > 1 else said[-1]


def _signal(status: int) -> str:
    """The name of the signal that a shell's exit status stands for; empty if there is none."""
    try:
        return signal.Signals(status - 128).name
    except ValueError:
        return ""


def joined(verdicts: Sequence[Verdict]) -> str:
    """The state of an array: that of its tasks which comes first in STATES."""
    return min((verdict.state for verdict in verdicts), key=STATES.index)
