"""The files that hold compiled functions: damage, races, and folders that nobody uses any more."""

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lattice_flows.kernels import cache_folder
from lattice_flows.kernels.cache_folder import DAY, KEPT, CacheFolder, CacheFolders, folder_name


@pytest.fixture
def folder(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / folder_name("0" * 64), "hmc.chain-7.py311", b"stamp")


def test_what_is_saved_is_loaded_under_its_own_key_and_stamp(folder):
    assert folder.load("a") is None
    folder.save("a", 1)
    folder.save("b", [2, 3])
    folder.save("a", 4)
    assert (folder.load("a"), folder.load("b"), folder.load("c")) == (4, [2, 3], None)
    for function, stamp in (("hmc.chain-7.py312", b"stamp"), ("hmc.chain-7.py311", b"another")):
        assert CacheFolder(folder.folder, function, stamp).load("a") is None


class Alike:
    """Keys that differ, and are written alike."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "Alike"

    def __eq__(self, other):
        return self.value == other.value

    __hash__ = None


def test_keys_that_are_written_alike_are_not_mixed_up(folder):
    folder.save(Alike(1), 1)
    assert folder.load(Alike(2)) is None
    folder.save(Alike(2), 2)
    assert (folder.load(Alike(1)), folder.load(Alike(2))) == (None, 2)


def test_a_damaged_file_counts_as_absent(folder):
    folder.save("a", list(range(100)))
    (path,) = folder.folder.iterdir()
    whole = path.read_bytes()
    flipped = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
    for content in (b"", whole[:20], whole[:-1], whole + b"x", flipped, b"not ours" * 100):
        path.write_bytes(content)
        assert folder.load("a") is None
    path.unlink()
    path.mkdir()
    assert folder.load("a") is None
    with pytest.raises(OSError, match="directory"):
        folder.save("a", 1)
    assert list(folder.folder.iterdir()) == [path]
    path.rmdir()
    folder.save("a", 1)
    assert folder.load("a") == 1


def test_flush_removes_what_belongs_to_the_function(folder):
    other = CacheFolder(folder.folder, "hmc.chain_of-7.py311", b"stamp")
    folder.flush()
    for cache in (folder, other):
        cache.save("a", 1)
    folder.flush()
    assert (folder.load("a"), other.load("a")) == (None, 1)


RACE = """
import sys, time
from pathlib import Path
from lattice_flows.kernels.cache_folder import CacheFolder

home, turn = Path(sys.argv[1]), int(sys.argv[2])
(home / f"ready.{turn}").touch()
while not (home / "go").exists():
    time.sleep(0.001)
folder = CacheFolder(home / "lattice-flows-0000000000000000", "f", b"")
for key in range(300):  # some that all save, some of its own
    for k in (key, 300 * turn + key):
        folder.save(k, [k] * 1000)
        assert folder.load(k) == [k] * 1000
        assert folder.load(299 - key) in (None, [299 - key] * 1000)
"""


def test_processes_that_save_at_once_lose_nothing(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", RACE, tmp_path, str(turn)]) for turn in range(3)]
    while not all((tmp_path / f"ready.{turn}").exists() for turn in range(3)):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.001)
    (tmp_path / "go").touch()
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    folder = CacheFolder(tmp_path / "lattice-flows-0000000000000000", "f", b"")
    assert all(folder.load(key) == [key] * 1000 for key in range(900))
    assert len(list(folder.folder.iterdir())) == 900


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_who_makes_a_folder_removes_those_that_nobody_uses(folder):
    place = folder.folder.parent
    folders = {name: place / name for name in (folder_name("1" * 64), folder_name("2" * 64), "lattice-flows-mine", "x")}
    for path in folders.values():
        CacheFolder(path, "f", b"").save("a", 1)
    for path in folders.values():
        aged(path, KEPT + DAY)
    gone, used, *others = folders.values()
    assert CacheFolder(used, "f", b"").load("a") == 1  # and is in use again
    elsewhere = place / folder_name("3" * 64)
    elsewhere.symlink_to(others[0])
    file = place / folder_name("4" * 64)
    file.touch()
    aged(file, KEPT + DAY)
    folder.save("a", 1)
    assert not gone.exists()
    assert file.exists()
    assert all(CacheFolder(path, "f", b"").load("a") == 1 for path in (used, *others))
    assert elsewhere.is_symlink()
    assert CacheFolder(elsewhere, "f", b"").load("a") is None  # nobody knows where it leads tomorrow
    CacheFolder(aged(used, KEPT + DAY), "f", b"")
    folder.save("b", 1)  # makes no folder
    assert used.exists()


def test_a_folder_that_vanishes_under_a_process_is_made_again(folder):
    folder.save("a", 1)
    for path in folder.folder.iterdir():
        path.unlink()
    folder.folder.rmdir()
    assert folder.load("a") is None
    folder.save("a", 1)
    assert folder.load("a") == 1


def test_the_first_folder_that_takes_it_keeps_it(folder, tmp_path, monkeypatch):
    """Its disk may be full: the other one may have room."""
    write, full = cache_folder._write, folder.folder

    def write_or_fail(path: Path, content: bytes) -> None:
        if path.parent == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    other = CacheFolder(tmp_path / "other" / full.name, "hmc.chain-7.py311", b"stamp")
    both = CacheFolders([folder, other])
    both.save("a", 1)
    assert (folder.load("a"), other.load("a"), both.load("a")) == (1, None, 1)
    monkeypatch.setattr(cache_folder, "_write", write_or_fail)
    both.save("b", 2)
    assert (folder.load("b"), other.load("b"), both.load("b")) == (None, 2, 2)
    with pytest.raises(OSError, match="No space left"):
        CacheFolders([folder]).save("c", 3)
    both.flush()
    assert (both.load("a"), both.load("b")) == (None, None)


@pytest.mark.parametrize("spoil", ["folder", "file", "above"])
def test_what_others_could_have_written_is_not_loaded(tmp_path, spoil):
    """The file is a pickle: it would run what they wrote. Nor is anything put where they can change it."""
    place = tmp_path / "open"
    folder = CacheFolder(place / folder_name("0" * 64), "f", b"")
    folder.save("a", 1)
    (file,) = folder.folder.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place, folder.folder)] == [0o700, 0o700]
    spoiled, mode = {"folder": (folder.folder, 0o770), "file": (file, 0o662), "above": (place, 0o777)}[spoil]
    spoiled.chmod(mode)
    assert folder.load("a") is None
    if spoil != "file":
        with pytest.raises(PermissionError, match="others can write it"):
            folder.save("b", 1)
    spoiled.chmod(0o1777 if spoil == "above" else 0o755)  # as /tmp
    assert folder.load("a") == 1


def test_what_belongs_to_another_is_not_loaded(folder, monkeypatch):
    folder.save("a", 1)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert folder.load("a") is None
    with pytest.raises(PermissionError, match="others can write it, or own it"):
        folder.save("a", 2)


def test_a_link_and_a_fifo_are_no_files(folder, tmp_path):
    folder.save("a", 1)
    (file,) = folder.folder.iterdir()
    file.rename(tmp_path / "there")
    file.symlink_to(tmp_path / "there")
    assert folder.load("a") is None
    file.unlink()
    os.mkfifo(file)
    assert folder.load("a") is None
