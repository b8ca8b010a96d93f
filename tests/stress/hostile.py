"""Everything odd that a command can be given, and kills: nothing may be lost, wait for ever, or end in a traceback.

    python tests/stress/hostile.py [options|runs|kills]... --seconds 1200 --seed 1

options   values at their edges: every key of every theory, flow, sampler, objective and observable of a card, read in
          this process; two configurations of some that were accepted; every option of every command
runs      commands that meet odd files, targets, surroundings, variables and names, or two of these at once
kills     of runs, trainings, export, import, measure and `analyse --report`, see kill_runs.py

A command must end in time, with a status of its own and one line where it did not do what it was asked; no file that
was there may have changed, unless the command is there to extend it. Each fault is printed with the call that repeats
it. The sweeps share the seconds, and end earlier where all was tried, or --most; a table and a JSON file are the end.
"""

import argparse
import itertools
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

from stress import command_edges, edges, kill_runs
from stress.children import import_everything
from stress.hostile_runs import hostile_runs
from stress.jobs import CARDS, COMMANDS
from stress.place import make_stock
from stress.tally import Tally, table, write_json

Item = TypeVar("Item")

_MEMORY = 12 << 30  # bytes of address space: a large array is an error, and not the end of the machine
_SMALL = 1 << 14  # numbers of a configuration, and
_SHORT = 100  # updates or configurations of a chain that is tried
_LONG = {"flow"}  # a job that takes long; another one trains, too
_KINDS = tuple(kind for kind in kill_runs.KINDS if kind != "fresh process")  # which takes seconds to start


def options(tally: Tally, seed: int, home: Path, seconds: float, most: int | None, only: str) -> None:
    """Cards at the edges, chains of those that were accepted, commands at the edges."""
    rng, again = random.Random(seed), f"python tests/stress/hostile.py options --seed {seed} --only"
    accepted = []
    for attempt in _in_time(0.3 * seconds, edges.attempts(rng), most):
        if only in attempt.label:
            end, fault = edges.tried(lambda attempt=attempt: edges.read(attempt))  # type: ignore[misc]
            _note(tally, f"card {end}", fault, attempt.label, f"{again} {attempt.label!r}")
            if end == "accepted" and _is_short(attempt):
                accepted.append(attempt)
    rng.shuffle(accepted)
    for attempt in _in_time(0.4 * seconds, accepted, most):
        end, fault = command_edges.try_chain(attempt, home)
        _note(tally, f"chain {end}", fault, f"two configurations: {attempt.label}", f"{again} {attempt.label!r}")
    for call in _in_time(0.3 * seconds, command_edges.calls(rng), most):
        label = " ".join(call)[:300]
        if only in label:
            end, fault = command_edges.try_call(call, home / "stock", home)
            _note(tally, f"call {end}", fault, repr(label), f"{again} {label!r}")


def _is_short(attempt: edges.Attempt) -> bool:
    """Whether its chains are a matter of seconds, and need no training."""
    card = edges.parse_card(attempt.card, [attempt.override])
    lengths = [n for one in card.ensembles for n in (one.n_configs, one.n_thermalisation, one.n_updates, one.n_chains)]
    small = math.prod(card.theory.action.event_shape(card.theory.shape)) <= _SMALL
    return bool(lengths) and max(lengths) <= _SHORT and small and not any(one.needs_flow for one in card.ensembles)


def _in_time(seconds: float, items: Iterable[Item], most: int | None) -> Iterator[Item]:
    deadline = time.monotonic() + seconds
    for item in itertools.islice(items, most):
        if time.monotonic() > deadline:
            return
        yield item


def _note(tally: Tally, end: str, fault: tuple[str, str] | None, what: str, again: str) -> None:
    tally.ends[end] += 1
    if fault:
        tally.fault(fault[0], what, fault[1], again)


def runs(tally: Tally, seed: int, home: Path, seconds: float, most: int | None, only: str) -> None:
    """Commands in odd situations."""
    hostile_runs(tally, seed, home / "stock", home, seconds, most, only)


def kills(tally: Tally, seed: int, home: Path, seconds: float, most: int | None, only: str) -> None:
    """Jobs in turn, the short ones first; each is brought to its end now and then."""
    deadline, met = time.monotonic() + seconds, Counter[tuple[str, str, str]]()
    (folder := home / "kills").mkdir()
    jobs = kill_runs.Jobs(folder, lambda line: None)
    names = [name for name in (*COMMANDS, *CARDS) if only in name and name not in _LONG]
    for k in itertools.count():
        if time.monotonic() > deadline or (most is not None and met.total() >= most):
            break
        name, enough = names[k % len(names)], met.total() + kill_runs.STALLED
        try:
            kill_runs.kill_in_turn(jobs[name], enough, _KINDS, random.Random(seed + k), met)
        except Exception as failure:  # a file that cannot be read any more raises whatever it does
            again = f"python tests/stress/kill_runs.py --jobs {name!r} --seed {seed + k} --kills {kill_runs.STALLED}"
            tally.fault("bytes lost", name, f"{type(failure).__name__}: {failure}", again)
    for (_, stage, _), n in met.items():
        tally.ends[f"kill in {stage}"] += n
    print(kill_runs.table(met))


SWEEPS: dict[str, tuple[float, Callable[[Tally, int, Path, float, int | None, str], None]]] = {
    "options": (0.2, options),
    "runs": (0.35, runs),
    "kills": (0.45, kills),
}
"""With their shares of the time."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything odd that a command can be given, and kills; with a tally.")
    parser.add_argument("sweeps", nargs="*", metavar="options|runs|kills", help="All where none is named.")
    parser.add_argument("--seconds", type=float, default=1200.0, help="Of all sweeps together, beside the preparation.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, help="Attempts of each part of a sweep.")
    parser.add_argument("--only", default="", help="Only what has this in its name; a fault says what repeats it.")
    parser.add_argument("--json", type=Path, default=Path("hostile.json"), help="The tally.")
    given = parser.parse_args()
    names = given.sweeps or list(SWEEPS)
    if unknown := set(names) - SWEEPS.keys():
        parser.error(f"no such sweep: {', '.join(sorted(unknown))}")
    import_everything()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    tallies, shares = [], sum(SWEEPS[name][0] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)  # for the user who may only read
        begun = time.monotonic()
        make_stock(home / "stock")
        print(f"{time.monotonic() - begun:.0f} s of preparation", flush=True)
        for name in names:
            share, sweep = SWEEPS[name]
            tallies.append(Tally(name))
            begun = time.monotonic()
            sweep(tallies[-1], given.seed, home, given.seconds * share / shares, given.most, given.only)
            tallies[-1].seconds = time.monotonic() - begun
    print(table(tallies))
    write_json(given.json, tallies)
    sys.exit(any(one.faults for one in tallies))


if __name__ == "__main__":
    main()
