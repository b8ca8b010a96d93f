"""One writer at a time, and a disk that fills up."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ensembles.toy_chain import contents, create, extend, run, start, write
from full_disk import FullDisk

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, LockedError

HOLDER = """
import sys, time
from ensembles.toy_chain import create, extend, start
from pathlib import Path
writer = create(Path(sys.argv[1]))
extend(writer, start(), (4,))
print("holding", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for attempt in (Ensemble.resume, create):
            with pytest.raises(LockedError, match=rf"process {holder.pid} on {os.uname().nodename}") as caught:
                attempt(path)
            assert caught.value.pid == holder.pid
        assert Ensemble.open(path).n_configs == 4  # readers need no lock
        holder.send_signal(signal.SIGKILL)
    assert path.with_suffix(".lock").exists()
    with Ensemble.resume(path) as writer:  # what the killed one left blocks nobody
        assert writer.n_configs == 4
        with pytest.raises(LockedError, match=f"process {os.getpid()}"):
            Ensemble.resume(path)
    assert not path.with_suffix(".lock").exists()


def test_every_refusal_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (3,))
    for _ in range(2):
        with pytest.raises(EnsembleError, match="not overwritten"):
            create(path)
    with pytest.raises(ZeroDivisionError), Ensemble.resume(path) as writer:
        writer.append(Block({}, fields=np.zeros((1 // 0,))))
    Ensemble.resume(path).close()


def test_a_full_disk_costs_only_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        state = extend(writer, start(), (4,))
        block, state = run(state, 4, 6)
        writer.append(block)
        for room in (0, 5, 4096, 20000):
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", FullDisk(room))
                with pytest.raises(EnsembleError, match=r"000001\.h5: cannot be written \(No space left"):
                    writer.commit(state, seconds=0.25)
            assert [entry.name for entry in path.with_suffix(".segments").iterdir()] == ["000000.h5"]
            assert Ensemble.open(path).n_configs == 4
        writer.commit(state, seconds=0.25)  # there is room again: the blocks were kept
        writer.finish()
    write(tmp_path / "plain.h5", (10,))
    assert contents(path) == contents(tmp_path / "plain.h5")


def test_a_disk_that_fails_at_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with create(tmp_path / "e.h5") as writer:
        extend(writer, start(), (4,))
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(EnsembleError, match="quota"):
            writer.commit({}, seconds=0.0)
    assert len(list(tmp_path.rglob("*.h5"))) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_while_joining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 would crash the process on an error at any of these places."""
    path = tmp_path / "e.h5"
    write(path, (10, 10), finish=False)
    n_bytes = sum(entry.stat().st_size for entry in path.with_suffix(".segments").iterdir())
    for room in [0, 1, 100, *range(1000, n_bytes // 2, n_bytes // 20)]:
        with Ensemble.resume(path) as writer, monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", FullDisk(room))
            with pytest.raises(EnsembleError, match=r"e\.h5: cannot be written \(No space left"):
                writer.finish()
        assert [entry.name for entry in tmp_path.iterdir()] == ["e.segments"]
    with Ensemble.resume(path) as writer:
        writer.finish()
    write(tmp_path / "plain.h5", (20,))
    assert contents(path) == contents(tmp_path / "plain.h5")


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a tmpfs of 2 MB: commits until it is full, and every commit that succeeded is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        field = FieldSpec("phi", ("x0", "x1"), (16, 16))
        writer = Ensemble.create(disk / "e.h5", header={}, chains=range(4), field=field, store_fields=True)
        committed = 0

        def fill() -> None:
            nonlocal committed
            while True:
                writer.append(Block({"action": np.ones((30, 4))}, fields=np.ones((30, 4, 16, 16))))
                writer.commit({}, seconds=0.0)
                committed = writer.n_configs

        with writer, pytest.raises(EnsembleError, match="No space left"):
            fill()
        with Ensemble.open(disk / "e.h5") as ensemble:
            assert ensemble.n_configs == committed >= 120
            ensemble.verify()
        with Ensemble.resume(disk / "e.h5") as writer, pytest.raises(EnsembleError, match="No space left"):
            writer.finish()
        with Ensemble.open(disk / "e.h5") as ensemble:
            ensemble.verify()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
