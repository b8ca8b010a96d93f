"""Kills real runs again and again, looks at what is left each time, and holds their ends against uninterrupted ones.

    python tests/stress/kill_runs.py --kills 120 --seed 1

Runs of cards, and single commands: export, import, measure, analyse. Each is the command line in a process of its own.
It is SIGKILLed at a random moment; or it kills itself at the k-th act on its files (open, write, fsync, rename, unlink,
...), before, after or half-way through it; or its power fails there, and with it goes what was not fsynced. After each
kill every ensemble must open, verify and hold what it held and what was reported committed; the next process goes on.
What is finished must be equal to the bit. To have hundreds of kills in minutes most processes are forks of this one,
which has imported everything; a few start afresh.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

from stress.board import Board
from stress.children import import_everything, wait
from stress.command_jobs import CommandJob
from stress.job import PATIENCE, Failure, Job
from stress.jobs import CARDS, JOBS
from stress.power import Cache
from stress.run_jobs import RunJob
from stress.sabotage import Saboteur

KINDS = ("random moment", "fresh process", "aimed kill", "power failure")
_WEIGHTS = (6, 1, 6, 6)
_START_UP = 4.0  # seconds that a fresh process takes to be at work
STALLED = 25  # kills of one run; then it is left to finish


def kill_once(job: Job, kind: str, rng: random.Random) -> str | None:
    """Run a step of the job until the kill; returns what the kill met, or None where it came to its end."""
    if kind in ("random moment", "fresh process"):
        afresh = kind == "fresh process"
        child, seconds = job.start_afresh() if afresh else job.start(job.out), rng.expovariate(1 / job.mean_seconds())
        status = wait(child, seconds + afresh * _START_UP)
        if status is None:
            return f"{'not told' if afresh else job.board.stage}: any"
        job.ended(status)
        return None
    aims, mean = job.aims(rng)
    aim, last = rng.choice(aims), 1 + int(rng.expovariate(1 / mean))
    when, seed = rng.choice(["before", "after", "half-way"]), rng.random()

    def prepare() -> None:
        cache = Cache(job.out, job.stash) if kind == "power failure" else None

        def tell(act: str) -> None:
            job.board.stage = f"{job.board.stage}: {act}"

        Saboteur(job.out, aim, last, when, cache, random.Random(seed), tell).install()

    status = wait(job.start(job.out, prepare), PATIENCE)
    if status is not None and os.WIFSIGNALED(status):
        return job.board.stage
    job.ended(status)
    return None


def stress(
    n_kills: int,
    seed: int,
    home: Path,
    names: tuple[str, ...] = JOBS,
    kinds: tuple[str, ...] = KINDS,
    report: Callable[[str], None] = print,
) -> Counter[tuple[str, str, str]]:
    """Kill the jobs in turn, n_kills times, and bring each of them to its end.

    Round k has the seed `seed + k`. Returns how often (kind, stage, act) was met. Raises Failure, or what a broken file
    raises.
    """
    met, jobs = Counter[tuple[str, str, str]](), Jobs(home, report)
    for k in itertools.count():
        if (before := met.total()) >= n_kills:
            return met
        job = jobs[names[k % len(names)]]
        kill_in_turn(job, min(n_kills, before + STALLED), kinds, random.Random(seed + k), met)
        report(f"{job.name}: {met.total() - before} kills, and the same to the bit; {met.total()} kills so far")


class Jobs(dict[str, Job]):
    """The jobs by their names. Each is done once without a kill when it is first asked for."""

    def __init__(self, home: Path, report: Callable[[str], None]) -> None:
        super().__init__()
        self._home, self._board, self._report = home, Board(), report

    def __missing__(self, name: str) -> Job:
        begun = time.monotonic()
        self[name] = job = (RunJob if name in CARDS else CommandJob)(name, self._home, self._board)
        self._report(f"{name}: {time.monotonic() - begun:.1f} s without a kill")
        return job


def kill_in_turn(
    job: Job, most: int, kinds: tuple[str, ...], rng: random.Random, met: Counter[tuple[str, str, str]]
) -> None:
    """Begin the job again, kill each of its steps until `most` kills were met in all, and compare its end."""
    job.fresh(job.out)
    for step in job.steps:
        job.step = step
        kill_till_the_end(job, most, kinds, rng, met)
    job.compare()


def kill_till_the_end(
    job: Job, most: int, kinds: tuple[str, ...], rng: random.Random, met: Counter[tuple[str, str, str]]
) -> None:
    """Kill the step until it ends before its kill, or `most` kills were met; then bring it to its end."""
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
        if job.is_done:
            break
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
    import_everything()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = given.keep or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        met = stress(given.kills, given.seed, home, tuple(given.jobs), tuple(given.kinds))
    print(table(met))
    print(f"{met.total()} kills in {time.monotonic() - begun:.0f} s; every finished run was the same to the bit")


if __name__ == "__main__":
    main()
