"""Flipped bytes, and a reader who does not verify: an error, or the numbers that were stored; never others."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from ensembles.toy_chain import HEADER, run, start, write

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, contents
from lattice_flows.ensembles.checksum import content_sha256
from lattice_flows.ensembles.listing import survey

pytestmark = pytest.mark.usefixtures("no_endless_loop")

WIDE = FieldSpec("phi", ("x0", "x1"), (64, 64))  # 80 configurations of it are three chunks


@pytest.fixture(scope="module", params=["toy", "wide", "gzip"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "e.h5"
    if request.param == "toy":
        write(path, (11,))
    else:
        write_wide(path, "gzip" if request.param == "gzip" else "none")
    return path


def write_wide(path: Path, compression: str) -> None:
    rng = np.random.default_rng(7)
    block = Block({"action": rng.random((80, 1))}, {}, rng.random((80, 1, 64, 64)), {"log_w": rng.random((9, 1))})
    state = {"links": rng.random((1, 64, 64)), "counter": 12345}
    with Ensemble.create(
        path, header=HEADER, chains=range(1), field=WIDE, store_fields=True, compression=compression
    ) as writer:
        writer.append(block)
        writer.commit(state, seconds=1.0)
        writer.finish()


def read(path: Path) -> object:
    """All that a reader can ask for. One who never verifies."""
    message = ""
    try:
        with Ensemble.open(path) as ensemble:
            found = [ensemble.attributes, ensemble.configs(0, ensemble.n_configs).tobytes()]
            found += [(name, ensemble.series(name).tobytes()) for name in ensemble.series_names]
            found += [(name, ensemble.proposals(name).tobytes()) for name in ensemble.proposal_names]
            found += [(name, values.tobytes()) for name, values in ensemble.state().items()]
            return found
    except EnsembleError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


def read_plainly(path: Path) -> object:
    """Each dataset of the tables and the state by h5py alone; None for what it refuses."""
    names = ["fields", "series", "proposals", "state"]
    found: dict[str, bytes] = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and name.partition("/")[0] in names:
            found[name] = item[()].tobytes()

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except (OSError, RuntimeError, KeyError):
        return None
    return found


def regions(path: Path) -> dict[str, list[int]]:
    """Bytes of the file by what they hold."""
    content = path.read_bytes()
    with h5py.File(path) as file:
        data: list[int] = []
        for dataset in survey(file).datasets.values():
            if dataset.get_create_plist().get_nfilters():
                dataset.chunk_iter(lambda chunk: data.extend(range(chunk.byte_offset, chunk.byte_offset + chunk.size)))
    metadata = {"heap": (b"GCOL", 4096), "chunk index": (b"FADB", 120), "object header": (b"OHDR", 300)}
    found = {"data": data, "file": list(range(len(content)))}
    for what, (signature, length) in metadata.items():
        at = content.find(signature)
        found[what] = []
        while at >= 0:
            found[what] += range(at, min(at + length, len(content)))
            at = content.find(signature, at + 4)
    return found


def n_refused(path: Path, offsets: np.ndarray, rng: np.random.Generator, read: Callable[[Path], object]) -> int:
    """Flip bits at each of these places in turn; how many reads were refused. All others gave what was stored."""
    stored, refused = read(path), 0
    assert stored is not None
    descriptor = os.open(path, os.O_RDWR)
    try:
        for offset in offsets:
            right = os.pread(descriptor, 1, int(offset))
            os.pwrite(descriptor, bytes([right[0] ^ int(rng.integers(1, 256))]), int(offset))
            found = read(path)
            os.pwrite(descriptor, right, int(offset))
            assert found is None or found == stored, f"byte {offset} was flipped, and read as if it were physics"
            refused += found is None
    finally:
        os.close(descriptor)
    return refused


@pytest.mark.parametrize("reader", [read, read_plainly])
def test_a_flipped_byte_is_never_read_as_physics(
    reader: Callable[[Path], object], path: Path, rng: np.random.Generator
) -> None:
    found = regions(path)
    assert bool(found["chunk index"]) == (path.parent.name[:3] != "toy")
    for what, places in found.items():
        if not places:
            continue
        offsets = rng.choice(places, min(40, len(places)), replace=False)
        refused = n_refused(path, offsets, rng, reader)
        if what == "data":
            assert refused == len(offsets)
        elif not (what == "heap" and reader is read_plainly):  # datasets are read without the heap
            assert refused > 0, f"no flip in the {what} was noticed"


def test_every_byte_of_a_scalar_counts(tmp_path: Path, rng: np.random.Generator) -> None:
    """It cannot be chunked, so it has no fletcher32; a counter of random numbers is one."""
    path = tmp_path / "e.h5"
    write(path, (3,))
    stored = Ensemble.open(path).state()["generator/counter"].tobytes()
    at = path.read_bytes().index(stored)
    for reader in (read, read_plainly):
        assert n_refused(path, np.arange(at, at + len(stored)), rng, reader) == len(stored)


def test_every_text_and_number_of_the_header_counts(tmp_path: Path) -> None:
    """A flip in the card lies in the heap, which HDF5 reads without a word."""
    path = tmp_path / "e.h5"
    write(path, (3,))
    content = path.read_bytes()
    for text in (b'{"name": "u1"}', "beta = 6.0  # β\n".encode(), b"theta", b"float64"):
        assert text in content
        path.write_bytes(content.replace(text, text[:3] + bytes([text[3] ^ 1]) + text[4:], 1))
        with pytest.raises(EnsembleError, match=r"e\.h5: (damaged: its attributes|broken)"):
            Ensemble.open(path)


def as_older(path: Path) -> None:
    """The file as it was written before datasets and header had checksums of their own."""
    with h5py.File(path, "r+") as file:
        for name in ("compression", "header_sha256", "sha256"):
            del file.attrs[name]
        file.attrs["sha256"] = content_sha256(file)


def test_older_files_are_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.h5"

    def plain(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, compression: str) -> h5py.Dataset:
        return group.create_dataset(name, shape=shape, dtype=dtype)

    with monkeypatch.context() as patch:
        patch.setattr(contents, "_create", plain)
        write(path, (5,))
    as_older(path)
    stored = read(path)
    with Ensemble.open(path) as ensemble:
        assert "its attributes are checked only here" in ensemble.verify()[0]
        assert ensemble.attributes["compression"] == "none"
        action = ensemble.series("action")
        np.testing.assert_array_equal(action, run(start(), 0, 5)[0].series["action"])
    path.write_bytes(path.read_bytes().replace(action[3].tobytes(), action[2].tobytes(), 1))
    assert read(path) not in (None, stored)  # why new files have checksums
    with pytest.raises(EnsembleError, match="damaged"):
        Ensemble.open(path).verify()
