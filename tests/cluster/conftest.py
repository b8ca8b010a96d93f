"""A real Slurm for a module of tests, for as long as it runs."""

import fcntl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.slurm_lab import LAB, Slurm, free_ports, missing, survivors


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two schedulers at once, of two workers or two test runs, would share the cores with all their jobs."""
    with open(Path(tempfile.gettempdir()) / "lattice-flows-slurm-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """The running scheduler. It ends with the tests, also where they are killed: it reads from a pipe that breaks."""
    if absent := missing():
        pytest.skip(f"no Slurm to test with: {absent}")
    with _one_at_a_time():
        yield from _running(Slurm(tmp_path_factory.mktemp("slurm")))


def _running(slurm: Slurm) -> Iterator[Slurm]:
    command = [str(LAB), str(slurm.home), *map(str, free_ports(3))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as lab:
        assert lab.stdout is not None
        assert lab.stdin is not None
        assert lab.stdout.readline() == "ready\n", slurm.logs()
        try:
            yield slurm
        finally:
            lab.stdin.close()
    assert not survivors(slurm), f"outlived the scheduler: {survivors(slurm)}"
