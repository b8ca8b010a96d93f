"""The stages as plain processes on this machine: a session of their own, which outlives `submit`."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from lattice_flows.cluster.schedulers import SchedulerError
from lattice_flows.cluster.scripts import ALL
from lattice_flows.production.run_folder import RunFolder


def start(folder: RunFolder) -> str:
    """Start cluster/all.sh in the background. Returns PID@HOST, where the pid is also that of the process group."""
    log = str(folder.cluster / "logs" / "all.out")
    streams: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    script = str(folder.cluster / ALL)
    pid = os.posix_spawnp("bash", ["bash", script], os.environ, file_actions=streams, setsid=True)
    return f"{pid}@{socket.gethostname()}"


def is_running(job: str, folder: RunFolder) -> bool:
    """Whether any process of the session is alive. Raises SchedulerError if they run on another machine."""
    return bool(_members(job, folder))


def cancel(job: str, folder: RunFolder) -> None:
    """Ask all processes of the session to save and end. Raises SchedulerError if they run on another machine."""
    if _members(job, folder):
        with suppress(ProcessLookupError):
            os.killpg(_group(job), signal.SIGTERM)


def _group(job: str) -> int:
    pid, _, host = job.partition("@")
    if host != socket.gethostname():
        raise SchedulerError(f"its processes run on {host}; ask there")
    return int(pid)


def _members(job: str, folder: RunFolder) -> list[int]:
    """The processes of the group that work in the folder: by now the group's number alone may belong to others."""
    group, found = _group(job), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, of_group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            here = os.fsencode(folder.path) in (process / "cmdline").read_bytes()
            if int(of_group) == group and state != "Z" and here:
                found.append(int(process.name))
    return found
