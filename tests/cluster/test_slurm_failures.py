"""Jobs of a real Slurm that fail: what depends on them does not run, `status` says why, and only they run again."""

import os
import re
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cards import contents
from cluster.slurm_lab import Job, Slurm
from cluster.submitted import PROGRAM, Submitted
from rich.console import Console

from lattice_flows.stages import sample_stage

DIVERGES = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [8]
[training]
max_steps = 40
learning_rate = 1e6
[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_chains = 2
n_configs = 10
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 6
n_chains = 1
n_configs = 100
"""

N_TASKS, KILLED = 4, 1
CHAINS = f"""
seed = %d
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 6
n_chains = {N_TASKS}
n_configs = 1000
"""


def test_what_needs_a_flow_that_failed_is_cancelled(slurm: Slurm, tmp_path: Path) -> None:
    with Submitted.prepare(slurm, tmp_path, DIVERGES) as run:
        run.submit()
        ended = run.wait("train", "sample-flow", "sample-hmc", "analyse")
        states = {name: job.state for name, job in ended.items()}
        assert states == {
            "train": "FAILED",
            "sample-flow.0": "CANCELLED",
            "sample-flow.1": "CANCELLED",
            "sample-hmc.0": "COMPLETED",
            "analyse": "CANCELLED",
        }
        assert {ended[name].reason for name in ("sample-flow.0", "analyse")} == {"DependencyNeverSatisfied"}
        status = run.status(ends=1)
        because = "because train failed: training diverged at step"
        for line in (
            "train: failed: training diverged",
            f"sample-flow: cancelled {because}",
            f"analyse: cancelled {because}",
        ):
            assert line in status
        assert "lower training.learning_rate" in status
        assert not (run.out / "report").exists()


def test_what_a_person_cancels_is_told_apart_from_failures(slurm: Slurm, tmp_path: Path) -> None:
    with Submitted.prepare(slurm, tmp_path, CHAINS % 1) as run:
        run.hold("sample-hmc.0", look=300)
        run.submit()
        run.held("sample-hmc.0")
        slurm.run(PROGRAM, "cancel", run.out)
        ended = run.wait("sample-hmc", "analyse")
        assert ended["sample-hmc.0"].state == ended["analyse"].state == "CANCELLED"
        status = run.status()
        assert "analyse: cancelled by you\n" in status
        assert re.search(r"sample-hmc task \S+: cancelled by you: stopped by SIGTERM; everything", status), status


def test_more_tasks_than_the_controller_allows_are_refused_at_once(slurm: Slurm, tmp_path: Path) -> None:
    with Submitted.prepare(slurm, tmp_path, CHAINS % 1) as run:
        many = CHAINS.replace(f"n_chains = {N_TASKS}", "n_chains = 101")
        (run.home / "card.toml").write_text(many % 1)
        with pytest.raises(AssertionError, match=r"with 2: .* makes 101 tasks .* 100 at most here .* = 2 would"):
            run.submit()
        assert run.ids() == {}


class Killed(NamedTuple):
    """A run one of whose tasks was killed: its jobs and its status then, its jobs when it was submitted again."""

    run: Submitted
    first: dict[str, Job]
    status: str
    second: dict[str, Job]
    untouched: bool  # whether the files of the other tasks stayed as they were
    alone: Path


@pytest.fixture(scope="module")
def killed(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Killed]:
    seed = zlib.crc32(request.node.name.encode())
    with Submitted.prepare(slurm, tmp_path_factory.mktemp("killed"), CHAINS % seed) as run:
        run.hold(f"sample-hmc.{KILLED}", look=300)
        run.submit()
        alone = run.home / "alone"
        sample_stage(run.home / "card.toml", alone, [], [], Console(quiet=True))
        os.kill(run.held(f"sample-hmc.{KILLED}"), signal.SIGKILL)
        first = run.wait("sample-hmc", "analyse")
        status, others = run.status(ends=1), _others(run)
        run.submit()
        second = run.wait("sample-hmc", "analyse")
        yield Killed(run, first, status, second, others == _others(run), alone)


def _others(run: Submitted) -> dict[str, tuple[int, int]]:
    files = [run.out / "ensembles" / f"hmc.{index}.h5" for index in range(N_TASKS) if index != KILLED]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_a_killed_task_leaves_the_others_alone(killed: Killed) -> None:
    states = {name: job.state for name, job in killed.first.items()}
    expected = {f"sample-hmc.{index}": "COMPLETED" for index in range(N_TASKS)}
    assert states == {**expected, f"sample-hmc.{KILLED}": "FAILED", "analyse": "CANCELLED"}
    assert f"sample-hmc task {KILLED}: failed" in killed.status
    assert "analyse: cancelled because sample-hmc failed" in killed.status


def test_only_the_killed_task_is_submitted_again(killed: Killed) -> None:
    assert {name: job.state for name, job in killed.second.items()} == {
        f"sample-hmc.{KILLED}": "COMPLETED",
        "analyse": "COMPLETED",
    }
    assert killed.untouched
    assert (killed.run.out / "report" / "summary.json").exists()


def test_the_chains_are_those_that_nobody_killed(killed: Killed) -> None:
    one = contents(killed.alone / "ensembles" / "hmc.h5")
    tasks = [contents(killed.run.out / "ensembles" / f"hmc.{index}.h5") for index in range(N_TASKS)]
    for name in ("fields/theta", "series/action", "series/delta_h"):
        np.testing.assert_array_equal(np.concatenate([task[name] for task in tasks], axis=1), one[name], err_msg=name)
