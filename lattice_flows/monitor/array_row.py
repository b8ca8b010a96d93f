"""The live state of a job array in one row, however many tasks it has."""

import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from lattice_flows.card.budget import is_complete
from lattice_flows.card.card import EnsembleTable
from lattice_flows.ensembles import EnsembleError
from lattice_flows.ensembles.extent import glance
from lattice_flows.ensembles.layout import segment_numbers, segment_path
from lattice_flows.monitor.lock_holder import writer_of
from lattice_flows.monitor.screen import Row, count
from lattice_flows.production.job_array import parse_task
from lattice_flows.production.run_folder import RunFolder

COMMITS = 10  # the last looks that saw something new, which the rate is taken from

Commit = tuple[Path, float]


def last_commit(path: Path) -> Commit | None:
    """The newest file of the ensemble and its time, or None."""
    try:
        numbers = segment_numbers(path)
        newest = segment_path(path, numbers[-1]) if numbers else path
        return newest, newest.stat().st_mtime
    except FileNotFoundError:  # nothing yet, or joined while we looked
        return (path, path.stat().st_mtime) if path.exists() else None


class _Held(NamedTuple):
    """The progress of one task's file at a commit."""

    commit: Commit
    n_configs: int  # of all its chains
    finished: bool
    n_tasks: int
    error: str = ""


class WatchedArray:
    """All tasks of one ensemble. A file is opened only after a new commit, and none of its series is read."""

    def __init__(self, run: RunFolder, table: EnsembleTable) -> None:
        self.run, self.table = run, table
        self._held: dict[int, _Held] = {}
        self._seen: deque[tuple[float, int]] = deque(maxlen=COMMITS)  # time and configurations

    def row(self) -> Row:
        """The present state of the array."""
        indices = self.run.tasks(self.table.name)
        n_running = sum(self._is_running(index) for index in indices)  # before the files: what ends then is finished
        self._look(indices)
        held = self._held.values()
        done, total = sum(one.n_configs for one in held), self.table.n_configs * self.table.n_chains
        is_timed = self.table.max_seconds is not None
        n_tasks = max((one.n_tasks for one in held), default=0)
        n_finished = sum(one.finished for one in held)
        state = "finished" if 0 < n_tasks == n_finished else "running" if n_running else "interrupted"
        errors = [one.error for one in held if one.error]
        rate = self._rate() if state == "running" else None
        return Row(
            name=self.table.name,
            kind=self.table.sampler,
            state="broken" if errors else state,
            fraction=n_finished / max(n_tasks, 1) if is_timed else min(1.0, done / total),
            progress=count(done) if is_timed else f"{count(done)}/{count(total)}",
            age=time.time() - max((one.commit[1] for one in held), default=time.time()),
            rate=rate,
            seconds_left=max(0, total - done) / rate if rate and not is_timed else None,
            figures=(f"{n_finished}/{n_tasks} tasks", f"{n_running} running" if n_running else ""),
            note=errors[0] if errors else "",
        )

    def _is_running(self, index: int) -> bool:
        writer = writer_of(self.run.task(self.table.name, index).with_suffix(".lock"))
        return writer is not None and not writer.gone

    def _look(self, indices: list[int]) -> None:
        """Read the progress of tasks that have committed since the last look."""
        found: dict[int, _Held] = {}
        for index in indices:
            path = self.run.task(self.table.name, index)
            commit, known = last_commit(path), self._held.get(index)
            if known is not None and (known.commit == commit or commit is None):
                found[index] = known
            elif commit is not None:
                found[index] = self._read(path, commit, known)
        if found != self._held:
            self._seen.append((time.time(), sum(one.n_configs for one in found.values())))
        self._held = found

    def _read(self, path: Path, commit: Commit, known: _Held | None) -> _Held:
        try:
            found = glance(path)
            finished = is_complete(found, self.table)
            return _Held(commit, found.n_configs * len(found.chains), finished, parse_task(found.task or "0/1").count)
        except EnsembleError as error:
            if last_commit(path) != commit and known is not None:  # joined while it was read: seen at the next look
                return known
            return _Held(commit, 0, False, 0, f"{path.name}: {error}")

    def _rate(self) -> float | None:
        """Configurations per second of all tasks together, between the looks that saw something new."""
        if len(self._seen) < 2:
            return None
        (first, n_first), (last, n_last) = self._seen[0], self._seen[-1]
        return (n_last - n_first) / (last - first) if last > first and n_last > n_first else None
