"""However a run was cut, stopped, finished and extended: the same bits."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ensembles.toy_chain import contents, create, extend, run, start, write

from lattice_flows.ensembles import Ensemble, EnsembleError


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "toy.h5"
    write(path, (30,))
    return path


def folder_of(path: Path) -> Path:
    return path.with_suffix(".segments")


def test_any_cut_gives_the_same_ensemble(uninterrupted: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    for trial in range(3):
        path = tmp_path / f"{trial}.h5"
        writer = create(path)
        state = extend(writer, start(), (0,))
        while writer.n_configs < 30:
            state = extend(writer, state, (min(int(rng.integers(0, 7)), 30 - writer.n_configs),))
            if rng.random() < 0.3:
                writer.close()
                writer = Ensemble.resume(path)
                state = writer.state()
            elif rng.random() < 0.3:
                writer.finish()
                writer = Ensemble.resume(path)
        writer.finish()
        assert contents(path) == contents(uninterrupted)
        assert [entry.name for entry in tmp_path.iterdir() if entry.stem == str(trial)] == [path.name]


def test_what_was_not_committed_is_made_again(uninterrupted: Path, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        state = extend(writer, start(), (12,))
        writer.append(run(state, 12, 5)[0])
        assert writer.n_configs == 17
    with Ensemble.resume(path) as writer:
        assert writer.n_configs == 12
        extend(writer, writer.state(), (18,))
        writer.finish()
    assert contents(path) == contents(uninterrupted)


def test_leftovers_of_a_join_are_passed_over_then_deleted(uninterrupted: Path, tmp_path: Path) -> None:
    """A kill between rename and delete leaves segments, some with a state or proposals only."""
    path = tmp_path / "e.h5"
    write(path, (10, 0, 5, 0), finish=False)
    shutil.copytree(folder_of(path), tmp_path / "kept")
    with Ensemble.resume(path) as writer:
        writer.finish()
    assert not folder_of(path).exists()
    for leftovers in (("000000.h5", "000001.h5", "000002.h5", "000003.h5"), ("000002.h5",), ("000003.h5",)):
        folder_of(path).mkdir()
        for name in leftovers:
            shutil.copy(tmp_path / "kept" / name, folder_of(path))
        with Ensemble.open(path) as ensemble:
            assert (ensemble.n_configs, ensemble.seconds) == (15, 1.0)
            assert len(ensemble.verify()) == 1
        Ensemble.resume(path).close()
        assert not folder_of(path).exists()
    with Ensemble.resume(path) as writer:
        extend(writer, writer.state(), (15,))
        shutil.copy(tmp_path / "kept" / "000002.h5", folder_of(path))  # beside a segment that is none
        assert Ensemble.open(path).n_configs == 30
        writer.finish()
    assert contents(path) == contents(uninterrupted)


def test_temporary_files_are_passed_over_then_deleted(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (10, 5), finish=False)
    theirs = tmp_path / "e.h5.tmp"
    theirs.write_bytes(b"not ours: our names are random")
    temporaries = [tmp_path / "e.h5.0123abcd.tmp"]
    temporaries += [folder_of(path) / name for name in ("000002.h5.tmp", "000002.h5.0123abcd.tmp")]
    for temporary in temporaries:
        temporary.write_bytes(b"half a file")
    assert Ensemble.open(path).n_configs == 15
    Ensemble.resume(path).close()
    assert not any(temporary.exists() for temporary in temporaries)
    assert theirs.exists()
    assert Ensemble.open(path).n_configs == 15


def test_killed_before_the_first_commit(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    folder_of(path).mkdir()
    (folder_of(path) / "000000.h5.0123abcd.tmp").write_bytes(b"half a file")
    assert not Ensemble.exists(path)
    write(path, (3,))
    assert [entry.name for entry in tmp_path.iterdir()] == ["e.h5"]


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (4, 4, 4), finish=False)
    (folder_of(path) / "000001.h5").unlink()
    with pytest.raises(EnsembleError, match=r"000001\.h5: missing"):
        Ensemble.open(path)


def test_a_segment_of_another_ensemble_is_named(tmp_path: Path) -> None:
    path, other = tmp_path / "e.h5", tmp_path / "other.h5"
    write(path, (4,), finish=False)
    with Ensemble.open(path) as ensemble:
        field = ensemble.field
    with Ensemble.create(other, header={"seed": 2}, chains=range(2, 5), field=field, store_fields=True) as writer:
        extend(writer, start(), (4, 4))
    shutil.copy(folder_of(other) / "000001.h5", folder_of(path))
    with pytest.raises(EnsembleError, match=r"000001\.h5: its attributes differ"):
        Ensemble.open(path)


def test_a_reader_is_not_disturbed_by_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        state = extend(writer, start(), (6, 6))
        reader = Ensemble.open(path)
        extend(writer, state, (6,))
        assert reader.n_configs == 12
        assert reader.configs(0, 12).shape == (12, 3, 2, 4, 4)
        writer.finish()
        with pytest.raises(EnsembleError, match="open it again"):
            reader.configs(0, 12)
        assert Ensemble.open(path).n_configs == 18


def name_of(descriptor: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


def test_the_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write, fsync, rename, fsync of the folder: the order is the guarantee against a loss of power."""
    calls: list[str] = []
    pwrite, rename = os.pwrite, os.rename
    writer = create(tmp_path / "e.h5")
    extend(writer, start(), (1,))
    monkeypatch.setattr(os, "pwrite", lambda *args: calls.append("write") or pwrite(*args))
    monkeypatch.setattr(os, "rename", lambda *args: calls.append(f"rename {args[1].name}") or rename(*args))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(re.sub(r"\.\w{8}\.tmp", ".tmp", name_of(fd))))
    writer.commit({}, seconds=0.0)
    assert [call for call in calls if call != "write"] == ["000001.h5.tmp", "rename 000001.h5", "e.segments"]
    assert calls[-4] == "write"
    calls.clear()
    writer.finish()
    assert [call for call in calls if call != "write"] == ["e.h5.tmp", "rename e.h5", tmp_path.name]
    assert calls[-4] == "write"
