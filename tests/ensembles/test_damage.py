"""Truncated, flipped, foreign, edited: found at opening or by verify, and said in one line that names the file."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from ensembles.toy_chain import write

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec
from lattice_flows.ensembles.checksum import content_sha256

pytestmark = pytest.mark.usefixtures("no_endless_loop")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("intact") / "e.h5"
    write(path, (11,))
    return path.read_bytes()


def data_offset(dataset: h5py.Dataset) -> int:
    return dataset.id.get_chunk_info(0).byte_offset


def read_all(path: Path) -> list[object]:
    with Ensemble.open(path) as ensemble:
        ensemble.verify()
        arrays = [ensemble.series(name) for name in ensemble.series_names]
        arrays += [ensemble.series_configs(name) for name in ensemble.series_names]
        arrays += [ensemble.configs(0, ensemble.n_configs), ensemble.proposals("log_w")]
        return [ensemble.attributes, *(array.tobytes() for array in arrays)]


def survives(path: Path, reference: list[object]) -> bool:
    """False where the damage was found; True where the content is untouched; fails on anything else."""
    message = ""
    try:
        found = read_all(path)
    except EnsembleError as error:
        message = str(error)
    if message:
        assert str(path) in message
        assert "\n" not in message
        return False
    assert found == reference, "damage went unnoticed"
    return True


def test_any_flipped_byte_is_found(intact: bytes, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(intact)
    reference = read_all(path)
    n_untouched = 0
    for _ in range(150):
        offset, mask = int(rng.integers(len(intact))), int(rng.integers(1, 256))
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ mask]) + intact[offset + 1 :])
        n_untouched += survives(path, reference)
    assert n_untouched < 75  # unused room in the container: not the rule


def test_any_flipped_byte_of_the_heap_is_found(intact: bytes, tmp_path: Path, rng: np.random.Generator) -> None:
    """The global heaps have no checksum: HDF5 would read on, and loop for ever at some of these."""
    path = tmp_path / "e.h5"
    path.write_bytes(intact)
    reference = read_all(path)
    heap = intact.index(b"GCOL\x01")
    n_untouched = 0
    for offset in rng.permutation(range(heap, heap + 1024))[:100]:
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ 0x80]) + intact[offset + 1 :])
        n_untouched += survives(path, reference)
    assert n_untouched < 90


def test_every_byte_of_the_data_counts(intact: bytes, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(intact)
    with h5py.File(path) as file:
        offsets = [data_offset(file["fields/theta"]) + int(rng.integers(11 * 3 * 32 * 8)) for _ in range(20)]
        offsets += [data_offset(file["series/action"]), data_offset(file["state/links"]) + 7]
    for offset in offsets:
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ 1]) + intact[offset + 1 :])
        with pytest.raises(EnsembleError, match="damaged"):
            Ensemble.open(path).verify()


@pytest.mark.parametrize("where", ["joined", "segment"])
def test_truncated_or_foreign_bytes(where: str, intact: bytes, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "e.h5"
    write(path, (5, 6), finish=False)
    target = path if where == "joined" else tmp_path / "e.segments" / "000001.h5"
    whole = intact if where == "joined" else target.read_bytes()
    cuts = [whole[: int(rng.integers(len(whole)))] for _ in range(20)]
    for bytes_ in [b"", b"seed = 1\n", b"\x89HDF\r\n\x1a\n", rng.bytes(5000), whole[:-1], *cuts]:
        target.write_bytes(bytes_)
        with pytest.raises(EnsembleError, match=target.name):
            Ensemble.open(path)
        with pytest.raises(EnsembleError, match=target.name):
            Ensemble.resume(path)
    assert not path.with_suffix(".lock").exists()


def foreign(file: h5py.File) -> None:
    file["data"] = np.arange(3)


def other_version(file: h5py.File) -> None:
    file.attrs.update({"format": "lattice_flows ensemble", "schema_version": 2})


def no_attributes(file: h5py.File) -> None:
    file.attrs.update({"format": "lattice_flows ensemble", "schema_version": 1})


@pytest.mark.parametrize(
    ("build", "message"), [(foreign, "not an ensemble"), (other_version, "version 2"), (no_attributes, "missing")]
)
def test_foreign_hdf5(build: Callable[[h5py.File], None], message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "e.h5", "w") as file:
        build(file)
    with pytest.raises(EnsembleError, match=message):
        Ensemble.open(tmp_path / "e.h5")


def rename(file: h5py.File) -> None:
    file.move("series/action", "series/plaquette")


def swap(file: h5py.File) -> None:
    file.move("series/action", "series/other")
    file.copy(file["series/wilson_loop"], file["series"], "action")


def other_chains(file: h5py.File) -> None:
    file.attrs["first_chain"] = 7


def longer(file: h5py.File) -> None:
    file.attrs["n_configs"] = 12


def other_card(file: h5py.File) -> None:
    file.attrs["card"] = "beta = 7.0  # β\n"


def other_type(file: h5py.File) -> None:
    values = file["state/generator/counter"][()]
    del file["state/generator/counter"]
    file["state/generator/counter"] = values.astype(np.int64)


def other_axis(file: h5py.File) -> None:
    file["series/action"].dims[0].detach_scale(file["config"])


def one_more(file: h5py.File) -> None:
    file["state/extra"] = 1


def no_state(file: h5py.File) -> None:
    del file["state"]


EDITS = [rename, swap, other_chains, longer, other_card, other_type, other_axis, one_more, no_state]


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_found(edit: Callable[[h5py.File], None], intact: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    path.write_bytes(intact)
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(EnsembleError, match=r"e\.h5"):
        Ensemble.open(path).verify()


def test_a_damaged_segment_is_not_joined(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (5, 6), finish=False)
    segment = tmp_path / "e.segments" / "000000.h5"
    with h5py.File(segment) as file:
        offset = data_offset(file["series/action"])
    content = bytearray(segment.read_bytes())
    content[offset] ^= 1
    segment.write_bytes(content)
    with Ensemble.resume(path) as writer, pytest.raises(EnsembleError, match=r"000000\.h5: damaged"):
        writer.finish()
    assert not path.exists()
    assert segment.exists()


def test_the_checksum_is_the_one_that_is_documented(tmp_path: Path) -> None:
    """Computed once by hand from the definition: a change of the definition makes old files unverifiable."""
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.attrs["text"] = "β"
        file.create_dataset("x", data=np.array([1, 2], ">i4"))
        by_hand = (
            b'["group", "/", null, null]\n["/", "text", "text", [], "\\u03b2"]\n'
            b'["dataset", "/x", "<i4", [2]]\n\x01\0\0\0\x02\0\0\0'
        )
        assert content_sha256(file) == hashlib.sha256(by_hand).hexdigest()


def test_checksum_and_join_need_little_memory(tmp_path: Path) -> None:
    """64 MB are verified and joined; the process grows by far less. Both files hold what was put in."""
    path = tmp_path / "e.h5"
    field = FieldSpec("phi", ("x0", "x1"), (128, 128))
    values = np.arange(500 * 128.0 * 128).reshape(500, 1, 128, 128)
    with Ensemble.create(path, header={}, chains=range(1), field=field, store_fields=True) as writer:
        for begin in range(0, 500, 50):
            writer.append(Block({"action": values[begin : begin + 50, :, 0, 0]}, fields=values[begin : begin + 50]))
            writer.commit({}, seconds=0.0)
    script = (
        "import sys; from pathlib import Path; from lattice_flows.ensembles import Ensemble\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak(); writer = Ensemble.resume(sys.argv[1]); writer.finish(); Ensemble.open(sys.argv[1]).verify()\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40, "MB"
    np.testing.assert_array_equal(Ensemble.open(path).configs(480, 500), values[480:])
    np.testing.assert_array_equal(Ensemble.open(path).series("action"), values[:, :, 0, 0])
