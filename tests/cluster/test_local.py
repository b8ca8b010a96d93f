"""The profile `local` for real: a card's stages as plain processes in the background."""

import json
import os
import signal
from io import StringIO
from pathlib import Path

import pytest
from cluster.programs import Programs, until
from rich.console import Console

from lattice_flows.cluster import cancel, local, status, submit
from lattice_flows.errors import InputError
from lattice_flows.production.job_array import Task
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import sample_stage

CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 4
n_configs = 20
n_thermalisation = 2
n_md_steps = 2
"""
PROFILE = """
scheduler = "local"
environment = [{environment}]
[sample]
chains_per_task = {chains_per_task}
array_limit = 2
"""


@pytest.fixture
def submitted(tmp_path):
    """Submit the card, or the run again; ends what is left of it afterwards."""
    run = tmp_path / "a run"

    def call(environment: str = "", chains_per_task: int = 2) -> Path:
        (tmp_path / "card.toml").write_text(CARD)
        profile = PROFILE.format(environment=environment, chains_per_task=chains_per_task)
        (tmp_path / "profile.toml").write_text(profile)
        source, out = (run, None) if run.exists() else (tmp_path / "card.toml", run)
        submit(source, tmp_path / "profile.toml", out, (), False, Console(file=StringIO()))
        return run

    yield call
    if is_running(run):
        os.killpg(int(job_of(run).partition("@")[0]), signal.SIGKILL)


def job_of(run: Path) -> str:
    return json.loads((run / "cluster" / "jobs.json").read_text())["stages"]["analyse"]["job"]


def is_running(run: Path) -> bool:
    return local.is_running(job_of(run), RunFolder(run))


def shown(run: Path) -> str:
    console = Console(file=StringIO(), width=120)
    status(run, console)
    return console.file.getvalue()


def test_a_card_from_submit_to_its_report(submitted, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    run = submitted()
    until(lambda: not is_running(run), seconds=300)
    said = shown(run)
    assert "80/80 configurations; 2 tasks: 2 finished" in said
    assert [line.split()[1] for line in said.splitlines()[1:]] == ["finished", "finished"]
    summary = json.loads((run / "report" / "summary.json").read_text())
    assert (summary["ensembles"]["hmc"]["n_chains"], summary["ensembles"]["hmc"]["n_configs"]) == (4, 20)


def stub(tmp_path: Path, does: str) -> tuple[Programs, str]:
    """Programs whose lattice-flows does this, and the profile's line that puts it in front."""
    programs = Programs(tmp_path / "programs")
    programs.lattice_flows(does)
    return programs, json.dumps(f"export PATH={programs.bin}:$PATH")


def test_cancel_lets_all_processes_save_and_end(submitted, tmp_path):
    programs, line = stub(tmp_path, "wait_for_signal(); end(75, left=75, message='all is saved')")
    run = submitted(line, chains_per_task=4)
    programs.wait_for("ready.0")
    with pytest.raises(InputError, match=r"still has jobs \(\d+@"):
        submitted(line, chains_per_task=4)
    assert "sample-hmc  running" in shown(run)
    console = Console(file=StringIO(), width=120)
    cancel(run, console)
    assert console.file.getvalue() == f"cancelled {job_of(run)}: sample-hmc, analyse\n"
    until(lambda: not is_running(run))
    assert "sample-hmc: cancelled by you: all is saved" in shown(run)
    assert "analyse: cancelled by you" in shown(run)


def test_a_killed_task_is_the_only_one_that_is_submitted_again(submitted, tmp_path):
    _, line = stub(tmp_path, "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[-1] == '1/2' else end(0, left=0)")
    run = submitted(line)
    until(lambda: not is_running(run))
    sample_stage(run, None, (), ["hmc"], Console(file=StringIO()), Task(0, 2))
    assert "sample-hmc task 1: failed: " in shown(run)
    assert "(status 137)" in shown(run)
    submitted('"exit 0"')
    assert json.loads((run / "cluster" / "jobs.json").read_text())["stages"]["sample-hmc"]["indices"] == "1"


def test_a_session_of_another_machine_is_not_judged(tmp_path):
    with pytest.raises(InputError, match="its processes run on elsewhere; ask there"):
        local.is_running("1@elsewhere", RunFolder(tmp_path))


def test_a_process_that_only_has_the_number_is_another(tmp_path):
    assert not local.is_running(f"{os.getpgid(0)}@{os.uname().nodename}", RunFolder(tmp_path / "run"))
