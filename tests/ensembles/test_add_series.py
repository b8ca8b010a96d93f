"""Series that are measured after the run: added to the file whole or not at all, and never to damaged data."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from ensembles.test_writers import FullDisk
from ensembles.toy_chain import EVERY, HEADER, contents, create, extend, run, start, write

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, LockedError

pytestmark = pytest.mark.quick

ADDED = {"polyakov": np.arange(36.0).reshape(12, 3), "winding": np.arange(9).reshape(3, 3)}
ADDED_EVERY = {"winding": 5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "e.h5"
    write(path, (7, 5))
    return path


def test_added_series_lie_beside_the_others(path: Path) -> None:
    before = contents(path)
    with Ensemble.open(path) as ensemble:
        attributes = ensemble.attributes
    Ensemble.add_series(path, ADDED, ADDED_EVERY, {"observables": json.dumps(["polyakov"]), "note": "measured"})
    after = contents(path)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() == {"series/polyakov", "series/winding"}
    with Ensemble.open(path) as ensemble:
        assert ensemble.attributes == {**attributes, "observables": '["polyakov"]', "note": "measured"}
        assert ensemble.verify()
        for name, values in ADDED.items():
            assert ensemble.series(name).dtype == values.dtype
            np.testing.assert_array_equal(ensemble.series(name), values)
        np.testing.assert_array_equal(ensemble.series_configs("winding"), [0, 5, 10])
    with h5py.File(path) as file:
        assert file["series/winding"].dims[0][0].name == "/config_every_5"
        assert file["series/polyakov"].fletcher32
    assert [entry.name for entry in path.parent.iterdir()] == ["e.h5"]


def test_a_resume_goes_on_with_all_series(path: Path) -> None:
    Ensemble.add_series(path, ADDED, ADDED_EVERY, {})
    with Ensemble.resume(path) as writer:
        block, state = run(writer.state(), 12, 4)
        with pytest.raises(EnsembleError, match="block: its series are"):
            writer.append(block)
        more = {"polyakov": np.full((4, 3), 0.5), "winding": np.full((1, 3), 7)}
        every = {**EVERY, **ADDED_EVERY}
        writer.append(Block({**block.series, **more}, every, block.fields, block.proposals))
        writer.commit(state, seconds=0.25)
        assert Ensemble.open(path).series("winding").shape == (4, 3)
        writer.finish()
    write(path.with_name("plain.h5"), (16,))
    after, plain = contents(path), contents(path.with_name("plain.h5"))
    assert after.items() >= plain.items()
    with Ensemble.open(path) as ensemble:
        assert ensemble.verify()
        for name, values in ADDED.items():
            np.testing.assert_array_equal(ensemble.series(name), np.concatenate([values, more[name]]))


def test_numbers_that_are_undefined_are_kept(path: Path) -> None:
    values = np.full((12, 3), np.nan)
    values[3] = -np.inf
    Ensemble.add_series(path, {"creutz": values}, {}, {})
    np.testing.assert_array_equal(Ensemble.open(path).series("creutz"), values)


def test_a_header_alone_can_be_changed(path: Path) -> None:
    before = contents(path)
    Ensemble.add_series(path, {}, {}, {"note": "second analysis"})
    assert contents(path) == before
    assert Ensemble.open(path).attributes["note"] == "second analysis"


@pytest.mark.parametrize(
    ("series", "every", "header", "message"),
    [
        ({"action": np.zeros((12, 3))}, {}, {}, "has a series 'action'"),
        ({"x": np.zeros((11, 3))}, {}, {}, r"has shape \(11, 3\), it should be \(12, 3\)"),
        ({"x": np.zeros(12)}, {}, {}, "has shape"),
        ({"x": np.zeros((12, 3))}, {"x": 2}, {}, r"it should be \(6, 3\)"),
        ({"x": np.zeros((12, 3))}, {"x": 0}, {}, "positive"),
        ({"x": np.zeros((12, 3))}, {"y": 2}, {}, "every names"),
        ({"x": np.zeros((12, 3), str)}, {}, {}, "only numbers"),
        ({"a/b": np.zeros((12, 3))}, {}, {}, "not a valid name"),
        ({}, {}, {"n_configs": 3}, "header 'n_configs'"),
        ({}, {}, {"note": None}, "header 'note'"),
    ],
)
def test_what_does_not_fit_is_refused(series: dict, every: dict, header: dict, message: str, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(EnsembleError, match=message) as caught:
        Ensemble.add_series(path, series, every, header)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["e.h5"]


def test_only_what_is_finished_whole_and_free(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EnsembleError, match="no such ensemble"):
        Ensemble.add_series(tmp_path / "other.h5", ADDED, ADDED_EVERY, {})
    with Ensemble.resume(path) as writer:
        with pytest.raises(LockedError):
            Ensemble.add_series(path, ADDED, ADDED_EVERY, {})
        extend(writer, writer.state(), (2,))
    with pytest.raises(EnsembleError, match="not finished"):
        Ensemble.add_series(path, ADDED, ADDED_EVERY, {})
    with create(tmp_path / "young.h5") as writer:
        extend(writer, start(), (2,))
    with pytest.raises(EnsembleError, match="not finished"):
        Ensemble.add_series(tmp_path / "young.h5", {}, {}, {})
    assert not list(tmp_path.glob("*.lock"))


def test_damaged_data_get_no_fresh_checksum(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["series/action"][3, 1] += 1.0  # with a fletcher32 of its own
    before = path.read_bytes()
    with pytest.raises(EnsembleError, match="damaged"):
        Ensemble.add_series(path, ADDED, ADDED_EVERY, {})
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    for room in (0, 100, 5000, 20000):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", FullDisk(room))
            with pytest.raises(EnsembleError, match="No space left"):
                Ensemble.add_series(path, ADDED, ADDED_EVERY, {})
        assert path.read_bytes() == before
        assert [entry.name for entry in path.parent.iterdir()] == ["e.h5"]


def test_compression_and_series_alone_stay(tmp_path: Path) -> None:
    path, field = tmp_path / "e.h5", FieldSpec("phi", ("x0",), (8,), "float32")
    with Ensemble.create(
        path, header=HEADER, chains=range(1), field=field, store_fields=True, compression="gzip"
    ) as writer:
        writer.append(Block({"action": np.ones((5, 1))}, {}, np.ones((5, 1, 8), np.float32)))
        writer.commit({}, seconds=1.0)
        writer.finish()
    Ensemble.add_series(path, {"x": np.zeros((5, 1))}, {}, {})
    with h5py.File(path) as file:
        assert file["fields/phi"].compression == "gzip"
    assert Ensemble.open(path).configs(0, 5).dtype == np.float32
