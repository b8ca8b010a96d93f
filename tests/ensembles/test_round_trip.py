"""What is put into an ensemble comes out of it, and nothing else goes in."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from ensembles.toy_chain import CHAINS, FIELD, HEADER, contents, create, extend, run, start, write

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, multiples
from lattice_flows.ensembles.layout import chunk_shape

SIZES = (5, 0, 1, 14, 20)


@pytest.fixture(params=["segments", "joined", "both"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One ensemble of 40 configurations in its three forms on disk."""
    path = tmp_path / "deep" / "toy.0.h5"
    if request.param == "both":
        write(path, SIZES[:3])
        with Ensemble.resume(path) as writer:
            extend(writer, writer.state(), SIZES[3:])
    else:
        write(path, SIZES, finish=request.param == "joined")
    return path


def test_everything_comes_back(path: Path) -> None:
    block, state = run(start(), 0, 40)
    with Ensemble.open(path) as ensemble:
        assert (ensemble.n_configs, ensemble.n_chains, ensemble.first_chain, ensemble.has_fields) == (40, 3, 2, True)
        assert ensemble.seconds == 0.25 * len(SIZES)
        assert ensemble.series_names == sorted(block.series)
        assert ensemble.proposal_names == ["log_w"]
        for name, values in block.series.items():
            assert ensemble.series(name).dtype == values.dtype
            np.testing.assert_array_equal(ensemble.series(name), values)
        np.testing.assert_array_equal(ensemble.series_configs("wilson_loop"), np.arange(0, 40, 3))
        np.testing.assert_array_equal(ensemble.series_configs("action"), np.arange(40))
        np.testing.assert_array_equal(ensemble.proposals("log_w"), block.proposals["log_w"])
        for begin, end in [(0, 40), (0, 0), (40, 40), (4, 7), (19, 21), (39, 40)]:
            np.testing.assert_array_equal(ensemble.configs(begin, end), block.fields[begin:end])
        found = ensemble.state()
        assert found.keys() == state.keys()
        for name, values in state.items():
            assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
            np.testing.assert_array_equal(found[name], values)
        assert ensemble.verify()


def test_attributes(path: Path) -> None:
    with Ensemble.open(path) as ensemble:
        attributes = ensemble.attributes
    assert {name: attributes[name] for name in HEADER} == HEADER
    assert all(type(attributes[name]) is type(value) for name, value in HEADER.items())
    assert attributes["format"] == "lattice_flows ensemble"
    assert (attributes["schema_version"], attributes["shape"], attributes["n_configs"]) == (1, (4, 4), 40)


def test_what_is_not_there_is_refused_in_words(path: Path) -> None:
    with Ensemble.open(path) as ensemble:
        with pytest.raises(EnsembleError, match="no 'plaquette' in /series; available: action, topol"):
            ensemble.series("plaquette")
        for begin, end in [(-1, 3), (3, 41), (5, 4)]:
            with pytest.raises(EnsembleError, match="holds the configurations 0 to 40"):
                ensemble.configs(begin, end)


def test_state_dtypes(tmp_path: Path, rng: np.random.Generator) -> None:
    state = {
        f"{dtype}/{len(shape)}/x{np.prod(shape)}": rng.integers(0, 256, shape).astype(dtype)
        for dtype in ("uint64", "uint8", "float64", "int64", "bool", "float32", "int32")
        for shape in [(), (0,), (3,), (4, 4, 4)]
    }
    with create(tmp_path / "e.h5") as writer:
        writer.commit({**state, "number": 7}, seconds=0.0)
        found = writer.state()
        writer.finish()
    for arrays in (found, Ensemble.open(tmp_path / "e.h5").state()):
        assert arrays.pop("number").dtype == np.int64
        assert arrays.keys() == state.keys()
        for name, array in state.items():
            assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    "state",
    [{"a": 1, "a/b": 2}, {"": 1}, {"a//b": 1}, {"length_3": 1}, {"a": "text"}, {"a": np.array([None])}, {"../a": 1}],
)
def test_states_that_hdf5_cannot_hold_are_refused(state: dict, tmp_path: Path) -> None:
    with create(tmp_path / "e.h5") as writer, pytest.raises(EnsembleError, match="state"):
        writer.commit(state, seconds=0.0)
    assert not Ensemble.exists(tmp_path / "e.h5")


def test_series_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    values = np.ones((4, 3))
    with Ensemble.create(path, header={}, chains=CHAINS, field=FIELD, store_fields=False) as writer:
        with pytest.raises(EnsembleError, match="store_fields = false"):
            writer.append(Block({"action": values}, fields=np.zeros((4, 3, 2, 4, 4))))
        writer.append(Block({"action": values, "accepted": values > 0}))
        writer.commit({}, seconds=1.0)
        writer.finish()
    with Ensemble.open(path) as ensemble:
        assert not ensemble.has_fields
        assert ensemble.series("accepted").dtype == np.int64
        with pytest.raises(EnsembleError, match="stores only series"):
            ensemble.configs(0, 1)
        assert ensemble.proposal_names == []


def test_thermalisation_stores_a_state_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        writer.commit({"n_thermalised": 50}, seconds=0.0)
    assert Ensemble.open(path).n_configs == 0
    assert Ensemble.open(path).series_names == []
    with Ensemble.resume(path) as writer:
        assert writer.state()["n_thermalised"] == 50
        extend(writer, start(), (7, 3))
        writer.finish()
    write(tmp_path / "plain.h5", (10,))
    assert contents(path) == contents(tmp_path / "plain.h5")


def broken_blocks() -> dict[str, Block]:
    good, _ = run(start(), 0, 4)
    series, fields = dict(good.series), good.fields
    return {
        "no series": Block({}, {}, fields),
        "a series is missing": Block({"action": series["action"]}, {}, fields),
        "another every": Block(series, {"wilson_loop": 2}, fields),
        "every of no series": Block(series, {**good.every, "plaquette": 2}, fields),
        "too short": Block({**series, "action": series["action"][:3]}, good.every, fields),
        "one chain": Block({**series, "action": series["action"][:, :1]}, good.every, fields),
        "float for int": Block({**series, "topological_charge": series["action"]}, good.every, fields),
        "text": Block({**series, "action": series["action"].astype(str)}, good.every, fields),
        "objects": Block({**series, "action": series["action"].astype(object)}, good.every, fields),
        "no fields": Block(series, good.every),
        "fields of another shape": Block(series, good.every, fields[..., :3]),
        "fields of another dtype": Block(series, good.every, fields.astype(np.float32)),
        "proposals of another name": Block(series, good.every, fields, {"log_q": np.ones((1, 3))}),
        "proposals of another shape": Block(series, good.every, fields, {"log_w": np.ones((1, 2))}),
    }


@pytest.mark.parametrize("fault", broken_blocks())
def test_a_block_that_does_not_fit_is_refused_whole(fault: str, tmp_path: Path) -> None:
    with create(tmp_path / "e.h5") as writer:
        state = extend(writer, start(), (3,))
        with pytest.raises(EnsembleError, match=r"^block"):
            writer.append(broken_blocks()[fault])
        extend(writer, state, (4,))
        writer.finish()
    write(tmp_path / "plain.h5", (7,))
    assert contents(tmp_path / "e.h5") == contents(tmp_path / "plain.h5")


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_configs", 3), ("a b", 3), ("a", None), ("a", [1]), ("a", 2**64), ("a", "\0"), ("sha256", "")],
)
def test_header_of_plain_text_and_numbers(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(EnsembleError, match=r"^header"):
        Ensemble.create(tmp_path / "e.h5", header={name: value}, chains=CHAINS, field=FIELD, store_fields=True)


@pytest.mark.parametrize("finish", [False, True])
def test_nothing_is_overwritten(finish: bool, tmp_path: Path) -> None:
    write(tmp_path / "e.h5", (3,), finish)
    with pytest.raises(EnsembleError, match="not overwritten"):
        create(tmp_path / "e.h5")
    assert Ensemble.open(tmp_path / "e.h5").n_configs == 3


def test_misuse_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    for method in (Ensemble.open, Ensemble.resume):
        with pytest.raises(EnsembleError, match="no such ensemble"):
            method(path)
    with pytest.raises(EnsembleError, match=r"named NAME\.h5"):
        Ensemble.open(tmp_path / "e.hdf")
    with pytest.raises(EnsembleError, match=r"e\.h5: no such ensemble"):
        Ensemble.open(tmp_path / "e.segments")  # stands for NAME.h5
    with pytest.raises(EnsembleError, match="range"):
        Ensemble.create(path, header={}, chains=(0, 4), field=FIELD, store_fields=True)  # type: ignore[arg-type]
    with create(path) as writer:
        with pytest.raises(EnsembleError, match="nothing was committed"):
            writer.finish()
        writer.append(run(start(), 0, 2)[0])
        with pytest.raises(EnsembleError, match="commit them"):
            writer.finish()
    with pytest.raises(EnsembleError, match="closed"):
        writer.commit({}, seconds=0.0)
    with pytest.raises(EnsembleError, match="its own name"):
        FieldSpec("theta", ("mu", "x0"), (2, 4, 4))
    assert list(tmp_path.iterdir()) == []


def test_multiples_cut_anywhere_are_the_same() -> None:
    for cut in range(31):
        parts = np.concatenate([multiples(0, cut, 7), multiples(cut, 30, 7)]) if cut <= 30 else []
        np.testing.assert_array_equal(parts, [0, 7, 14, 21, 28])


@pytest.mark.parametrize(
    "shape", [(10**5, 4, 2, 16, 16), (700, 300, 2, 16, 16), (3, 2, 4, 64, 64, 64), (10, 3 * 10**5), (131073,)]
)
def test_chunks_of_a_quarter_to_one_mebibyte(shape: tuple[int, ...]) -> None:
    chunks = chunk_shape(shape, 8)
    assert chunks is not None
    assert 2**18 <= 8 * np.prod(chunks) <= 2**20
    assert chunk_shape((131072,), 8) == (131072,)


def test_large_tables_are_chunked_on_disk_and_not_compressed(tmp_path: Path, rng: np.random.Generator) -> None:
    field = FieldSpec("phi", ("x0", "x1"), (32, 32), "float32")
    values = rng.random((700, 2, 32, 32)).astype(np.float32)
    with Ensemble.create(tmp_path / "e.h5", header={}, chains=range(2), field=field, store_fields=True) as writer:
        for begin in range(0, 700, 100):
            writer.append(Block({"action": np.zeros((100, 2))}, fields=values[begin : begin + 100]))
            if begin == 300:
                writer.commit({}, seconds=0.0)
        writer.commit({}, seconds=0.0)
        np.testing.assert_array_equal(Ensemble.open(tmp_path / "e.h5").configs(350, 650), values[350:650])
        writer.finish()
    with h5py.File(tmp_path / "e.h5") as file:
        dataset = file["fields/phi"]
        assert 2**18 <= 4 * np.prod(dataset.chunks) <= 2**20
        assert dataset.compression is None
        np.testing.assert_array_equal(dataset[()], values)
        assert file["series/action"].chunks == (700, 2)
