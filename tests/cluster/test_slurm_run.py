"""A whole card as jobs of a real Slurm: train, sample, analyse, two of them told to save before their time limit."""

import json
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cards import assert_same_ensemble, contents
from cluster.slurm_lab import Job, Slurm
from cluster.submitted import Submitted
from rich.console import Console
from trainings import assert_same_training, train_by_two

from lattice_flows.stages import sample_stage
from lattice_flows.theories import ExactU1

N_CHAINS = {"flow": 4, "hmc": 2}
N_CONFIGS, BETA = 4000, 1.0
ON_GPUS = "nodes = 1\nprocesses_per_node = 2\ngpus_per_node = 2"
LAST = N_CHAINS["hmc"] - 1  # the task whose own job id is that of the whole array
CARD = f"""
seed = %d
[theory]
name = "u1"
shape = [4, 4]
beta = {BETA}
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [8]
[training]
max_steps = 40
monitor_every = 5
[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_chains = {N_CHAINS["flow"]}
n_configs = {N_CONFIGS}
n_thermalisation = 20
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 6
n_chains = {N_CHAINS["hmc"]}
n_configs = {N_CONFIGS}
n_thermalisation = 30
"""


class Whole(NamedTuple):
    """The finished run, its jobs by stage (and task), and a run folder of the same card that never was a job."""

    run: Submitted
    jobs: dict[str, Job]
    alone: Path


@pytest.fixture(scope="module")
def whole(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Whole]:
    seed = zlib.crc32(request.node.name.encode())
    with Submitted.prepare(slurm, tmp_path_factory.mktemp("whole"), CARD % seed, train="processes_per_node = 2") as run:
        run.hold("train", look=17)
        run.hold(f"sample-hmc.{LAST}", look=700)  # in production
        run.submit()
        alone = run.home / "alone"
        train_by_two(run.home / "card.toml", alone)
        sample_stage(alone, None, [], ["hmc"], Console(quiet=True))
        run.held("train")
        slurm.signal(run.id("train"))
        run.held(f"sample-hmc.{LAST}")
        slurm.signal(f"{run.id('sample-hmc')}_{LAST}")
        yield Whole(run, run.wait("train", "sample-flow", "sample-hmc", "analyse"), alone)


def test_a_dry_run_submits_nothing(slurm: Slurm, tmp_path: Path) -> None:
    before = slurm.jobs().keys()
    with Submitted.prepare(slurm, tmp_path, CARD % 1, train=ON_GPUS) as run:
        printed = run.submit("--dry-run")
        assert slurm.jobs().keys() == before
        scripts = sorted(run.out.glob("cluster/*.sh"))
        assert [script.stem for script in scripts] == ["analyse", "sample-flow", "sample-hmc", "torchrun", "train"]
        for script in scripts:
            subprocess.run(["bash", "-n", script], check=True)
            assert script.read_text() in printed
            if script.stem != "torchrun":
                slurm.run("sbatch", "--test-only", script)  # Slurm understands its header
        assert slurm.jobs().keys() == before


def test_all_stages_finish(whole: Whole) -> None:
    tasks = {f"sample-{name}.{index}" for name, n in N_CHAINS.items() for index in range(n)}
    assert whole.jobs.keys() == {"train", "analyse"} | tasks
    assert {job.state for job in whole.jobs.values()} == {"COMPLETED"}
    rows = [line.split() for line in whole.run.status().splitlines()[1:]]
    assert [row[0] for row in rows] == ["train", "sample-flow", "sample-hmc", "analyse"]
    assert {row[1].strip(",") for row in rows} == {"finished"}


def test_only_what_was_signalled_begins_again(whole: Whole) -> None:
    requeued = {name: job.restarts for name, job in whole.jobs.items() if job.restarts}
    assert requeued == {"train": 1, f"sample-hmc.{LAST}": 1}


@pytest.mark.parametrize("name", ["flow", "hmc"])
def test_numbers_agree_with_the_closed_forms(whole: Whole, name: str) -> None:
    summary = json.loads((whole.run.out / "report" / "summary.json").read_text())
    ensemble = summary["ensembles"][name]
    assert (ensemble["n_chains"], ensemble["n_configs"], ensemble["warnings"]) == (N_CHAINS[name], N_CONFIGS, [])
    exact, wrong = ExactU1(BETA, 16), ExactU1(1.05 * BETA, 16)
    found = ensemble["observables"]
    for observable, value in {
        "plaquette": exact.plaquette,
        "topological_charge_squared": exact.charge_squared,
        "wilson_loop_1x2": exact.wilson_loop(2),
    }.items():
        estimate = found[observable]
        assert abs(estimate["value"] - value) < 4.5 * estimate["error"], observable
    # So exact are they that another coupling, by one part in twenty, would be seen.
    assert abs(exact.plaquette - wrong.plaquette) > 4.5 * found["plaquette"]["error"]


def test_tasks_have_the_chains_of_one_process(whole: Whole) -> None:
    """Without a network the same bits, of the task that was stopped too."""
    one = contents(whole.alone / "ensembles" / "hmc.h5")
    tasks = [contents(whole.run.out / "ensembles" / f"hmc.{index}.h5") for index in range(N_CHAINS["hmc"])]
    for name in ("fields/theta", "series/action", "series/topological_charge", "series/delta_h"):
        np.testing.assert_array_equal(np.concatenate([task[name] for task in tasks], axis=1), one[name], err_msg=name)
    for name in ("state/sampler/x", "state/sampler/streams"):
        np.testing.assert_array_equal(np.concatenate([task[name] for task in tasks]), one[name], err_msg=name)


def test_the_training_has_the_bits_of_an_uninterrupted_one(whole: Whole) -> None:
    assert_same_training(whole.run.out, whole.alone)
    assert_same_ensemble(whole.run.out / "flow" / "evaluation.h5", whole.alone / "flow" / "evaluation.h5")
