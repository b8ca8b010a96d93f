"""The provenance of a file: versions, commit and machine."""

import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("lattice_flows", "numpy", "numba", "torch", "h5py", "scipy")
_CPU_INFO = Path("/proc/cpuinfo")


@cache
def software() -> str:
    """Versions of everything the numbers depend on, as JSON."""
    return json.dumps({"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}})


@cache
def machine() -> str:
    """The machine, as JSON: networks round differently on different kinds of processor."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return json.dumps({"host": platform.node(), "system": platform.system(), "processor": _processor(), "cores": cores})


def _processor() -> str:
    """The processor's name, from Linux's description if there is one."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def git_commit() -> str:
    """The commit of the source tree this package runs from, '-dirty' with changes; 'unknown' outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
