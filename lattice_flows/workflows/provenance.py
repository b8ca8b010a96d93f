"""What made a file: versions and commit."""

import json
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("lattice_flows", "numpy", "numba", "torch", "h5py", "scipy")


@cache
def software() -> str:
    """Versions of everything the numbers depend on, as JSON."""
    return json.dumps({"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}})


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
