"""Runs that tests submit to the Slurm of slurm_lab.py."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from cluster.slurm_lab import Job, Slurm

HOLDING = Path(__file__).with_name("holding.py")
PROGRAM = Path(sys.executable).with_name("lattice-flows")

_PROFILE = """
scheduler = "slurm"
save_seconds = 60
environment = ["export PATH={bin}:$PATH"]
[train]
time = "00:10:00"
memory_gb = 1
{train}
[sample]
time = "00:10:00"
memory_gb = 1
chains_per_task = 1
[analyse]
time = "00:10:00"
memory_gb = 1
"""


@dataclass(frozen=True)
class Submitted:
    """A run, `home`/run, of `home`/card.toml with the profile `home`/profile.toml."""

    slurm: Slurm
    home: Path

    @classmethod
    @contextmanager
    def prepare(cls, slurm: Slurm, home: Path, card: str, train: str = "") -> Iterator["Submitted"]:
        """A card and a profile, in whose jobs `lattice-flows` can be held; `train` are more lines of [train].

        At the end nothing is left in the queue, and where a test fails it shows what the jobs have printed.
        """
        (home / "bin").mkdir()
        (home / "orders").mkdir()
        program = home / "bin" / "lattice-flows"
        words = (sys.executable, HOLDING, home / "orders")
        program.write_text(f'#!/bin/sh\nexec {" ".join(quote(str(word)) for word in words)} "$@"\n')
        program.chmod(0o755)
        (home / "card.toml").write_text(card)
        (home / "profile.toml").write_text(_PROFILE.format(bin=home / "bin", train=train))
        run = cls(slurm, home)
        try:
            yield run
        finally:
            print(run.logs())
            if left := {name.partition("_")[0] for name, job in slurm.of(*run.ids().values()).items() if job.is_left}:
                slurm.run("scancel", *left)
                slurm.wait(*left)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.home / "run"

    def submit(self, *options: str) -> str:
        """What `submit` prints."""
        profile = self.home / "profile.toml"
        command = ("submit", self.home / "card.toml", "--out", self.out, "--cluster", profile, *options)
        return self.slurm.run(PROGRAM, *command)

    def status(self, ends: int = 0) -> str:
        """What `status` prints; it must end with this exit status."""
        return self.slurm.run(PROGRAM, "status", self.out, ends=ends)

    def ids(self) -> dict[str, str]:
        """The numbers of the jobs that were submitted last, by stage."""
        path = self.out / "cluster" / "jobs.json"
        stages = json.loads(path.read_text())["stages"] if path.exists() else {}
        return {stage: entry["job"] for stage, entry in stages.items() if entry["job"] is not None}

    def id(self, stage: str) -> str:
        """The number of the stage's job."""
        return self.ids()[stage]

    def wait(self, *stages: str) -> dict[str, Job]:
        """The jobs of these stages once they have ended, by STAGE or, tasks of arrays, STAGE.i; see `Slurm.wait`."""
        ids = {self.id(stage): stage for stage in stages}
        ended = self.slurm.wait(*ids)
        names = {name: name.partition("_") for name in ended}
        return {ids[job] + (f".{task}" if task else ""): ended[name] for name, (job, _, task) in names.items()}

    def hold(self, job: str, look: int) -> None:
        """Let this job (STAGE or STAGE.i) rest in its look number `look` at whether it should end."""
        (self.home / "orders" / job).write_text(str(look))

    def held(self, job: str) -> int:
        """The process id of the job that was told to rest, once it does."""
        note = self.home / "orders" / f"{job}.held"
        self.slurm.until(f"{job} rests", note.exists)
        return int(note.read_text())

    def logs(self) -> str:
        """What the jobs have printed so far."""
        return "\n".join(f"== {log.name}\n{log.read_text()}" for log in sorted(self.out.glob("cluster/logs/*")))
