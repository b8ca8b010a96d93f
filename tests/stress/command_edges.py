"""Every option of every command at its edges, and ensembles of accepted cards: forks that must end well, and soon."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import typer
from stress.children import forked, wait
from stress.edges import Attempt
from stress.place import COMMANDS
from stress.tally import end_of

from lattice_flows.cli import app

_LIMIT = 60.0  # seconds; then it counts as hanging
_TEXTS = ["", "0", "-1", "1", "2", "1000000000000", "1.5", "-0.0", "1e308", "5e-324", "inf", "nan", f"1{400 * '0'}"]
_TEXTS += [
    "true",
    "x",
    "auto",
    "=",
    "beta=",
    "=1",
    "beta=1",
    "beta=nan",
    "beta=inf",
    "beta=1e308",
    "beta=-1",
    "beta=1,2",
]
_TEXTS += ["theory.beta=2", "0/0", "0/1", "1/1", "-1/2", "0/1000000", "hmc", "hot", "x = 1", "x = plaquette"]
_TEXTS += ["x = 1/0", "x = plaquette/0", "x = exp(1e308)", "plaquette = 1", f"x = {500 * '('}", f"x = {5000 * '-'}1"]
_TEXTS += ["x = plaquette**plaquette**1e9", "wilson_loop r=1 t=1", "config,chain,mu,x0,x1", "a\nb", "\x1b[31m"]
_TEXTS += ["[bold]$x_{", 5000 * "x", "..", "/dev/null", "u1", "xy"]
_ENDLESS = {"watch": ["--once"]}  # what lets a command end by itself


def calls(rng: random.Random) -> list[tuple[str, ...]]:
    """Arguments of all commands, each with one option at an edge, in random order."""
    found = []
    for name, option in _options():
        bases = [list(one.arguments) for one in COMMANDS.values() if one.arguments[0] == name] or [[name, "run"]]
        for text in _TEXTS:
            found.append((*rng.choice(bases), *(part.replace("EDGE", text) for part in option)))
    rng.shuffle(found)
    return found


def _options() -> Iterator[tuple[str, list[str]]]:
    """Names of commands, and an option of each with EDGE where its value stands; or a further argument."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                yield name, ["--", "EDGE"] if name not in _ENDLESS else [*_ENDLESS[name], "EDGE"]
            elif "--help" not in parameter.opts:
                yield name, [*_ENDLESS.get(name, []), f"{parameter.opts[0]}=EDGE"]


def try_call(arguments: tuple[str, ...], stock: Path, home: Path) -> tuple[str, tuple[str, str] | None]:
    """How the call ended in a folder with one of everything, and the kind of fault and its words."""
    folder = home / "place"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stock, folder)
    status, stderr = _run(list(arguments), folder, home)
    return end_of(status, stderr)


def try_chain(attempt: Attempt, home: Path) -> tuple[str, tuple[str, str] | None]:
    """How two configurations of the card's ensemble ended."""
    folder = home / "place"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "card.toml").write_text(attempt.card)
    status, stderr = _run(["sample", "card.toml", "--out", "t", f"--set={attempt.override}"], folder, home)
    return end_of(status, stderr)


def _run(arguments: list[str], folder: Path, home: Path) -> tuple[int | None, str]:
    child = forked(arguments, home / "stdout", home / "stderr", lambda: os.chdir(folder))
    status = wait(child, _LIMIT)
    return status, (home / "stderr").read_bytes().decode(errors="replace")
