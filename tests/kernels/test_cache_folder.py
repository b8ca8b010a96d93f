"""The files that hold compiled functions: damage, races, and folders that nobody uses any more."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lattice_flows.kernels.cache_folder import DAY, KEPT, CacheFolder, folder_name


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
    assert all(CacheFolder(path, "f", b"").load("a") == 1 for path in (used, *others, elsewhere))
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
