"""A package laid out like lattice_flows, with its cache of kernels, two kernels and the functions inside them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lattice_flows

PACKAGE = Path(lattice_flows.__file__).parent
OTHERS = ("private_folders", "threads")
COPIED = (
    "__init__.py",
    *(f"kernels/{name}.py" for name in ("__init__", "compiled", "cache_folder", "sources", *OTHERS)),
)
WRITTEN = {
    "kernels/motion.py": """
from numba import njit

@njit
def drift(x, time):
    return x + time * 1.0
""",
    "theories/toy/kernels/hmc.py": """
from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.motion import drift

@kernel
def chain(x):
    return drift(x, 3)
""",
    "exact/direct.py": """
from lattice_flows.kernels.compiled import kernel

@kernel(fastmath={"contract"})
def sample(x):
    return 2 * x
""",
}
BEGINNING = """
import json, logging, os, sys, time
from pathlib import Path
import numpy as np
from lattice_flows.exact.direct import sample
from lattice_flows.theories.toy.kernels.hmc import chain

def counts(kernel):
    return [sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())]
"""
CHAIN = "print(json.dumps([chain(0.5), *counts(chain)]))"


class Toy:
    """The package in a folder, and processes that use it."""

    def __init__(self, home: Path) -> None:
        self.home, self.package = home, home / "lattice_flows"
        for name in COPIED:
            (self.package / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGE / name, self.package / name)
        (self.home / "temporary").mkdir(exist_ok=True)
        for name, text in WRITTEN.items():
            (self.package / name).parent.mkdir(parents=True, exist_ok=True)
            (self.package / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.package / name).read_text()
        assert old in text
        (self.package / name).write_text(text.replace(old, new))

    def start(self, code: str, before: str = "", **variables: object) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
        environment |= {
            "PYTHONPATH": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",  # an edit of the same size within one second would not be seen
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "caches"),
            "TMPDIR": str(self.home / "temporary"),
            **{name: str(value) for name, value in variables.items()},
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", before + BEGINNING + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.home,
        )

    def run(self, code: str = CHAIN, before: str = "", **variables: object) -> Any:
        """What the code prints, as JSON; by default the result of `chain`, its cache hits and its misses.

        before: code that runs before the kernels are imported.
        """
        return finished(self.start(code, before, **variables))

    def files(self) -> list[Path]:
        """What was compiled from `chain`, wherever it is kept."""
        return sorted(self.home.glob("**/lattice-flows-*/hmc.chain-*.nbc"))


def finished(process: subprocess.Popen) -> Any:
    """What a process printed, as JSON; it ended well and said nothing else."""
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return json.loads(output) if output else None
