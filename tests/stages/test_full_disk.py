"""A disk of 3 MiB that fills up: one line, nothing committed is lost, and the run goes on once there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cards import CLASSICAL, WITH_FLOW, assert_same_ensemble, environment, set_pace

from lattice_flows.ensembles import Ensemble
from lattice_flows.exit_status import EXIT_FAILURE
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.training import CHECKPOINT_NAME, load_flow_weights

TRAINING = WITH_FLOW.replace("max_steps = 120", "max_steps = 20").replace("monitor_every = 40", "monitor_every = 5")
TRAINING = TRAINING.replace("checkpoint_seconds = 0.5", "checkpoint_seconds = 0.001")
TUNED = "ensemble.hmc.n_md_steps=4"


class Disk:
    """A small file system, and a file on it that takes the room that is not to be left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def leave(self, n_bytes: int) -> None:
        """Leave so much room, in whole pages."""
        self.make_room()
        status = os.statvfs(self.path)
        with self.ballast.open("wb") as file:
            file.write(bytes(max(0, status.f_bavail * status.f_frsize - n_bytes)))

    def make_room(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs, which takes root or `unshare -rm`: {done.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def told(result: tuple[int, str, str]) -> str:
    """The one line in which the run ended."""
    status, _, errors = result
    assert status == EXIT_FAILURE, result
    (line,) = errors.strip().splitlines()
    assert line.startswith("lattice-flows: ")
    assert "No space left on device" in line
    return line


def assert_whole(out: RunFolder) -> int:
    """Every ensemble opens and verifies; returns how many there are."""
    paths = {path.with_suffix(".h5") for path in out.path.rglob("*") if path.suffix in (".h5", ".segments")}
    held = [path for path in paths if path.parent.suffix != ".segments" and Ensemble.exists(path)]
    for path in held:
        with Ensemble.open(path) as ensemble:
            assert ensemble.verify()
    assert not list(out.path.rglob("*.tmp"))
    return len(held)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The classical run on a disk with room, sampled without a report."""
    from rich.console import Console

    from lattice_flows.stages import sample_stage

    folder = tmp_path_factory.mktemp("reference")
    (folder / "card.toml").write_text(CLASSICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return sample_stage(folder / "card.toml", folder / "run", [TUNED], [], Console(quiet=True))


def test_a_process_that_meets_a_full_disk(disk, card, lattice_flows, reference):
    """While it joins: the segments are there, and there is no room for them once more."""
    out = RunFolder(disk.path / "out")
    disk.leave(1_000_000)
    arguments = ["run", str(card(CLASSICAL)), "--out", str(out.path), "--set", TUNED]
    command = [sys.executable, "-m", "lattice_flows.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=100, check=False)
    assert "hmc.h5: cannot be written" in told((done.returncode, done.stdout, done.stderr))
    assert assert_whole(out) == 1
    with Ensemble.open(out.ensemble("hmc")) as ensemble:
        assert ensemble.n_configs == 600
        assert not ensemble.finished
    disk.make_room()
    assert lattice_flows("sample", out.path)[0] == 0
    for name in ("hmc", "direct"):
        assert_same_ensemble(reference.ensemble(name), out.ensemble(name))


@pytest.mark.parametrize("room", [0, 10_000, 400_000])
def test_a_disk_that_fills_while_sampling(room, disk, card, lattice_flows, reference, monkeypatch):
    """Before the card is written, at the first segment, at later ones."""
    set_pace(monkeypatch, commit_seconds=0.0, block_seconds=0.02)
    out = RunFolder(disk.path / "out")
    disk.leave(room)
    command = ("sample", card(CLASSICAL), "--out", out.path, "--set", TUNED)
    told(lattice_flows(*command))
    assert assert_whole(out) == (room >= 60_000)
    disk.make_room()
    assert lattice_flows(*command)[0] == 0
    for name in ("hmc", "direct"):
        assert_same_ensemble(reference.ensemble(name), out.ensemble(name))


def test_a_disk_that_fills_while_training(disk, card, lattice_flows, tmp_path):
    """At the history, within the first checkpoint, at the next one: the training goes on where it was saved."""
    path = card(TRAINING)
    assert lattice_flows("train", path, "--out", tmp_path / "plain")[0] == 0
    wanted = load_flow_weights(RunFolder(tmp_path / "plain").flow / CHECKPOINT_NAME).sha256
    for room in (4096, 20_000, 110_000):
        out = RunFolder(disk.path / f"out_{room}")
        disk.leave(room)
        line = told(lattice_flows("train", path, "--out", out.path))
        assert str(out.flow) in line, "the line names the file"
        assert_whole(out)
        disk.make_room()
        assert lattice_flows("train", path, "--out", out.path)[0] == 0
        assert load_flow_weights(out.flow / CHECKPOINT_NAME).sha256 == wanted
        assert_same_ensemble(RunFolder(tmp_path / "plain").evaluation, out.evaluation)
        disk.ballast.unlink(missing_ok=True)
        subprocess.run(["rm", "-r", str(out.path)], check=True)


def test_a_disk_that_fills_while_reporting(disk, card, lattice_flows):
    out = RunFolder(disk.path / "out")
    small = ["--set", TUNED, "--set", "ensemble.hmc.n_configs=50", "--set", "ensemble.direct.n_configs=50"]
    assert lattice_flows("sample", card(CLASSICAL), "--out", out.path, *small)[0] == 0
    before = {path: path.read_bytes() for path in out.path.rglob("*.h5")}
    for room in (0, 30_000):
        disk.leave(room)
        assert str(out.report) in told(lattice_flows("run", out.path))
        assert {path: path.read_bytes() for path in out.path.rglob("*.h5")} == before
    disk.make_room()
    assert lattice_flows("run", out.path)[0] == 0
    assert (out.report / "index.html").exists()
    assert not list(out.report.glob("*.tmp"))
