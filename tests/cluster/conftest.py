"""A real Slurm for the tests of this folder, for as long as they run."""

import subprocess
from collections.abc import Iterator

import pytest
from cluster.slurm_lab import LAB, Slurm, free_ports, missing, survivors


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """The running scheduler. It ends with the tests, also where they are killed: it reads from a pipe that breaks."""
    if absent := missing():
        pytest.skip(f"no Slurm to test with: {absent}")
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
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
