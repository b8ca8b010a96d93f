"""A file that is replaced: its readers find the old one or the new one, whatever happens meanwhile."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import pytest
from full_disk import FullDisk

from lattice_flows.atomic_files import make_folder, naming, remove_leftovers, write_at, write_atomically

pytestmark = pytest.mark.quick

LONG = bytes(range(256)) * 20_000  # more than one write


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
def test_content_is_bytes_or_what_a_function_writes(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (LONG, memoryview(b"view"), b""):
        write_atomically(path, content, durable=durable)
        assert path.read_bytes() == bytes(content)
    write_atomically(path, partial(write_at, view=memoryview(b"built"), offset=0), durable=durable)
    assert path.read_bytes() == b"built"
    assert names(tmp_path) == ["a"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask, "who may read it is for the umask to say"


def test_what_is_asked_to_be_durable_is_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []
    rename = os.rename

    def synced(descriptor: int) -> None:
        acts.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")

    monkeypatch.setattr(os, "rename", lambda *paths: acts.append("rename") or rename(*paths))
    monkeypatch.setattr(os, "fsync", synced)
    write_atomically(tmp_path / "a", b"text")
    write_atomically(tmp_path / "a", b"text", durable=False)
    assert acts == ["file", "rename", "folder", "rename"]


@pytest.mark.parametrize("room", [0, 5, len(LONG) - 1])
def test_a_full_disk_costs_only_the_new_file(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", FullDisk(room))
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(path, LONG)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError("of the content"), KeyboardInterrupt(), OSError("of a library")])
def test_what_the_content_raises_comes_through(error: BaseException, tmp_path: Path) -> None:
    def fail(descriptor: int) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(tmp_path / "a", fail)
    assert caught.value is error
    assert names(tmp_path) == []


def test_no_link_is_followed_that_somebody_has_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)  # as if the name could be guessed
    (tmp_path / "other").write_bytes(b"not yours")
    (tmp_path / "a.00000000.tmp").symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", b"text")
    assert (tmp_path / "other").read_bytes() == b"not yours"


def test_what_kills_left_goes_and_nothing_else(tmp_path: Path) -> None:
    left = ["a.h5.fedcba98.tmp", "a.h5.0123abcd.tmp"]
    kept = ["a.h5.tmp", "a.h5.old.tmp", "ba.h5.0123abcd.tmp", "a.h50.0123abcd.tmp", "a.h5.0123abcd"]
    for name in (*left, *kept):
        (tmp_path / name).write_bytes(b"half a file")
    write_atomically(tmp_path / "a.h5", b"text")
    assert names(tmp_path) == sorted([*kept, "a.h5"])
    remove_leftovers(tmp_path, r".*")
    assert names(tmp_path) == sorted([*kept, "a.h5"]), "a text is a name, no pattern"


def test_a_writer_whose_file_was_taken_for_a_leftover_writes_it_again(tmp_path: Path) -> None:
    attempts = []

    def content(descriptor: int) -> None:
        os.write(descriptor, b"text")
        attempts.append(names(tmp_path))
        if len(attempts) < 3:
            remove_leftovers(tmp_path, "a")

    write_atomically(tmp_path / "a", content)
    assert len(attempts) == 3
    assert (tmp_path / "a").read_bytes() == b"text"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "gone" / "a", b"text")
    assert caught.value.filename == str(tmp_path / "gone" / "a")
    (folder := tmp_path / "going").mkdir()

    def content(descriptor: int) -> None:
        remove_leftovers(folder, "a")
        folder.rmdir()

    with pytest.raises(FileNotFoundError):
        write_atomically(folder / "a", content)


def test_several_processes_write_the_same_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "a", [LONG + str(k).encode() for k in range(24)]
    with ProcessPoolExecutor(4) as processes:
        list(processes.map(write_atomically, repeat(path), texts))
    assert path.read_bytes() in texts
    assert names(tmp_path) == ["a"]


def test_make_folder_syncs_the_names_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]


def test_an_error_of_the_system_is_named() -> None:
    with pytest.raises(PermissionError, match="here") as caught, naming(Path("here")):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert caught.value.filename == "here"
