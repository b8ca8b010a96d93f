"""gzip and float32 on the disk, the state in full, and everything else as without them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from ensembles.toy_chain import CHAINS, FIELD, HEADER, contents, start

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, EnsembleWriter, FieldSpec

WALK = FieldSpec("theta", ("mu", "x0", "x1"), (2, 16, 16), "float32")


def create(path: Path, dtype: str, compression: str) -> EnsembleWriter:
    field = FieldSpec(WALK.name, WALK.dims, WALK.shape, dtype)
    return Ensemble.create(
        path, header=HEADER, chains=range(3), field=field, store_fields=True, compression=compression
    )


def extend(writer: EnsembleWriter, x: np.ndarray, n: int) -> np.ndarray:
    """A slow walk in float64, stored as the ensemble has it: neighbouring configurations share their leading bits."""
    fields = []
    for _ in range(n):
        x = x + 1e-4 * np.sin(3 * x)
        fields.append(x)
    stored = np.array(fields).reshape(n, *x.shape)
    writer.append(Block({"action": stored.sum(axis=(2, 3, 4))}, {}, stored.astype(writer.design.field.dtype)))
    writer.commit({"x": x}, seconds=0.5)
    return x


def begin() -> np.ndarray:
    return np.linspace(-3, 3, 3 * 512).reshape(3, 2, 16, 16)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_resumed_is_uninterrupted(dtype: str, compression: str, tmp_path: Path) -> None:
    plain, cut = tmp_path / "plain.h5", tmp_path / "cut.h5"
    with create(plain, dtype, compression) as writer:
        extend(writer, begin(), 200)
        writer.finish()
    with create(cut, dtype, compression) as writer:
        extend(writer, begin(), 80)
    with Ensemble.resume(cut) as writer:
        extend(writer, writer.state()["x"], 70)
        writer.finish()
    with Ensemble.resume(cut) as writer:
        assert writer.state()["x"].dtype == np.float64
        extend(writer, writer.state()["x"], 50)
        writer.finish()
    assert contents(cut) == contents(plain)
    with Ensemble.open(cut) as ensemble, h5py.File(cut) as file:
        assert ensemble.verify()
        assert ensemble.field.dtype == dtype
        assert ensemble.attributes["compression"] == compression == file.attrs["compression"]
        dataset = file["fields/theta"]
        assert dataset.fletcher32
        assert (dataset.compression, dataset.shuffle) == (("gzip", True) if compression == "gzip" else (None, False))
        assert file["series/action"].compression is None
        np.testing.assert_array_equal(dataset[120:140], ensemble.configs(120, 140))


def test_files_get_smaller(tmp_path: Path) -> None:
    sizes = {}
    for dtype in ("float64", "float32"):
        for compression in ("none", "gzip"):
            path = tmp_path / f"{dtype}_{compression}.h5"
            with create(path, dtype, compression) as writer:
                extend(writer, begin(), 200)
                segment = path.with_suffix(".segments") / "000000.h5"
                segment_bytes = segment.stat().st_size
                writer.finish()
            sizes[dtype, compression] = path.stat().st_size
            assert abs(segment_bytes / sizes[dtype, compression] - 1) < 0.1
    assert sizes["float32", "none"] < 0.6 * sizes["float64", "none"]
    for dtype in ("float64", "float32"):
        assert sizes[dtype, "gzip"] < 0.9 * sizes[dtype, "none"]


def test_the_state_is_never_rounded(tmp_path: Path) -> None:
    with create(tmp_path / "e.h5", "float32", "gzip") as writer:
        x = extend(writer, begin(), 4)
        np.testing.assert_array_equal(writer.state()["x"], x)
        assert not np.array_equal(Ensemble.open(tmp_path / "e.h5").configs(3, 4)[0], x)


@pytest.mark.parametrize("compression", ["lzf", "", None, 4])
def test_an_unknown_compression_is_refused(compression: object, tmp_path: Path) -> None:
    with pytest.raises(EnsembleError, match="available: none, gzip"):
        Ensemble.create(
            tmp_path / "e.h5",
            header={},
            chains=CHAINS,
            field=FIELD,
            store_fields=True,
            compression=compression,  # type: ignore[arg-type]
        )
    assert not list(tmp_path.iterdir())


def test_a_segment_of_another_compression_is_of_another_ensemble(tmp_path: Path) -> None:
    for name, compression in (("a", "none"), ("b", "gzip")):
        with create(tmp_path / f"{name}.h5", "float64", compression) as writer:
            x = begin()
            for _ in range(2):
                x = extend(writer, x, 3)
    (tmp_path / "b.segments" / "000001.h5").replace(tmp_path / "a.segments" / "000001.h5")
    with pytest.raises(EnsembleError, match="compression"):
        Ensemble.open(tmp_path / "a.h5")


def test_fields_of_another_dtype_are_refused(tmp_path: Path) -> None:
    with create(tmp_path / "e.h5", "float32", "none") as writer, pytest.raises(EnsembleError, match="float32"):
        writer.append(Block({"action": np.zeros((1, 3))}, {}, start()["links"][None]))
