"""Single commands on a finished ensemble that are killed: export, import, measure, analyse --report."""

import gzip
import json
import random
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from cards import CLASSICAL, contents
from stress.board import Board
from stress.children import forked, wait, with_few_figures
from stress.job import PATIENCE, Failure, Job
from stress.jobs import COMMANDS
from stress.run_jobs import holds

import lattice_flows.production.measure
from lattice_flows.production.run_folder import RunFolder

ENSEMBLE, ARRAY = "e.h5", "fields.npy"
_ACTS = 3.0  # on the average, before an aimed kill
_SMALL = ("ensemble.hmc.n_configs=400", "ensemble.hmc.n_md_steps=4")


class CommandJob(Job):
    """One command. Its targets are in `out`, beside a copy of its sources."""

    def __init__(self, name: str, home: Path, board: Board) -> None:
        self.targets, *command = COMMANDS[name]
        super().__init__(name, home, board, (tuple(command),))

    @property
    def sources(self) -> Path:
        """Those of all commands."""
        return self.home.parent / "sources"

    def prepare_sources(self) -> None:
        if not self.sources.exists():
            make_sources(self.sources)

    def fresh(self, out: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.sources, out)

    def in_child(self) -> None:
        patch, module = pytest.MonkeyPatch(), "lattice_flows.production.measure"
        patch.setattr(f"{module}._SAVE_SECONDS", 0.0)
        patch.setattr(f"{module}._BLOCK_BYTES", 1 << 14)
        measure = lattice_flows.production.measure.measure
        patch.setattr(f"{module}.measure", partial(measure, block_seconds=0.0))
        with_few_figures()

    def aims(self, rng: random.Random) -> tuple[tuple[str, ...], float]:
        return ("", "", *self.targets), _ACTS

    @property
    def is_done(self) -> bool:
        if self.step[0] == "measure":
            return contents(self.out / ENSEMBLE).keys() == contents(self.reference / ENSEMBLE).keys()
        return self.step[0] in ("export", "import") and (self.out / self.targets[0]).exists()

    def check(self) -> None:
        measured = self.step[0] == "measure"
        for source in self.sources.iterdir():
            path = self.out / source.name
            if measured and path.name == ENSEMBLE:
                holds(path)
                before, now = contents(source), contents(path)
                if any(not np.array_equal(before[name], now.get(name)) for name in before):
                    raise Failure(f"{path}: has lost something")
            elif not path.exists() or path.read_bytes() != source.read_bytes():
                raise Failure(f"{path}: is not what it was")
        for target in () if measured else self.targets:
            for path in files_of(self.out / target):
                require_same(self.reference / path.relative_to(self.out), path)

    def compare(self) -> None:
        self.check()
        one, other = ({str(p.relative_to(folder)) for p in folder.rglob("*")} for folder in (self.reference, self.out))
        if one != other:
            raise Failure(f"{self.name}: left behind {sorted(other - one)}, lacks {sorted(one - other)}")


def make_sources(folder: Path) -> None:
    """A small finished ensemble, and its fields as an array."""
    made = folder.with_name("made")
    made.mkdir()
    (made / "card.toml").write_text(CLASSICAL)
    sets = [f"--set={one}" for one in _SMALL]
    run = RunFolder(made / "run")
    for command in (
        ["sample", str(made / "card.toml"), "--out", str(run.path), "--ensemble", "hmc", *sets],
        ["export", str(run.ensemble("hmc")), "--to", "npy", "--out", str(made / "e_npy")],
    ):
        if wait(forked(command, made / "stdout", made / "stderr", lambda: None), PATIENCE) != 0:
            raise Failure(f"{command}: {(made / 'stderr').read_text()}")
    folder.mkdir()
    shutil.copy(run.ensemble("hmc"), folder / ENSEMBLE)
    shutil.copy(made / "e_npy" / ARRAY, folder / ARRAY)


def files_of(target: Path) -> list[Path]:
    """The finished files of a target, which is a file or a folder."""
    found = target.rglob("*") if target.is_dir() else [target]
    return [path for path in found if path.is_file() and path.suffix not in (".tmp", ".lock")]


def require_same(one: Path, other: Path) -> None:
    """Raises Failure unless a file, where it exists, is equal to the one that nobody killed."""
    if one.suffix in (".h5", ".nc"):
        first, second = datasets(one), datasets(other)
        same = first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
    elif one.name.endswith(".json.gz"):  # of pyerrors, which writes the date
        same = (
            json.loads(gzip.decompress(one.read_bytes()))["obsdata"]
            == (json.loads(gzip.decompress(other.read_bytes()))["obsdata"])
        )
    elif one.suffix in (".json", ".html"):  # which may name the folder that they are in
        first, second = (p.read_text(encoding="utf-8").replace(str(p.parent), "") for p in (one, other))
        same = first == second
    else:
        same = one.read_bytes() == other.read_bytes()
    if not same:
        raise Failure(f"{other}: is not what it would be without a kill")


def datasets(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return found
