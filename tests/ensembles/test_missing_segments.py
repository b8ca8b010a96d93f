"""Segments that vanish from a disk: noticed by the writer at once, and what is left is read as what it is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ensembles.toy_chain import CHAINS, EVERY, create, extend, run, start, write

from lattice_flows.ensembles import Ensemble, EnsembleError, StorageError
from lattice_flows.ensembles.layout import segment_path, segments_folder

SIZES = (4, 3, 5, 6, 2)  # of the segments: they begin at 0, 4, 7, 12, 18 and end at 20


def whole(path: Path) -> dict[str, np.ndarray]:
    """Everything that the chain makes, by name."""
    block, _ = run(start(), 0, sum(SIZES))
    assert block.fields is not None
    return {"fields": block.fields, **block.series, **{f"proposals {k}": v for k, v in block.proposals.items()}}


def damaged(path: Path, gone: tuple[int, ...]) -> None:
    write(path, SIZES, finish=False)
    for number in gone:
        segment_path(path, number).unlink()


@pytest.mark.parametrize(
    ("gone", "first", "last"),
    [
        ((0,), 6, 20),  # 4 is no multiple of 3, at which the Wilson loop is measured
        ((1,), 9, 20),  # the 13 behind the gap are more than the 4 before it
        ((3,), 0, 12),
        ((2, 4), 0, 7),
    ],
)
def test_the_largest_piece_without_a_gap_is_read(gone: tuple[int, ...], first: int, last: int, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    damaged(path, gone)
    with pytest.raises(EnsembleError, match=r"00000\d\.h5: missing, although .* `lattice-flows analyse` and `export`"):
        Ensemble.open(path)
    with pytest.raises(EnsembleError, match="missing"):
        Ensemble.resume(path)
    expected = whole(path)
    with Ensemble.open_remains(path) as left:
        assert left.n_configs == last - first
        assert np.array_equal(left.configs(0, last - first), expected["fields"][first:last])
        assert np.array_equal(left.series("action"), expected["action"][first:last])
        loop = left.series("wilson_loop")
        assert np.array_equal(loop, expected["wilson_loop"][first // EVERY["wilson_loop"] :][: len(loop)])
        assert len(loop) == len(left.series_configs("wilson_loop")) == -(-(last - first) // EVERY["wilson_loop"])
        assert np.array_equal(np.concatenate([block for _, block in left.blocks(1000)]), expected["fields"][first:last])
        assert np.array_equal(left.series("action", last=2), expected["action"][last - 2 : last])
        told = f"of the configurations 0 to {19 if 4 not in gone else 17} only {first} to {last - 1} are read"
        assert told in left.loss
        assert left.attributes["loss"] == left.loss
        with pytest.raises(EnsembleError, match=rf"{told}.*; the \d files that hold these are whole"):
            left.verify()


def test_proposals_are_those_of_the_files_that_are_left(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    damaged(path, (0, 1))
    before = len(run(start(), 0, 7)[0].proposals["log_w"])
    with Ensemble.open_remains(path) as left:
        assert np.array_equal(left.proposals("log_w"), whole(path)["proposals log_w"][before:])


def test_of_a_whole_ensemble_all_remains(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    for finish in (False, True):
        write(path, SIZES, finish)
        with Ensemble.open_remains(path) as ensemble:
            assert (ensemble.n_configs, ensemble.loss) == (20, "")
            assert "loss" not in ensemble.attributes
        shutil.rmtree(segments_folder(path), ignore_errors=True)
    with pytest.raises(EnsembleError, match="no such ensemble"):
        Ensemble.open_remains(tmp_path / "none.h5")


def test_a_joined_file_that_vanishes_leaves_the_segments_that_continue_it(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    write(path, (4, 3))
    with Ensemble.resume(path) as writer:
        _, state = run(start(), 0, 7)
        extend(writer, state, (5, 6, 2))
    path.unlink()
    with Ensemble.open_remains(path) as left:
        assert np.array_equal(left.configs(0, 11), whole(path)["fields"][9:])


def test_a_thermalisation_that_vanishes_costs_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        writer.commit(start(), seconds=0.0)
        extend(writer, start(), (4, 3))
    segment_path(path, 0).unlink()
    with Ensemble.open_remains(path) as left:
        assert left.n_configs == 7
        assert left.loss == "files are missing, none that held configurations"


@pytest.mark.parametrize("gone", ["first", "folder"])
def test_the_writer_notices_at_the_next_commit_and_loses_nothing_more(gone: str, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with create(path) as writer:
        state = extend(writer, start(), (4, 3))
        if gone == "first":
            segment_path(path, 0).unlink()
        else:
            shutil.rmtree(segments_folder(path))
        others = "has" if gone == "first" else "and 1 other files have"
        told = rf"000000\.h5: {others} vanished while the run was writing; restore it and run again"
        with pytest.raises(StorageError, match=told):
            extend(writer, state, (5,))
    with Ensemble.open_remains(path) as left:
        first = 6 if gone == "first" else 9
        assert np.array_equal(left.configs(0, left.n_configs), whole(path)["fields"][first:12])
        assert left.n_chains == len(CHAINS)
    assert not path.with_suffix(".lock").exists()
