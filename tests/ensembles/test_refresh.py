"""A reader that follows a growing run through its segments and its join."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ensembles.toy_chain import create, extend, run, start, write

from lattice_flows.ensembles import Ensemble, EnsembleError, file_sequence, one_file


def test_a_reader_follows_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    block, _ = run(start(), 0, 30)
    with create(path) as writer:
        state = extend(writer, start(), (4,))
        reader = Ensemble.open(path)
        assert not reader.refresh()
        state = extend(writer, state, (0, 6))
        assert reader.n_configs == 4
        assert reader.refresh()
        assert (reader.n_configs, reader.finished, reader.seconds) == (10, False, 0.75)
        writer.finish()
        assert reader.refresh()
        assert (reader.n_configs, reader.finished, reader.seconds) == (10, True, 0.75)
        assert not reader.refresh()
    with Ensemble.resume(path) as writer:  # extended, and joined under the same name
        state = extend(writer, writer.state(), (5, 15))
        np.testing.assert_array_equal(reader.configs(0, 10), block.fields[:10])
        assert reader.refresh()
        assert reader.n_configs == 30
        np.testing.assert_array_equal(reader.configs(0, 30), block.fields)
        writer.finish()
        assert reader.refresh()
        np.testing.assert_array_equal(reader.configs(0, 30), block.fields)
    np.testing.assert_array_equal(reader.series("wilson_loop"), block.series["wilson_loop"])


def test_segments_that_are_joined_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is there when it is looked for, and gone when it is listed."""
    writer = create(tmp_path / "e.h5")
    extend(writer, start(), (3,))
    writer.finish()
    with Ensemble.open(tmp_path / "e.h5") as reader:
        monkeypatch.setattr(Path, "is_dir", lambda path: True)
        reader.refresh()
        assert reader.n_configs == 3


def test_a_reader_in_another_thread(tmp_path: Path) -> None:
    """It looks whenever it likes, and sees what is committed: never less than before, never a wrong number."""
    path = tmp_path / "e.h5"
    block, _ = run(start(), 0, 120)
    seen: list[int] = []
    faults: list[str] = []
    done = threading.Event()

    def follow() -> None:
        with Ensemble.open(path) as reader:
            while True:
                last = done.is_set()
                reader.refresh()
                n = reader.n_configs
                try:
                    action = reader.series("action")
                    state = reader.state()["links"]
                except EnsembleError as error:  # joined between the two: look again
                    if "since the ensemble was opened" not in str(error):
                        faults.append(str(error))
                    continue
                if not np.array_equal(action, block.series["action"][:n]) or (seen and n < seen[-1]):
                    faults.append(f"{n} configurations, read wrongly after {seen}")
                if not np.array_equal(state, block.fields[n - 1]):
                    faults.append(f"the state at {n} is not that of the last configuration")
                seen.append(n)
                if last:
                    return

    writer = create(path)
    state = extend(writer, start(), (3,))
    thread = threading.Thread(target=follow)
    thread.start()
    while writer.n_configs < 120:
        state = extend(writer, state, (3,))
        if writer.n_configs % 30 == 0:
            writer.finish()
            writer = Ensemble.resume(path)
        time.sleep(0.002)
    writer.finish()
    done.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not faults
    assert seen[-1] == 120
    assert len(set(seen)) >= 3


def test_who_does_not_refresh_is_told(tmp_path: Path) -> None:
    """Its segments are joined, then the joined file is replaced: never the state of one, and the length of another."""
    path = tmp_path / "e.h5"
    with create(path) as writer:
        extend(writer, start(), (4,))
        young = Ensemble.open(path)
        writer.finish()
    finished = Ensemble.open(path)
    with Ensemble.resume(path) as writer:
        extend(writer, writer.state(), (4,))
        writer.finish()
    for reader, message in ((young, "removed since"), (finished, "replaced since")):
        for ask in (reader.state, reader.verify, lambda reader=reader: reader.series("action")):
            with pytest.raises(EnsembleError, match=message):
                ask()
        assert reader.refresh()
        assert reader.series("action").shape == (8, 3)


def test_known_segments_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        state = extend(writer, start(), (1,) * 20)
        reader = Ensemble.open(path)
        read: list[str] = []
        monkeypatch.setattr(file_sequence, "read_part", lambda path: read.append(path.name) or one_file.read_part(path))
        assert not reader.refresh()
        assert read == []
        extend(writer, state, (1, 1))
        assert reader.refresh()
        assert read == ["000020.h5", "000021.h5"]
        writer.finish()
        assert reader.refresh()
        assert read[2:] == ["e.h5"]


def test_a_refresh_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (4, 4), finish=False)
    reader = Ensemble.open(path)
    segments = path.with_suffix(".segments")
    (segments / "000003.h5").write_bytes((segments / "000001.h5").read_bytes())
    with pytest.raises(EnsembleError, match=r"000002\.h5: missing"):
        reader.refresh()
    assert reader.n_configs == 8
    assert reader.series("action").shape == (8, 3)


def test_another_ensemble_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (4,))
    reader = Ensemble.open(path)
    path.unlink()
    write(path, (7,))
    assert reader.refresh()
    assert reader.n_configs == 7
