"""Trainings by several processes, and what must be equal, to the bit or to rounding, of two of one card."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cards import environment

from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, read_checkpoint, read_history

PROGRAM = Path(sys.executable).with_name("lattice-flows")
_OF_THE_CLOCK = ("train_seconds", "seconds")


def torchrun(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes of this command, which gloo connects; what they print is shown where the test fails."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, *map(str, command)], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=400
    )
    print(done.stdout, done.stderr)
    return done


def train_by_two(card: Path, out: Path) -> None:
    """The training of the card, in the run folder `out`."""
    assert torchrun("--no-python", PROGRAM, "train", card, "--out", out, cwd=card.parent).returncode == 0


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors and numbers in nested tables and lists, by their path."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{name}/{key}")
    else:
        yield name, value


def checkpoint_leaves(run: Path) -> dict[str, Any]:
    """All that the checkpoint of a run folder holds but the clock."""
    content = asdict(read_checkpoint(run / "flow" / CHECKPOINT_NAME))
    return dict(leaves({name: value for name, value in content.items() if name not in _OF_THE_CLOCK}))


def history(run: Path) -> list[dict[str, Any]]:
    """The rows of history.csv without the column of seconds."""
    rows = [asdict(record) for record in read_history(run / "flow" / HISTORY_NAME)]
    return [{name: value for name, value in row.items() if name not in _OF_THE_CLOCK} for row in rows]


def assert_same_training(one: Path, other: Path) -> None:
    """Two run folders hold the same training, to the bit."""
    first, second = checkpoint_leaves(one), checkpoint_leaves(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = value.equal(second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        assert same, f"{name} of the checkpoint: {value} and {second[name]}"
    assert history(one) == history(other)


def loss_difference(one: Path, other: Path) -> float:
    """The largest relative difference of two loss curves that have a row for the same steps."""
    first, second = history(one), history(other)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    return max(abs(a["loss"] / b["loss"] - 1.0) for a, b in zip(first, second))
