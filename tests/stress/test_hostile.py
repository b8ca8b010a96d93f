"""The short form of hostile.py, and that it sees what it looks for."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stress.edges import tried
from stress.hostile_runs import attempt
from stress.situations import SITUATIONS, Situation

from lattice_flows.errors import InputError

SECONDS = 6


def test_nothing_odd_ends_in_a_traceback_or_takes_a_byte(tmp_path: Path, seed: int) -> None:
    """A few of each sweep."""
    script, told = Path(__file__).with_name("hostile.py"), tmp_path / "tally.json"
    command = [sys.executable, str(script), "--seconds", str(SECONDS), "--seed", str(seed), "--json", str(told)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for sweep in json.loads(told.read_text()).values():
        assert sweep["tried"] > 0
        assert not any(sweep["faults"].values())


def _raise() -> None:
    raise RuntimeError("planted")


def _talk() -> None:
    print("lattice-flows: planted", file=sys.stderr)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


PLANTED: dict[str, Callable[[], None]] = {
    "traceback": _raise,
    "hang": lambda: time.sleep(60),
    "crash": _die,
    "complaint": _talk,
    "bytes lost": lambda: os.truncate("precious", 3),
    "left behind": lambda: Path("t.h5.0123abcd.tmp").mkdir(),
}


@pytest.mark.parametrize("fault", [*PLANTED, "none"])
def test_a_planted_fault_is_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stock := tmp_path / "stock").mkdir()
    (stock / "precious").write_text("all of it")
    plant = PLANTED.get(fault, lambda: None)
    monkeypatch.setitem(SITUATIONS, "planted", Situation(lambda place: place.within.append(plant)))
    monkeypatch.setattr("stress.hostile_runs._LIMIT", 10.0 if fault != "hang" else 0.5)
    _, faults = attempt("exact", ("planted",), random.Random(1), stock, tmp_path)
    assert [kind for kind, _ in faults] == ([fault] if fault != "none" else [])


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InputError("in one line"), None), (InputError("two\nlines"), "complaint"), (KeyError("x"), "traceback")],
)
def test_what_a_card_is_refused_with_is_looked_at(error: Exception, kind: str | None) -> None:
    def refuse() -> None:
        raise error

    _, fault = tried(refuse)
    assert (fault and fault[0]) == kind
