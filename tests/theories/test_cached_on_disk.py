"""Closed forms that take long are computed once, whatever happens to the files that keep them."""

import json

import numpy as np
import pytest

from lattice_flows.theories import cached_on_disk as module
from lattice_flows.theories.cached_on_disk import cached_on_disk
from lattice_flows.theories.u1_improved.closed_forms import ExactImprovedU1

pytestmark = pytest.mark.quick

VALUES = np.array([[0.1, 1 / 3], [-2.5e-300, 7.0]])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_WORTH_KEEPING", -1.0)
    return tmp_path / "lattice_flows" / "closed_forms"


def cached(key="a", values=VALUES):
    calls = []
    found = cached_on_disk([key, 8], (module,), lambda: calls.append(1) or values)
    np.testing.assert_array_equal(found, values)
    return len(calls)


def test_numbers_are_computed_once_to_the_bit(folder):
    assert [cached(), cached(), cached("b"), cached()] == [1, 0, 1, 0]
    assert len(list(folder.iterdir())) == 2


def test_other_sources_are_other_numbers(folder, monkeypatch):
    assert cached() == 1
    monkeypatch.setattr(module, "_digest", lambda module: "edited")
    assert cached() == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[1]", b'{"key": "other", "values": [1.0]}', b'{"values": [1.0]}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_damaged_or_foreign_file_counts_as_absent(folder, damage):
    cached()
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert [cached(), cached()] == [1, 0]
    held = json.loads(path.read_bytes())
    held["values"] = held["values"][:1]
    path.write_text(json.dumps(held))
    assert cached() == 1


def test_without_a_home_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_WORTH_KEEPING", -1.0)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(module.os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert [cached(), cached()] == [1, 1]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_none(tmp_path, monkeypatch, folder):
    (tmp_path / "lattice_flows").write_text("a file")
    assert [cached(), cached()] == [1, 1]


def test_what_takes_no_time_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(module, "_WORTH_KEEPING", 60.0)
    assert [cached(), cached()] == [1, 1]
    assert not folder.exists()


def test_closed_forms_of_a_second_process_are_the_same(folder):
    """A new object stands for it: each keeps its own numbers."""
    first, second = (ExactImprovedU1(0.9, 0.1, (2, 4)) for _ in range(2))
    told = first.as_dict()
    n_files = len(list(folder.iterdir()))
    assert n_files == 3
    assert second.as_dict() == told
    assert len(list(folder.iterdir())) == n_files


def test_a_folder_that_others_can_write_is_none(folder):
    assert cached() == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert [cached(), cached()] == [1, 1]
    folder.chmod(0o755)
    assert cached() == 0
