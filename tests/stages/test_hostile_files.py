"""Files that want to run something, to show what is not theirs, or are damaged: one line and status 2."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cards import CLASSICAL, WITH_FLOW
from rich.console import Console

from lattice_flows.ensembles.checksum import content_sha256
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run, sample_stage

N = 40
SECRET = np.arange(N * 3, dtype=np.float64).reshape(N, 3)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """An honest ensemble of three chains."""
    folder = tmp_path_factory.mktemp("intact")
    (folder / "card.toml").write_text(CLASSICAL)
    changes = [f"ensemble.hmc.n_configs={N}", "ensemble.direct.n_configs=1", "ensemble.hmc.n_md_steps=4"]
    sample_stage(folder / "card.toml", folder / "run", changes, ["hmc"], Console(quiet=True))
    return RunFolder(folder / "run").ensemble("hmc")


class Intruder:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def refused(result: tuple[int, str, str], name: str) -> str:
    """The one line of a refusal that names the file."""
    status, out, errors = result
    assert status == 2, (status, out, errors)
    (line,) = errors.strip().splitlines()
    assert line.startswith("lattice-flows: ")
    assert name in line
    return line


@pytest.mark.parametrize("pack", ["torch", "pickle"])
@pytest.mark.parametrize("command", ["verify", "info", "run", "analyse"])
def test_a_checkpoint_that_would_run_something(command, pack, card, lattice_flows, tmp_path):
    out, trace = RunFolder(tmp_path / "out"), tmp_path / "trace"
    path = card(WITH_FLOW)
    out.flow.mkdir(parents=True)
    out.card.write_text(path.read_text())
    checkpoint = out.flow / "checkpoint.pt"
    content = {"format": "lattice_flows training checkpoint", "version": 1, "flow": Intruder(trace)}
    if pack == "torch":
        torch.save(content, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(content))
    given = checkpoint if command in ("verify", "info") else out.path
    refused(lattice_flows(command, given), "holds no ensembles yet" if command == "analyse" else "checkpoint.pt")
    assert not trace.exists()


def replaced(build: Callable[[h5py.Group, Path], None]) -> Callable[[h5py.File, Path], None]:
    """Put something else where /series/action was."""

    def attack(file: h5py.File, other: Path) -> None:
        scales = [file["config"], file["chain"]]
        del file["series/action"]
        build(file["series"], other)
        item = file["series"].get("action")
        if isinstance(item, h5py.Dataset) and item.file.filename == file.filename:
            for axis, scale in zip(item.dims, scales):
                axis.attach_scale(scale)

    return attack


def objects(series: h5py.Group, other: Path) -> None:
    series.create_dataset("action", (N, 3), dtype=h5py.string_dtype())


def soft_link(series: h5py.Group, other: Path) -> None:
    series["action"] = h5py.SoftLink("/series/plaquette")


def external_link(series: h5py.Group, other: Path) -> None:
    series["action"] = h5py.ExternalLink(str(other), "secret")


def external_storage(series: h5py.Group, other: Path) -> None:
    series.create_dataset("action", (N, 3), "f8", external=[(str(other) + ".raw", 0, N * 3 * 8)])


def virtual(series: h5py.Group, other: Path) -> None:
    layout = h5py.VirtualLayout((N, 3), "f8")
    layout[...] = h5py.VirtualSource(str(other), "secret", (N, 3))
    series.create_virtual_dataset("action", layout)


def huge(series: h5py.Group, other: Path) -> None:
    series.create_dataset("action", (10**15, 3), "f8", chunks=(1000, 3))


def endless(file: h5py.File, other: Path) -> None:
    """All that is said agrees, and there are 24 PB of it, none of them on the disk."""
    file.attrs["n_configs"] = 10**15
    replaced(huge)(file, other)


ATTACKS = {
    "objects": replaced(objects),
    "soft_link": replaced(soft_link),
    "external_link": replaced(external_link),
    "external_storage": replaced(external_storage),
    "virtual": replaced(virtual),
    "huge": replaced(huge),
    "endless": endless,
}


@pytest.mark.parametrize("command", ["verify", "info", "analyse"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_ensemble_that_reaches_out(attack, command, intact, lattice_flows, tmp_path):
    """Its checksums are those of its contents: an attacker can compute them, too."""
    path, other = tmp_path / "e.h5", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = SECRET
    (tmp_path / "other.h5.raw").write_bytes(SECRET.tobytes())
    path.write_bytes(intact.read_bytes())
    with h5py.File(path, "r+") as file:
        ATTACKS[attack](file, other)
        sign(file)
    refused(lattice_flows(command, path), "e.h5")


def sign(file: h5py.File) -> None:
    """Bring the checksums up to date, as far as they can be computed."""
    from lattice_flows.ensembles import header

    if hasattr(header, "header_sha256"):
        file.attrs["header_sha256"] = header.header_sha256(file)
    if file.attrs["n_configs"] < 10**6:
        try:
            file.attrs["sha256"] = content_sha256(file)
        except Exception:
            file.attrs["sha256"] = "0" * 64


CARDS = {
    "not text": b"\xff\xfe\x00seed",
    "python": b'seed = __import__("os").system("touch trace")',
    "python in a value": CLASSICAL.replace("beta = 1.5", "beta = \"__import__('os').system('touch trace')\"").encode(),
    "a nest": b"x = " + b"[" * 100_000,
    "a huge number": CLASSICAL.replace("beta = 1.5", "beta = " + "9" * 10_000).encode(),
    "a path": CLASSICAL.replace('name = "hmc"', 'name = "../../hmc"').encode(),
}


@pytest.mark.parametrize("content", CARDS)
def test_a_card_that_would_run_something(content, lattice_flows, tmp_path):
    (tmp_path / "card.toml").write_bytes(CARDS[content])
    refused(lattice_flows("run", "card.toml", "--out", "out"), "card.toml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.toml"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b'{"a": 1}', b"[1]", b'["seed=__import__"]', b"[" * 100_000])
def test_damaged_overrides(content, card, lattice_flows, tmp_path):
    path = card(CLASSICAL)
    out = RunFolder(tmp_path / "out")
    out.path.mkdir()
    out.card.write_text(path.read_text())
    out.overrides.write_bytes(content)
    for command in ("run", "analyse"):
        refused(lattice_flows(command, out.path), "seed" if b"seed" in content else "overrides.json")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run with a joined ensemble, one in segments, a flow and a summary, without figures; and its summary."""
    folder = tmp_path_factory.mktemp("whole_run")
    (folder / "card.toml").write_text(WITH_FLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("lattice_flows.stages.write_report", lambda *arguments: None)
        summary = run(folder / "card.toml", folder / "run", SMALL, Console(quiet=True))
    out = RunFolder(folder / "run")
    in_segments(out.ensemble("hmc"))
    return out, summary


SMALL = [f"ensemble.{name}.n_configs={n}" for name, n in {"flow": 60, "flow_hmc": 4, "hmc": 60}.items()]
SMALL += ["training.max_steps=10", "training.monitor_every=5", "ensemble.flow_hmc.n_md_steps=2"]


def in_segments(path: Path) -> None:
    """The same ensemble as a run leaves it that was killed before it joined its only segment."""
    segment = path.with_suffix(".segments") / "000000.h5"
    segment.parent.mkdir()
    path.rename(segment)


def damages(content: bytes, rng: np.random.Generator, n: int) -> Iterator[bytes]:
    """Cut at the ends and in the middle; then n single bytes flipped."""
    for length in (0, len(content) // 2, len(content) - 1):
        yield content[:length]
    for offset in rng.integers(len(content), size=n):
        yield content[:offset] + bytes([content[offset] ^ int(rng.integers(1, 256))]) + content[offset + 1 :]


FILES = (
    "card.toml",
    "overrides.json",
    "flow/checkpoint.pt",
    "flow/history.csv",
    "flow/evaluation.h5",
    "ensembles/flow.h5",
    "ensembles/hmc.segments/000000.h5",
    "report/summary.json",
)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_told_or_changes_nothing(name, whole_run, lattice_flows, monkeypatch, tmp_path, rng):
    """In one line that names the file; and never is a damaged number taken for physics."""
    monkeypatch.setattr("lattice_flows.stages.write_report", lambda *arguments: None)
    intact, summary = whole_run
    shutil.copytree(intact.path, tmp_path / "run")
    out = RunFolder(tmp_path / "run")
    file, found = out.path / name, 0
    content = file.read_bytes()
    for damaged in damages(content, rng, 10):
        file.write_bytes(damaged)
        for command, given in (("verify", file), ("analyse", out.path)):
            if command == "verify" and file.suffix not in (".h5", ".pt"):
                continue
            if file.parent.suffix == ".segments" and command == "verify":
                given = file.parent.with_suffix(".h5")
            status, _, errors = lattice_flows(command, given)
            assert status in (0, 2)
            if status:
                (line,) = errors.strip().splitlines()
                assert file.name in line or "card.toml" in line or "--set" in line, line  # what an override makes of it
                found += 1
            elif command == "analyse":
                assert json.loads((out.report / "summary.json").read_text()) == summary
    assert found > 3 or name in ("flow/history.csv", "report/summary.json")
