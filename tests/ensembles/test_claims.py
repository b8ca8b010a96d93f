"""A file that announces more than it holds: found at opening, whatever reads it, in the memory of a small file."""

import tracemalloc
from pathlib import Path

import h5py
import pytest
from ensembles.toy_chain import write

from lattice_flows.ensembles import Ensemble, EnsembleError
from lattice_flows.ensembles.layout import multiples, n_multiples

MANY = 10**8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "e.h5"
    write(path, (11,))
    return path.read_bytes()


def claiming(path: Path, rows: dict[str, int], chunk: int = 1024) -> Path:
    """The file with datasets, by name, of so many rows, of which HDF5 makes up all."""
    with h5py.File(path, "r+") as file:
        del file.attrs["header_sha256"]
        for name, n in rows.items():
            shape, dtype = file[name].shape[1:], file[name].dtype
            del file[name]
            file.create_dataset(name, (n, *shape), dtype, chunks=(min(n, chunk), *shape), fillvalue=0)
        if "config" in rows:
            file.attrs["n_configs"] = rows["config"]
    return path


def test_a_small_file_that_claims_many_configurations_is_refused_in_little_memory(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(whole)
    with h5py.File(path) as file:
        rows = dict.fromkeys([f"series/{name}" for name in file["series"]] + ["config"], MANY)
    claiming(path, rows)
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    try:
        for read in (Ensemble.open, Ensemble.resume):
            with pytest.raises(EnsembleError, match=r"e\.h5: /config announces 800000000 bytes.* not all in the file"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk", [1, 4, 11])
def test_a_dataset_of_which_chunks_are_missing_is_named(whole: bytes, tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(whole)
    claiming(path, {"series/action": 11}, chunk)
    with h5py.File(path, "r+") as file:
        if chunk < 11:
            file["series/action"][:chunk] = 1.0  # one chunk is there
    with pytest.raises(EnsembleError, match=r"/series/action announces 264 bytes"):
        Ensemble.open(path)


def test_an_axis_of_the_state_has_the_length_of_an_array(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file.attrs["header_sha256"]
        file["state"].create_dataset("length_1000000000000", shape=(10**12,), dtype="u1")
    with pytest.raises(EnsembleError, match="has the length 1000000000000, which no array of /state has"):
        Ensemble.open(path)


def test_a_chunk_too_large_to_be_read_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file.attrs["header_sha256"], file["series/action"]
        shape = (11, 3)
        made = file.create_dataset(
            "series/action", shape, "f8", chunks=(10**7, 3), maxshape=(None, 3), compression="gzip"
        )
        made[...] = 0.0
    with pytest.raises(EnsembleError, match=r"/series/action is stored in pieces of 240000000 bytes"):
        Ensemble.open(path)


def test_multiples_are_counted_without_making_them() -> None:
    for start, stop, every in [(0, 0, 1), (0, 10, 3), (4, 5, 5), (5, 6, 5), (7, 30, 7), (9, 3, 2)]:
        assert n_multiples(start, stop, every) == len(multiples(start, stop, every))
