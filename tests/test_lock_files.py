"""Lock files that are somebody else's, and file systems without locks."""

import errno
import fcntl
import os

import pytest

from lattice_flows.ensembles import EnsembleError, LockedError
from lattice_flows.ensembles.lock import WriterLock
from lattice_flows.errors import InputError
from lattice_flows.lock_files import hold, holder_of, open_lock, sign
from lattice_flows.production.one_at_a_time import locked

pytestmark = pytest.mark.quick


def test_a_lock_names_its_holder_and_an_old_one_is_taken_over(tmp_path):
    path = tmp_path / "e.lock"
    for left in (None, b"", bytes(40), b'{"host": "node7", "pid": 12}', b'{"host": "no', b'{"ho', b"{"):
        if left is not None:
            path.write_bytes(left)
        lock = WriterLock(tmp_path / "e.h5")
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"):
            WriterLock(tmp_path / "e.h5")
        lock.release()
        assert not path.exists()


@pytest.mark.parametrize("what", ["text", "json", "link", "dangling link", "pipe", "folder"])
def test_what_is_no_lock_of_ours_is_left_alone(what, tmp_path, time_limit):
    path, victim = tmp_path / "e.lock", tmp_path / "victim"
    if what in ("text", "json"):
        path.write_text("lock of another program" if what == "text" else '{"pid": 3}')
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(victim)
        if what == "link":
            victim.write_text("precious")
    before = os.lstat(path)
    for attempt in (lambda: WriterLock(tmp_path / "e.h5"), lambda: locked(path, "busy").__enter__()):
        with pytest.raises((EnsembleError, InputError), match=r"e\.lock"):
            attempt()
    after = os.lstat(path)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert victim.exists() == (what == "link")
    assert not victim.exists() or victim.read_text() == "precious"


def test_a_lock_that_was_replaced_is_not_deleted(tmp_path):
    lock = WriterLock(tmp_path / "e.h5")
    lock.path.unlink()
    lock.path.write_text("of somebody else")
    lock.release()
    assert lock.path.read_text() == "of somebody else"


def test_one_process_at_a_time_and_the_file_stays(tmp_path):
    path = tmp_path / "training.lock"
    with locked(path, "busy") as descriptor:
        sign(descriptor)
        assert holder_of(descriptor)[1] == os.getpid()
        with pytest.raises(InputError, match=r"^busy$"), locked(path, "busy"):
            pass
    with locked(path, "busy"):
        assert path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_with_the_way_out(number, tmp_path, monkeypatch):
    def without(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    told = r"e\.lock: cannot be locked \(.*\): this file system has no locks; .* LATTICE_FLOWS_LOCKING=off"
    with pytest.raises(EnsembleError, match=told):
        WriterLock(tmp_path / "e.h5")
    with pytest.raises(InputError, match=told), locked(tmp_path / "e.lock", "busy"):
        pass
    monkeypatch.setenv("LATTICE_FLOWS_LOCKING", "off")
    WriterLock(tmp_path / "e.h5").release()
    with locked(tmp_path / "t.lock", "busy"):
        pass


def test_the_setting_is_on_or_off(tmp_path, monkeypatch):
    for value, works in (("", True), ("on", True), ("off", True), ("no", False)):
        monkeypatch.setenv("LATTICE_FLOWS_LOCKING", value)
        if works:
            WriterLock(tmp_path / "e.h5").release()
        else:
            with pytest.raises(EnsembleError, match="LATTICE_FLOWS_LOCKING = 'no': must be on or off"):
                WriterLock(tmp_path / "e.h5")
    descriptor = open_lock(tmp_path / "l.lock")
    monkeypatch.setenv("LATTICE_FLOWS_LOCKING", "off")
    hold(descriptor, tmp_path / "l.lock")
    os.close(descriptor)
