"""Training by the processes of a real torchrun, which gloo connects."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cards import assert_same_ensemble
from rich.console import Console
from trainings import PROGRAM, assert_same_training, history, loss_difference, torchrun, train_by_two

from lattice_flows.stages import train_stage
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint

SIGNALLED = Path(__file__).with_name("signalled_training.py")
STEPS = 40
CARD = f"""
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [8]
[training]
max_steps = {STEPS}
batch_size = 9  # so that two processes have unequal shares
monitor_every = 1
monitor_samples = 33
checkpoint_seconds = 1e-6  # whenever there may be one, every 10 steps
"""
# The samples are the same, and the sums over them are rounded differently: gradients in single precision, 6e-8, which
# the steps of the optimiser then follow. Of the loss that was 3e-8 at most in 60 steps.
ROUNDING = 1e-6


def signalled(rank: int, step: int, name: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Train on in the run folder `out`; this process gets this signal at this step."""
    for status in out.parent.glob("status.*"):
        status.unlink()
    return torchrun(SIGNALLED, str(rank), str(step), name, out, cwd=out.parent)


def statuses(home: Path) -> dict[str, str]:
    """What each process that ended by itself ended with."""
    return {path.suffix: path.read_text() for path in home.glob("status.*")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with card.toml, and two/: the run of two processes, without an interruption."""
    home = tmp_path_factory.mktemp("torchrun")
    (home / "card.toml").write_text(CARD)
    train_by_two(home / "card.toml", home / "two")
    return home


def begin(home: Path, name: str) -> Path:
    """A run folder with the card, and no training yet."""
    out = home / name
    (out / "ensembles").mkdir(parents=True)
    shutil.copy(home / "card.toml", out)
    return out


def train_alone(out: Path) -> None:
    train_stage(out, None, [], Console(quiet=True))


@pytest.fixture(scope="module")
def interrupted(home: Path) -> Path:
    """The run that one process of two was asked to stop at step 17, and its history until then."""
    out = begin(home, "interrupted")
    assert signalled(1, 17, "USR1", out).returncode != 0
    return out


def test_two_processes_train_as_one(home: Path) -> None:
    alone = begin(home, "alone")
    train_alone(alone)
    assert read_checkpoint(home / "two" / "flow" / CHECKPOINT_NAME).processes == 2
    assert len(history(home / "two")) == STEPS, "each step has one row: of two processes one writes"
    assert 0.0 < loss_difference(home / "two", alone) < ROUNDING


def test_a_signal_to_one_process_ends_both_with_a_checkpoint(interrupted: Path) -> None:
    assert statuses(interrupted.parent) == {".0": "75", ".1": "75"}
    held = read_checkpoint(interrupted / "flow" / CHECKPOINT_NAME)
    assert (held.step, held.reason) == (18, "")


def test_one_process_goes_on_where_two_stopped(home: Path, interrupted: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(interrupted, tmp_path / "alone")
    train_alone(alone)
    assert history(alone)[:18] == history(home / "two")[:18]
    assert 0.0 < loss_difference(home / "two", alone) < ROUNDING


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_all_and_nothing_is_lost(home: Path, interrupted: Path, lost: int, tmp_path: Path) -> None:
    out = shutil.copytree(interrupted, tmp_path / "run")
    ended = signalled(lost, 35, "KILL", out)
    assert ended.returncode == 1
    assert "another process of this training was lost; what was saved is sound" in ended.stderr
    assert read_checkpoint(out / "flow" / CHECKPOINT_NAME).step == 30
    if lost == 0:
        return
    assert torchrun("--no-python", PROGRAM, "train", out, cwd=tmp_path).returncode == 0
    assert_same_training(out, home / "two")
    assert_same_ensemble(out / "flow" / "evaluation.h5", home / "two" / "flow" / "evaluation.h5")
