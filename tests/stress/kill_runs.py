"""Kills real runs again and again, looks at what is left each time, and holds their ends against uninterrupted ones.

    python tests/stress/kill_runs.py --kills 120 --seed 1

Each run is the command line in a process of its own. It is SIGKILLed at a random moment; or it kills itself at the
k-th act on its files (open, write, fsync, rename, unlink, ...), before, after or half-way through it; or its power
fails there, and with it goes what was not fsynced. After each kill every ensemble must open, verify and hold what it
held and what was reported committed; the next process goes on. A finished run must be equal to the bit. To have
hundreds of kills in minutes most processes are forks of this one, which has imported everything; a few start afresh.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

# All imports come before the first fork, so that a child is at work at once. The parent runs no compiled kernel: the
# threads of one do not survive a fork.
import pytest
from cards import assert_same_ensemble, environment, set_pace
from stress.board import Board
from stress.jobs import JOBS, SHORTER, WITHOUT_FIGURES
from stress.power import Cache
from stress.sabotage import Saboteur

import lattice_flows.report
import lattice_flows.stages
from lattice_flows.cli import main as command_line
from lattice_flows.ensembles import Ensemble
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, read_checkpoint, read_history

KINDS = ("random moment", "fresh process", "aimed kill", "power failure")
_WEIGHTS = (6, 1, 6, 6)
_AIMS = ("", "", "", ".segments", ".segments", ".h5.", ".lock")
_AIMS_OF_THE_START = ("card", "overrides")
_AIMS_OF_TRAINING = ("checkpoint", "checkpoint", "history")
_ACTS = 12.0  # on the average, before an aimed kill
_SECONDS = 1.0  # on the average, before a kill at a random moment
_START_UP = 4.0  # seconds that a fresh process takes to be at work
_PATIENCE = 300.0  # seconds for a run to its end
_STALLED = 25  # kills of one run; then it is left to finish


class Failure(AssertionError):
    """What a kill has broken."""


class Job:
    """One card, run to its end once without a kill, and then with them."""

    def __init__(self, name: str, home: Path, board: Board) -> None:
        self.name, self.home, self.board = name, home / name, board
        self.card, self.out, self.stash = self.home / "card.toml", self.home / "out", self.home / "stash"
        self.home.mkdir()
        self.card.write_text(JOBS[name])
        self.overrides: list[str] = []
        self.held: dict[Path, int] = {}
        self.step = 0
        self.finish(self.home / "reference")

    def fresh(self) -> None:
        """An empty folder to begin again."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.held, self.step = {}, 0

    def start(self, out: Path, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork a process that runs the card; returns its id."""
        self.board.clear()
        shutil.rmtree(self.stash, ignore_errors=True)
        self.stash.mkdir()
        if child := os.fork():
            return child
        status = 1
        try:
            with (self.home / "stdout").open("w") as stdout, redirect_stdout(stdout):
                sys.stderr = (self.home / "stderr").open("w")
                self.board.watch()
                # Commits as often as blocks, and blocks as small as can be: then a kill meets one soon.
                set_pace(pytest.MonkeyPatch(), block_seconds=0.002, commit_seconds=0.02)
                if self.name in WITHOUT_FIGURES:
                    lattice_flows.stages.write_report = lambda *arguments: None
                prepare()
                sys.argv = ["lattice-flows", *self._arguments(out)]
                command_line()
        except SystemExit as ended:
            status = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _arguments(self, out: Path) -> list[str]:
        return ["run", str(self.card), "--out", str(out), *(f"--set={override}" for override in self.overrides)]

    def start_afresh(self) -> int:
        """As `start`, in a process that shares nothing with this one."""
        self.board.clear()
        command = [sys.executable, "-m", "lattice_flows.cli", *self._arguments(self.out)]
        with (self.home / "stderr").open("w") as stderr:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment()).pid

    def finish(self, out: Path) -> None:
        """Run to the end."""
        child = self.start(out)
        self.ended(wait(child, _PATIENCE))

    def ended(self, status: int | None) -> None:
        """Raises Failure unless the process ended well by itself."""
        if status is None:
            raise Failure(f"{self.name}: does not come to its end in {_PATIENCE} s; at {self.board.stage}")
        if code := os.waitstatus_to_exitcode(status):
            raise Failure(f"{self.name}: ended with {code}: {(self.home / 'stderr').read_text()}")

    def check(self) -> None:
        """Raises Failure unless all that was committed is there, opens and verifies."""
        committed = self.board.committed
        for path in ensembles(self.out) | self.held.keys():
            wanted = self.held.get(path, 0)
            if committed and committed[0] == path:
                wanted = max(wanted, committed[1])
            self.held[path] = holds(path)
            if self.held[path] < wanted:
                raise Failure(f"{path}: {wanted} configurations were committed, {self.held[path]} are left")
        if committed and committed[0] not in self.held:
            raise Failure(f"{committed[0]}: was committed to, and is gone")
        checkpoint = self.out / "flow" / CHECKPOINT_NAME
        step = read_checkpoint(checkpoint).step if checkpoint.exists() else 0
        if step < self.step:
            raise Failure(f"{checkpoint}: was at step {self.step}, is at {step}")
        self.step = step

    def compare(self) -> None:
        """Raises Failure unless the run is equal to the one that was never interrupted."""
        reference = self.home / "reference"
        for path in sorted(ensembles(reference)):
            assert_same_ensemble(path, self.out / path.relative_to(reference))
        if (reference / "flow").exists():
            one, other = (folder / "flow" for folder in (reference, self.out))
            first, second = (read_checkpoint(folder / CHECKPOINT_NAME) for folder in (one, other))
            if any(not first.average[name].equal(second.average[name]) for name in first.average):
                raise Failure(f"{self.name}: trained other weights")
            rows = [[(r.step, r.loss, r.ess) for r in read_history(folder / HISTORY_NAME)] for folder in (one, other)]
            if rows[0] != rows[1]:
                raise Failure(f"{self.name}: has another history of the training")
        if left := [path for path in self.out.rglob("*") if path.suffix in (".tmp", ".segments")]:
            raise Failure(f"{self.name}: left behind {left}")


def ensembles(out: Path) -> set[Path]:
    """The paths NAME.h5 of everything in a run's folder that was ever committed."""
    found = {path.with_suffix(".h5") for path in out.rglob("*") if path.suffix in (".h5", ".segments")}
    return {path for path in found if path.parent.suffix != ".segments" and Ensemble.exists(path)}


def holds(path: Path) -> int:
    """The number of configurations, once every byte was checked."""
    if not Ensemble.exists(path):
        return 0
    with Ensemble.open(path) as ensemble:
        ensemble.verify()
        ensemble.state()
        return ensemble.n_configs


def wait(child: int, seconds: float) -> int | None:
    """The status of the child, or None where it was still at work and has been killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else status


def kill_once(job: Job, kind: str, rng: random.Random) -> str | None:
    """Run the job until the kill; returns what the kill met, or None where the run came to its end before it."""
    if kind in ("random moment", "fresh process"):
        afresh = kind == "fresh process"
        child, seconds = job.start_afresh() if afresh else job.start(job.out), rng.expovariate(1 / _SECONDS)
        status = wait(child, seconds + afresh * _START_UP)
        if status is None:
            return f"{'not told' if afresh else job.board.stage}: any"
        job.ended(status)
        return None
    mean, training = _ACTS, "[flow]" in JOBS[job.name] and not ensembles(job.out)
    aims = _AIMS_OF_TRAINING if training and rng.random() < 0.5 else _AIMS
    if not (job.out / "card.toml").exists():
        aims, mean = _AIMS_OF_THE_START[: 1 + bool(job.overrides)], 2.0
    aim, last = rng.choice(aims), 1 + int(rng.expovariate(1 / mean))
    when, seed = rng.choice(["before", "after", "half-way"]), rng.random()

    def prepare() -> None:
        cache = Cache(job.out, job.stash) if kind == "power failure" else None

        def tell(act: str) -> None:
            job.board.stage = f"{job.board.stage}: {act}"

        Saboteur(job.out, aim, last, when, cache, random.Random(seed), tell).install()

    status = wait(job.start(job.out, prepare), _PATIENCE)
    if status is not None and os.WIFSIGNALED(status):
        return job.board.stage
    job.ended(status)
    return None


def stress(
    n_kills: int,
    seed: int,
    home: Path,
    names: tuple[str, ...] = tuple(JOBS),
    kinds: tuple[str, ...] = KINDS,
    report: Callable[[str], None] = print,
) -> Counter[tuple[str, str, str]]:
    """Kill the runs of these cards in turn, n_kills times, and bring each of them to its end.

    Returns how often (kind, stage, act) was met. Raises Failure, or what a broken file raises.
    """
    rng, board, met = random.Random(seed), Board(), Counter()
    jobs = []
    for name in names:
        begun = time.monotonic()
        jobs.append(Job(name, home, board))
        report(f"{name}: {time.monotonic() - begun:.1f} s without a kill")
    finished = Counter[str]()
    while met.total() < n_kills:
        job = jobs[finished.total() % len(jobs)]
        job.fresh()
        before = met.total()
        for overrides in SHORTER.get(job.name, []), []:  # first a shorter run, then its extension
            job.overrides = overrides
            kill_till_the_end(job, min(n_kills, met.total() + _STALLED), kinds, rng, met)
        job.compare()
        finished[job.name] += 1
        report(f"{job.name}: {met.total() - before} kills, and the same to the bit; {met.total()} kills so far")
    return met


def kill_till_the_end(
    job: Job, most: int, kinds: tuple[str, ...], rng: random.Random, met: Counter[tuple[str, str, str]]
) -> None:
    """Kill the run until it ends before its kill, or `most` kills were met; then bring it to its end."""
    while met.total() < most:
        (kind,) = rng.choices(kinds, [_WEIGHTS[KINDS.index(kind)] for kind in kinds])
        found = kill_once(job, kind, rng)
        if found is None:
            return
        stage, _, act = found.partition(": ")
        met[kind, stage, act] += 1
        try:
            job.check()
        except Exception as error:
            raise Failure(f"after a {kind} at {found} in {job.name}: {error}") from error
    job.finish(job.out)


def table(met: Counter[tuple[str, str, str]]) -> str:
    """Stages down, kinds across; then the acts that were aimed at."""
    stages = sorted({stage for _, stage, _ in met})
    lines = [f"{'':24}" + "".join(f"{kind:>16}" for kind in KINDS)]
    for stage in stages:
        counts = [sum(n for (k, s, _), n in met.items() if (k, s) == (kind, stage)) for kind in KINDS]
        lines.append(f"{stage:24}" + "".join(f"{n:16d}" for n in counts))
    totals = [sum(n for (k, _, _), n in met.items() if k == kind) for kind in KINDS]
    lines.append(f"{'all':24}" + "".join(f"{n:16d}" for n in totals))
    acts = Counter[str]()
    for (_, _, act), n in met.items():
        acts[act] += n
    del acts["any"]
    lines.append("aimed at: " + ", ".join(f"{act} {n}" for act, n in sorted(acts.items())))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill real runs and hold their ends against uninterrupted ones.")
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--keep", type=Path, help="Work here and keep all files; a temporary folder where absent.")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = given.keep or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        met = stress(given.kills, given.seed, home, tuple(given.jobs), tuple(given.kinds))
    print(table(met))
    print(f"{met.total()} kills in {time.monotonic() - begun:.0f} s; every finished run was the same to the bit")


if __name__ == "__main__":
    main()
