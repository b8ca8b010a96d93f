"""Checkpoint files: atomic, and nothing in them is executed."""

import math
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from full_disk import FullDisk

import lattice_flows
from lattice_flows.training import Checkpoint, CheckpointError, load_flow_weights, read_checkpoint, save_checkpoint
from lattice_flows.training.history import Record, append_record, read_history, truncate_history

pytestmark = pytest.mark.quick

PACKAGE = Path(lattice_flows.__file__).parent
WEIGHTS = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
CHECKPOINT = Checkpoint(
    header={"theory": {"beta": 2.0}},
    settings={"max_steps": 3},
    seed=1,
    threads=1,
    step=2,
    train_seconds=0.5,
    reason="",
    worst_loss=10.0,
    flow={name: weight + 1 for name, weight in WEIGHTS.items()},
    average=WEIGHTS,
    optimizer={"state": {}, "param_groups": []},
    generators=[torch.Generator().manual_seed(1).get_state()],
)


class Intruder:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    back = read_checkpoint(path)
    assert back.header == CHECKPOINT.header
    assert back.settings == CHECKPOINT.settings
    assert back.step == 2
    assert all(torch.equal(back.average[name], weight) for name, weight in WEIGHTS.items())
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", FullDisk(1000))
        with pytest.raises(OSError, match="No space left") as caught:
            save_checkpoint(path, replace(CHECKPOINT, step=3))
    assert caught.value.filename == str(path)
    assert read_checkpoint(path).step == 2
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


RECORD = Record(5, 0.1, -1.0, 0.5, 2.0, 1e-3, 1.0, 3.0, ess_error=0.01, log_z_upper=None, batch_size=64.0)


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    """Also what is not known; but what always is may not be missing."""
    path = tmp_path / "history.csv"
    append_record(path, RECORD)
    assert read_history(path) == [RECORD]
    path.write_text(path.read_text().replace("-1.0,0.5", "-1.0,"))
    with pytest.raises(CheckpointError, match="a value that is not a number"):
        read_history(path)


def test_a_kill_or_a_full_disk_may_meet_any_byte_of_the_history(tmp_path: Path) -> None:
    """What is whole is read, and a training goes on from any of them: cut rows are of steps done again."""
    path = tmp_path / "history.csv"
    for step in (5, 10):
        append_record(path, replace(RECORD, step=step))
    whole = path.read_bytes()
    heading, first = (len(b"".join(whole.splitlines(keepends=True)[:n])) for n in (1, 2))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        truncate_history(path, 5)
        assert [record.step for record in (read_history(path) if path.exists() else [])] == [5] * (length >= first)
        if length < heading:
            assert not path.exists()
        append_record(path, replace(RECORD, step=10))
        assert read_history(path)[-1].step == 10


def test_a_history_of_fewer_columns_goes_on_with_those(tmp_path: Path) -> None:
    """The columns that came later are not known of it; what is no beginning of the columns is no history."""
    path = tmp_path / "history.csv"
    append_record(path, replace(RECORD, step_error=1e-9))
    *kept, last = zip(*(line.split(",") for line in path.read_text().splitlines()))
    assert last == ("step_error", "1e-09")
    older = "".join(",".join(row) + "\r\n" for row in zip(*kept))
    path.write_bytes(older.encode())
    append_record(path, replace(RECORD, step=10, step_error=1e-9))
    truncate_history(path, 10)
    assert path.read_bytes().startswith(older.encode())
    assert read_history(path) == [RECORD, replace(RECORD, step=10)]
    for heading in ("step,seconds", "seconds,step,loss,ess,log_z_bound,learning_rate,action_scale,gradient_norm"):
        path.write_text(heading + "\n")
        with pytest.raises(CheckpointError, match="its columns are"):
            read_history(path)


@pytest.mark.parametrize("pack", ["torch", "pickle"])
def test_pickles_are_refused_unexecuted(tmp_path: Path, pack: str) -> None:
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    content = {"format": "lattice_flows training checkpoint", "version": 2, "flow": Intruder(trace)}
    if pack == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert not trace.exists()


def test_truncated_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    whole = path.read_bytes()
    contents = [b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-30], whole[:200]]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(path)) as caught:
            load_flow_weights(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.ones(1)}, "not a checkpoint of lattice_flows"),
        (torch.ones(1), "not a checkpoint of lattice_flows"),
        ({"format": "lattice_flows training checkpoint", "version": 99}, "version 99"),
        (
            {"format": "lattice_flows training checkpoint", "version": 1, "seed": 1},
            "checkpoint version 1, this package reads 2; train again",
        ),
        ({"format": "lattice_flows training checkpoint", "version": 2, "seed": 1}, "incomplete checkpoint"),
    ],
)
def test_other_torch_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "other.pt")


def test_checksum_is_of_header_and_averaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"

    def checksum(checkpoint: Checkpoint) -> str:
        save_checkpoint(path, checkpoint)
        return load_flow_weights(path).sha256

    original = checksum(CHECKPOINT)
    assert checksum(replace(CHECKPOINT, train_seconds=9.0, average=dict(reversed(WEIGHTS.items())))) == original
    assert checksum(replace(CHECKPOINT, header={"theory": {"beta": 3.0}})) != original
    changed = {"b": WEIGHTS["b"].clone(), "a": WEIGHTS["a"]}
    changed["b"][0] += 1e-30
    assert checksum(replace(CHECKPOINT, average=changed)) != original
    assert checksum(replace(CHECKPOINT, average={**WEIGHTS, "a": torch.ones(4)})) != original


def test_torch_loads_weights_only():
    """Anything else in a checkpoint could run."""
    calls = [call for path in PACKAGE.rglob("*.py") for call in re.findall(r"torch\.load\(.*", path.read_text())]
    assert calls
    assert all("weights_only=True" in call for call in calls)


NOT_A_NUMBER = {"a": torch.tensor([1.0, math.nan])}
FEW_NUMBERS = {"a": torch.zeros(1).expand(10**12)}  # which no memory holds once they are written out


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("header", "[]", "its header is a list; it should be a table"),
        ("header", '{"theory": 3}', "its theory is '3'; it should be a table"),
        ("settings", 3, "its settings is not JSON"),
        ("seed", "1", "its seed is a str; it should be a whole number"),
        ("threads", 0, "its threads is a int; it should be a whole number of at least 1"),
        ("step", torch.ones(()), "its step is a Tensor; it should be a whole number"),
        ("train_seconds", math.nan, "its train_seconds is a float; it should be a number of seconds"),
        ("reason", None, "its reason is a NoneType; it should be a text"),
        ("flow", torch.ones(2), "its flow is a Tensor; it should be tensors by name"),
        ("flow", NOT_A_NUMBER, "a of its flow weights is not finite"),
        ("average", {3: torch.ones(2)}, "its average is a dict; it should be tensors by name"),
        ("average", {"a": torch.ones(2, dtype=torch.int64)}, "a of its average weights holds torch.int64"),
        ("average", FEW_NUMBERS, "its average is a dict; it should be tensors by name"),
        ("optimizer", [], "its optimizer is a list; it should be a table"),
        ("generators", {"a": 1}, "its generators is a dict; it should be a list of tensors"),
        ("best", {"ess": "high"}, "its best is a dict; it should be numbers by name"),
    ],
)
def test_an_entry_of_another_type_is_named(tmp_path: Path, entry: str, value: object, message: str) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    torch.save({**torch.load(path, weights_only=True), entry: value}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
