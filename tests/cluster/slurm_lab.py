"""A real Slurm on this machine, as tests use it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cards import environment

LAB = Path(__file__).with_name("slurm_lab.sh")
DAEMONS = ("slurmctld", "slurmd", "munged")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 400.0  # seconds; what takes two on an idle machine may take minutes where others work, too

_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}


class Job(NamedTuple):
    """A line of squeue: `id` is JOB, or JOB_TASK of an array; `restarts` counts how often it was requeued."""

    id: str
    state: str
    reason: str
    restarts: int

    @property
    def is_left(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in _ENDED


class Slurm:
    """What a test does with the scheduler. `environment` leads every command to it, and to this Python's programs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**environment(), "PATH": path, "SLURM_CONF": str(home / "slurm.conf")}

    def run(self, *command: str | Path, ends: int = 0) -> str:
        """What the command prints; it must end with this status."""
        done = subprocess.run([*map(str, command)], env=self.environment, capture_output=True, text=True)
        assert done.returncode == ends, f"{command} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def submit(self, script: Path, *options: str) -> str:
        """The number of the job of this script."""
        return self.run("sbatch", "--parsable", *options, script).strip().partition(";")[0]

    def jobs(self) -> dict[str, Job]:
        """All jobs since the start, also ended ones, tasks of arrays one by one, by their ids."""
        text = self.run(
            "squeue",
            "--array",
            "--noheader",
            "--states=all",
            "--Format=ArrayJobID:|,ArrayTaskID:|,JobID:|,State:|,Reason:|,RestartCnt:",
        )
        rows = [line.split("|") for line in text.splitlines()]
        ids = [job if task == "N/A" else f"{array}_{task}" for array, task, job, *_ in rows]
        return {name: Job(name, row[3], row[4], int(row[5])) for name, row in zip(ids, rows)}

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for it; where that takes too long, fail with all that the scheduler and the jobs have to say."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                pytest.fail(f"not in {PATIENCE} s: {what}\n{self.run('squeue', '--states=all')}\n{self.logs()}")
            time.sleep(0.2)

    def wait(self, *jobs: str) -> dict[str, Job]:
        """The jobs of these numbers (all tasks of arrays), once none of them waits or runs."""

        def ended() -> bool:
            return not any(job.is_left for job in self.of(*jobs).values())

        self.until(f"the end of {', '.join(jobs)}", ended)
        return self.of(*jobs)

    def of(self, *jobs: str) -> dict[str, Job]:
        """The jobs of these numbers, with all tasks of arrays."""
        return {name: job for name, job in self.jobs().items() if name.partition("_")[0] in jobs or name in jobs}

    def signal(self, job: str, signal: str = "USR1") -> None:
        """What --signal=B:USR1@120 does two minutes before a job's limit: only the script gets the signal."""
        self.run("scancel", f"--signal={signal}", "--batch", job)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(f"== {log}\n{log.read_text()[-2000:]}" for log in sorted(self.home.glob("*.log")))


def missing() -> str:
    """Why there can be no Slurm here; "" where there can."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    absent = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "its daemons need root"


def free_ports(n: int) -> list[int]:
    """TCP ports that nobody listens at."""
    with_port = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in with_port]
    for each in with_port:
        each.close()
    return ports


def survivors(slurm: Slurm) -> list[str]:
    """Processes that this scheduler, or a job of it, has started and that still are there."""
    mark = f"SLURM_CONF={slurm.home / 'slurm.conf'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{process.name} {(process / 'cmdline').read_bytes().decode(errors='replace')}")
        except OSError:  # not ours to read, or gone meanwhile
            continue
    return found
