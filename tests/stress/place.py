"""A folder with one of everything that a command may be given, and a command in it."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cards import CLASSICAL, WITH_FLOW
from stress.children import forked, wait, with_few_figures
from stress.jobs import quick

from lattice_flows.ensembles import Ensemble

_PATIENCE = 300.0
_SMALL = ("ensemble.hmc.n_configs=40", "ensemble.hmc.n_md_steps=4")
_SMALL_FLOW = ("ensemble.flow.n_configs=40", "ensemble.flow_hmc.n_configs=3", "ensemble.flow_hmc.n_md_steps=2")
CARD = CLASSICAL.replace("n_configs = 600", "n_configs = 40\nn_md_steps = 4").replace("= 500", "= 40")
PROFILE = 'scheduler = "local"\n[train]\nprocesses_per_node = 1\n[sample]\nchains_per_task = 1\n'
JOBS = '{"scheduler": "slurm", "directory": "/", "stages": {"hmc": {"script": "hmc.sh", "after": [], "job": "1"}}}'
_SUBMIT = ("submit", "card.toml", "--cluster", "profile.toml", "--out", "t")


@dataclass(frozen=True)
class Command:
    """What is called: its arguments, what it reads, what it writes, and what of the present files it may change."""

    arguments: tuple[str, ...]
    subject: str = ""
    target: str = ""
    changes: tuple[str, ...] = ()
    kernels: bool = False  # it samples or trains, and may have to compile first
    answers: bool = False  # status 1 is an answer: what has failed stands in its table
    weight: float = 1.0  # how often it is tried: less where it takes seconds


COMMANDS = {
    "info": Command(("info", "e.h5"), "e.h5"),
    "info of segments": Command(("info", "parts.h5"), "parts.segments/000000.h5"),
    "info of a flow": Command(("info", "flow.pt"), "flow.pt"),
    "verify": Command(("verify", "e.h5"), "e.h5"),
    "verify a flow": Command(("verify", "flow.pt"), "flow.pt"),
    "verify a run": Command(("verify", "run"), "run"),
    "analyse": Command(("analyse", "e.h5", "--json", "s.json"), "e.h5", "s.json"),
    "analyse segments": Command(("analyse", "parts.h5", "--thermalisation", "auto"), "parts.segments/000000.h5"),
    "analyse --report": Command(("analyse", "e.h5", "--report", "page"), "e.h5", "page", weight=0.3),
    "analyse a run": Command(("analyse", "run"), "run", changes=("run/report/",), weight=0.2),
    "profile": Command(("profile", "e.h5", "--series", "plaquette", "--json", "p.json"), "e.h5", "p.json", weight=0.5),
    "measure": Command(("measure", "e.h5", "wilson_loop r=2 t=3"), "e.h5", changes=("e.h5",)),
    "export netcdf": Command(("export", "e.h5", "--to", "netcdf", "--out", "t.nc"), "e.h5", "t.nc"),
    "export npy": Command(("export", "e.h5", "--to", "npy", "--out", "t"), "e.h5", "t"),
    "export pyerrors": Command(("export", "e.h5", "--to", "pyerrors", "--out", "t.json.gz"), "e.h5", "t.json.gz"),
    "export arviz": Command(
        ("export", "parts.h5", "--to", "arviz", "--out", "t.nc"), "parts.segments/000000.h5", "t.nc"
    ),
    "import": Command(("import", "f.npy", "--out", "t.h5", "--coupling", "beta=1.5"), "f.npy", "t.h5"),
    "watch": Command(("watch", "run", "--once"), "run"),
    "status": Command(("status", "submitted"), "submitted", answers=True),
    "submit": Command((*_SUBMIT, "--dry-run"), "card.toml", "t"),
    "submit to": Command((*_SUBMIT, "--dry-run"), "profile.toml"),
    "exact": Command(("exact", "u1", "--beta", "1.5", "--shape", "4", "6", "--json")),
    "sample": Command(("sample", "card.toml", "--out", "t"), "card.toml", "t", kernels=True),
    "sample from": Command(
        ("sample", "card.toml", "--out", "t", "--set", 'ensemble.hmc.start="e.h5"'), "e.h5", "t", kernels=True
    ),
    "sample on": Command(("sample", "part"), "part", changes=("part/ensembles/", "part/overrides.json"), kernels=True),
    "train": Command(("train", "flow.toml", "--out", "t"), "flow.toml", "t", kernels=True, weight=0.3),
    "run": Command(("run", "run"), "run", changes=("run/report/",), kernels=True, weight=0.2),
    "run --from": Command(("run", "--from", "e.h5", "--out", "t"), "e.h5", "t", kernels=True),
}


@dataclass
class Place:
    """One hostile run, as the situation has made it."""

    folder: Path
    command: Command
    rng: random.Random
    arguments: list[str] = field(default_factory=list)
    subject: str = ""
    target: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)  # None: not set
    within: list[Callable[[], None]] = field(default_factory=list)  # called in the child
    after: list[Callable[[], None]] = field(default_factory=list)  # called at the end, here
    changes: list[str] = field(default_factory=list)  # what of the present files the command may change
    is_heard: bool = True  # whether standard error can be written

    def __post_init__(self) -> None:
        self.arguments, self.subject, self.target = [*self.command.arguments], self.command.subject, self.command.target
        self.changes = [*self.command.changes]

    def rename(self, old: str, new: str) -> None:
        """Let the arguments name something else."""
        self.arguments = [new if one == old else one for one in self.arguments]
        if old in self.command.changes:
            self.changes.append(new.removeprefix("./"))

    @property
    def file(self) -> Path:
        """The file that is read, or one of the files in the folder that is."""
        path = self.folder / self.subject
        if not path.is_dir():
            return path
        files = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix not in (".svg", ".pdf", ".csv"))
        return self.rng.choice([*files, path / "flow" / "history.csv"])


def make_stock(folder: Path) -> None:
    """Make one of everything, by the commands themselves."""
    folder.mkdir()
    (folder / "card.toml").write_text(CARD)
    (folder / "flow.toml").write_text(quick(WITH_FLOW))
    (folder / "profile.toml").write_text(PROFILE)
    _do(folder, "sample", "card.toml", "--out", "part", "--set=ensemble.hmc.n_configs=20")
    _do(folder, "run", "flow.toml", "--out", "run", *(f"--set={one}" for one in (_SMALL[0], *_SMALL_FLOW)))
    _do(folder, "sample", "card.toml", "--out", "made", "--ensemble", "hmc")
    shutil.copy(folder / "made" / "ensembles" / "hmc.h5", folder / "e.h5")
    (folder / "parts.segments").mkdir()
    shutil.copy(folder / "e.h5", folder / "parts.segments" / "000000.h5")
    shutil.copy(folder / "run" / "flow" / "checkpoint.pt", folder / "flow.pt")
    _do(folder, "export", "e.h5", "--to", "npy", "--out", "arrays")
    shutil.copy(folder / "arrays" / "fields.npy", folder / "f.npy")
    shutil.copytree(folder / "part", folder / "submitted")
    (folder / "submitted" / "cluster").mkdir()
    (folder / "submitted" / "cluster" / "jobs.json").write_text(JOBS)
    (folder / "submitted" / "cluster" / "profile.toml").write_text(PROFILE.replace("local", "slurm"))
    for made in ("made", "arrays"):
        shutil.rmtree(folder / made)
    for word in ("stdout", "stderr"):
        (folder.parent / word).unlink()


def _do(folder: Path, *arguments: str) -> None:
    said = folder.parent / "stderr"

    def within() -> None:
        os.chdir(folder)
        with_few_figures()

    status = wait(forked(arguments, folder.parent / "stdout", said, within), _PATIENCE)
    assert status == 0, f"{arguments}: {said.read_text()}"


def holds(path: Path) -> int | None:
    """The number of configurations of an ensemble; None if it is damaged, or none."""
    try:
        with Ensemble.open(path) as ensemble:
            ensemble.verify()
            return ensemble.n_configs
    except Exception:
        return None
