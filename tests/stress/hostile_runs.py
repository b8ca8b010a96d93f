"""Hostile runs: a command in a situation, how it ends, and whether everything that was there is still there."""

import fcntl
import hashlib
import itertools
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cards import environment
from stress.children import forked, wait
from stress.place import COMMANDS, Place, holds
from stress.run_jobs import ensembles
from stress.situations import SITUATIONS, Situation
from stress.tally import FAILED, Tally, end_of

_LIMIT = 30.0  # seconds; then it counts as hanging
_LIMIT_OF_KERNELS = 120.0  # which a first call may have to compile
_MOST_WORDS = 1 << 20  # bytes on standard error
_TWICE = 0.15  # of the runs meet two situations at once
_SHARE_AFRESH = 0.04  # of the runs are processes of their own, which take ten times as long


def hostile_runs(
    tally: Tally, seed: int, stock: Path, home: Path, seconds: float, most: int | None = None, only: str = ""
) -> None:
    """Try commands in situations until the time is over, or so many were tried. `only`: a part of their names."""
    deadline = time.monotonic() + seconds
    for command, names, number in itertools.islice(chosen(seed, only), most):
        if time.monotonic() > deadline:
            return
        label = f"{command} | {' + '.join(names)}"
        again = f"python tests/stress/hostile.py runs --seed {seed} --only {label + f' | {number}'!r}"
        end, faults = attempt(command, names, random.Random(f"{seed} {label} {number}"), stock, home)
        tally.ends[end] += 1
        for kind, told in faults:
            tally.fault(kind, label, told, again)


def chosen(seed: int, only: str = "") -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Commands, the situations of each, and how often the pair came before; without end, unless `only` names one."""
    if only.count("|") == 2:
        command, names, number = (part.strip() for part in only.split("|"))
        yield command, tuple(names.split(" + ")), int(number)
        return
    rng, met = random.Random(seed), dict[tuple[str, tuple[str, ...]], int]()
    pairs = [(command, name) for command in COMMANDS for name in SITUATIONS if applies(command, SITUATIONS[name])]
    pairs = [(command, name) for command, name in pairs if only in f"{command} | {name}"]
    weights = [COMMANDS[command].weight * SITUATIONS[name].weight for command, name in pairs]
    afresh = [SITUATIONS[name].afresh for _, name in pairs]
    if 0 < (n := sum(afresh)) < len(pairs):
        share = _SHARE_AFRESH / (1 - _SHARE_AFRESH) * sum(w for w, new in zip(weights, afresh) if not new) / n
        weights = [share if new else weight for weight, new in zip(weights, afresh)]
    while pairs:
        ((command, name),) = rng.choices(pairs, weights)
        names = (name,)
        if rng.random() < _TWICE:
            other = rng.choice(sorted(SITUATIONS))
            names = (name, other) if other != name and applies(command, SITUATIONS[other]) else names
        met[command, names] = met.get((command, names), -1) + 1
        yield command, names, met[command, names]


def applies(command: str, situation: Situation) -> bool:
    """Whether the command can meet the situation."""
    called = COMMANDS[command]
    if situation.of and not getattr(called, situation.of):
        return False
    return called.subject.endswith(situation.suffix)


def attempt(
    command: str, names: tuple[str, ...], rng: random.Random, stock: Path, home: Path
) -> tuple[str, list[tuple[str, str]]]:
    """Run the command in these situations; returns how it ended, and the faults."""
    folder = home / "place"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stock, folder, symlinks=True)
    place = Place(folder, COMMANDS[command], rng)
    for name in names:
        try:
            SITUATIONS[name].prepare(place)
        except OSError:  # the situation before it has left nothing that could be changed
            continue
    before, held = snapshot(place.folder), _held(place)
    try:
        status, stderr = _run(place, home, any(SITUATIONS[name].afresh for name in names))
    except PermissionError:  # another user, who may not run this Python
        return "not possible here", []
    end, fault = end_of(status, stderr, place.is_heard)
    if "nobody" in names and fault and "ModuleNotFoundError" in fault[1]:  # the same, of a part that is loaded late
        return "not possible here", []
    is_answer = place.command.answers and end == FAILED and not stderr
    faults = [fault] if fault and not is_answer else []
    lost, now = _lost(place, before), _held(place)
    lost += [f"{path} held {n} configurations" for path, n in held.items() if (now.get(path) or 0) < (n or 0)]
    if lost:
        faults.append(("bytes lost", "; ".join(lost)[:400]))
    new = snapshot(place.folder).keys() - before.keys()
    if end != "hang" and (left := sorted(path for path in new if path.endswith(".tmp"))):
        faults.append(("left behind", ", ".join(left)[:400]))
    for last in place.after:
        last()
    return end, [(kind, f"{told} <- {' '.join(place.arguments)} {place.environment or ''}") for kind, told in faults]


def _held(place: Place) -> dict[str, int | None]:
    """The configurations of the files that the command may change."""
    found = {}
    for path in (place.folder / path for path in place.changes):
        with suppress(OSError):  # a pipe, or a cycle of links
            found |= {str(one): holds(one) for one in (ensembles(path) if path.is_dir() else [path])}
    return found


def _run(place: Place, home: Path, afresh: bool) -> tuple[int | None, str]:
    """The status of the process, None if it had to be killed; and what it wrote to standard error."""
    stdout, stderr = home / "stdout", home / "stderr of a run"
    if not stderr.exists():
        os.mkfifo(stderr)  # which no limit of a file's size is for
    reader = os.open(stderr, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _MOST_WORDS)

    def within() -> None:
        os.chdir(place.folder)
        for name, value in place.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for one in place.within:
            one()

    limit = _LIMIT_OF_KERNELS if place.command.kernels or afresh else _LIMIT
    try:
        if afresh:
            child = _afresh(place, stdout, reader, within)
        else:
            child = forked(place.arguments, stdout, stderr, within)
        return wait(child, limit), _said(reader)
    finally:
        os.close(reader)


def _afresh(place: Place, stdout: Path, stderr: int, within: Callable[[], None]) -> int:
    """The id of a process that shares nothing with this one."""
    variables = {**environment(), **place.environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    command = [sys.executable, "-m", "lattice_flows.cli", *place.arguments]
    with stdout.open("wb") as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=stderr, stdin=subprocess.DEVNULL, env=variables, preexec_fn=within
        )
    child.returncode = 0  # it will be waited for, but not by this object
    return child.pid


def _said(reader: int) -> str:
    pieces = []
    with suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 16):
            pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")


def snapshot(folder: Path) -> dict[str, str]:
    """Everything in the folder: what it is, and a checksum of its bytes."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        name = os.fsdecode(os.fsencode(path.relative_to(folder)))
        if stat.S_ISLNK(mode):
            found[name] = f"a link to {os.readlink(path)}"
        elif stat.S_ISREG(mode):
            found[name] = _digest(path)
        else:
            found[name] = oct(stat.S_IFMT(mode))
    return found


def _digest(path: Path) -> str:
    if path.stat().st_size > 1 << 30:  # it has holes
        return f"{path.stat().st_size} bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lost(place: Place, before: dict[str, str]) -> list[str]:
    """What is gone, or has changed and may not."""
    now = snapshot(place.folder)
    return [
        f"{path}: {'has changed' if path in now else 'is gone'}"
        for path, what in before.items()
        if now.get(path) != what and not path.startswith((*place.changes, "\0"))
    ]
