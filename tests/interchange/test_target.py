"""The folder in which an export or import is made: gone afterwards, whatever has ended it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cards import environment

from lattice_flows.errors import InputError
from lattice_flows.interchange.export import KINDS, export
from lattice_flows.interchange.target import made_apart
from lattice_flows.terminal.interrupt import Stopped, StopRequest

WORKER = """
import sys, time
from pathlib import Path
from lattice_flows.interchange.target import made_apart
with made_apart(Path(sys.argv[1])) as made:
    made.write_text("half")
    print("at work", flush=True)
    time.sleep(60)
"""


def worker(target: Path) -> subprocess.Popen[bytes]:
    """A process that is at work on this target."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(target)], stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    process.stdout.readline()
    return process


def make(target: Path) -> None:
    with made_apart(target) as made:
        made.write_text("whole")


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "x.nc"
    others = [".x.nc.0123abcd.tmp", ".x.nc.notes.tmp", ".y.nc.0123abcd.tmp"]  # the first one is like ours, but no lock
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    with worker(target) as alive:
        with worker(target) as killed:
            killed.kill()
        (tmp_path / ".x.nc.aaaaaaaa.tmp").mkdir()  # killed before it had a lock
        (tmp_path / ".x.nc.bbbbbbbb.tmp").write_text("a file")
        monkeypatch.setenv("LATTICE_FLOWS_LOCKING", "off")  # who is alive cannot be known
        make(target)
        target.unlink()
        assert len(list(tmp_path.glob(".x.nc.*"))) == 6
        monkeypatch.delenv("LATTICE_FLOWS_LOCKING")
        make(target)
        left = {path.name for path in tmp_path.iterdir()} - {*others, "x.nc", ".x.nc.bbbbbbbb.tmp"}
        assert [(tmp_path / name / "x.nc").read_text() for name in left] == ["half"]  # of the one at work
        alive.send_signal(signal.SIGKILL)
    assert target.read_text() == "whole"
    assert all((tmp_path / name / "thesis.txt").exists() for name in others)


def test_what_has_appeared_in_the_meantime_is_kept(tmp_path):
    target = tmp_path / "x.nc"

    def overtaken():
        with made_apart(target) as made:
            made.write_text("ours")
            target.write_text("theirs")

    with pytest.raises(FileExistsError, match="has appeared in the meantime"):
        overtaken()
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["x.nc"]


def test_a_folder_that_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    from lattice_flows.interchange import target as module

    real, calls = module.open_lock, []

    def locked(path):
        calls.append(path)
        if len(calls) == 1:
            path.parent.rmdir()
        return real(path)

    monkeypatch.setattr(module, "open_lock", locked)
    make(tmp_path / "x.nc")
    assert len(calls) == 2
    assert os.listdir(tmp_path) == ["x.nc"]


def test_a_file_system_without_locks_is_good_enough(tmp_path, monkeypatch):
    def without(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with made_apart(tmp_path / "x.nc") as made:
        made.write_text("whole")
        make(tmp_path / "x.nc")  # of another process, say, which does not touch what this one has
        (tmp_path / "x.nc").unlink()
    assert os.listdir(tmp_path) == ["x.nc"]


class OnSignal(StopRequest):
    """Stops at the second look."""

    looks = 0

    def raise_if_set(self):
        self.looks += 1
        if self.looks > 1:
            raise Stopped("SIGTERM")


@pytest.mark.filterwarnings("ignore:`scipy.odr` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_stopped_export_leaves_nothing(kind, tmp_path, rng):
    from interchange.test_export import toy

    toy(tmp_path / "toy.h5", rng)
    with pytest.raises(Stopped) as stopped:
        export(tmp_path / "toy.h5", kind, stop=OnSignal())
    assert stopped.value.kept == "nothing was kept; export again"
    assert os.listdir(tmp_path) == ["toy.h5"]


def test_a_refused_export_removes_what_a_killed_one_has_left(tmp_path, rng):
    """One that was killed when all was done: the same call is refused ever after."""
    from interchange.test_export import toy

    toy(tmp_path / "toy.h5", rng)
    target = export(tmp_path / "toy.h5", "npy")
    with worker(target) as killed:
        killed.kill()
    with pytest.raises(InputError, match="already exists"):
        export(tmp_path / "toy.h5", "npy")
    assert sorted(os.listdir(tmp_path)) == ["toy.h5", "toy_npy"]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("target", ["", "."])
def test_a_target_without_a_name_is_refused(target, kind, tmp_path, rng, monkeypatch):
    from interchange.test_export import toy

    toy(tmp_path / "toy.h5", rng)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\.: already exists"):
        export(tmp_path / "toy.h5", kind, Path(target))


def test_an_export_does_not_take_the_name_of_an_unfinished_ensemble(tmp_path, rng):
    from interchange.test_export import toy

    toy(tmp_path / "toy.h5", rng, finish=False)
    with pytest.raises(InputError, match=r"toy\.h5: already exists"):
        export(tmp_path / "toy.h5", "netcdf", tmp_path / "toy.h5")


def test_an_export_of_what_is_left_says_so(tmp_path, rng, capsys):
    from interchange.test_export import toy

    toy(tmp_path / "toy.h5", rng, finish=False)
    segments = sorted((tmp_path / "toy.segments").iterdir())
    assert len(segments) > 1
    segments[0].unlink()
    made = export(tmp_path / "toy.h5", "npy")
    assert "files are missing" in " ".join(capsys.readouterr().err.split())
    assert "files are missing" in (made / "header.json").read_text()
    assert len(np.load(made / "fields.npy")) == len(np.load(made / "series_action.npy"))
