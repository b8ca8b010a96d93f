"""Seeds come from the test's own name; thread counts are fixed, for several test runs may share a machine."""

import os
import signal
import sys
import zlib
from pathlib import Path

# Before numba and torch are loaded, which read these once; programs that tests start inherit them. The tests have
# a cache of kernels of their own, shared by all workers.
KERNELS = Path(__file__).parents[1] / ".kernels"
KERNELS.mkdir(mode=0o700, exist_ok=True)
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
os.environ.setdefault("NUMBA_CACHE_DIR", str(KERNELS))
os.environ["XDG_CACHE_HOME"] = str(KERNELS / "cache")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background

import numba
import numpy as np
import pytest
import torch

from lattice_flows.cli import main

# Modules of few and long tests: begun last, as xdist would have it, one of them would keep the other worker waiting.
# Those of the scheduler stand apart, for only one of them runs at a time.
LONG = (
    "cluster/test_slurm_run",
    "stages/test_run",
    "samplers/test_contract",
    "stages/test_hostile_files",
    "cluster/test_slurm_failures",
    "golden/",
    "stages/",
    "stress/",
    "test_cli",
    "cluster/test_slurm_torchrun",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first, in one order for all workers."""

    def place(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((k for k, module in enumerate(LONG) if name.startswith(module)), len(LONG))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    numba.set_num_threads(1)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end without a page, which takes longer than they do: for tests of everything else."""
    monkeypatch.setattr("lattice_flows.stages.write_report", lambda *_: None)


@pytest.fixture
def time_limit():
    """Ten seconds, for what would otherwise wait for ever: a pipe that nobody writes to."""

    def give_up(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number that depends on nothing but the test's own name: not chosen for its result, and not changed by moves."""
    return zlib.crc32(request.node.name.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def card(tmp_path: Path):
    """Write a card's text to a file."""

    def write(text: str, name: str = "card.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def lattice_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command line, called in tmp_path; returns (status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["lattice-flows", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call
