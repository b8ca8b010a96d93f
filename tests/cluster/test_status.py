"""`lattice-flows status`: what the files say, what the scheduler says, and which of them counts."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from cards import WITH_FLOW
from cluster.programs import Programs
from report_runs import write_checkpoint
from rich.console import Console

from lattice_flows.card.card import read_held_card
from lattice_flows.cli import main
from lattice_flows.cluster import cancel, status, submit
from lattice_flows.cluster.job_outcomes import last_words
from lattice_flows.errors import InputError
from lattice_flows.production.job_array import Task
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import sample_stage
from lattice_flows.training import Checkpoint, save_checkpoint
from lattice_flows.training.history import Record, append_record

PROFILE = 'scheduler = "slurm"\n[sample]\nchains_per_task = 1\n'
CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [4]
[training]
max_steps = 20
[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_chains = 3
n_configs = 10
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 3
n_configs = 10
n_thermalisation = 2
n_md_steps = 2
"""
ALL_WAIT = [("101", "PENDING", 0, "Priority")] + [
    (job, "PENDING", 0, "Dependency") for job in ("102_0", "102_1", "102_2", "103_0", "103_1", "103_2", "104")
]


class Run:
    """A submitted run: train is job 101, the ensembles are 102 and 103, the analysis is 104."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.programs, self.folder = programs, folder

    def outcome(self, name: str, status: int, message: str = "") -> None:
        path = self.folder / "cluster" / "outcomes" / f"{name}.json"
        path.write_text(json.dumps({"status": status, "message": message}))

    def log(self, name: str, *lines: str) -> None:
        (self.folder / "cluster" / "logs" / f"{name}.out").write_text("".join(f"{line}\n" for line in lines))

    def sample(self, *indices: int) -> None:
        """Make the files of these tasks of the ensemble hmc."""
        for index in indices:
            sample_stage(self.folder, None, (), ["hmc"], Console(file=StringIO()), Task(index, 3))

    def status(self) -> tuple[dict[str, list[str]], list[str]]:
        """Each stage's cells, and the notes below."""
        console = Console(file=StringIO(), width=120)
        status(self.folder, console)
        lines = console.file.getvalue().splitlines()
        rows = {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:5]}
        return rows, lines[5:]

    def states(self) -> list[str]:
        return [cells[1] for cells in self.status()[0].values()]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    programs = Programs(tmp_path / "programs")
    programs.slurm()
    monkeypatch.setenv("PATH", programs.environment()["PATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "card.toml").write_text(CARD)
    (tmp_path / "profile.toml").write_text(PROFILE)
    submit(tmp_path / "card.toml", tmp_path / "profile.toml", tmp_path / "run", (), False, Console(file=StringIO()))
    programs.queue(*ALL_WAIT)
    return Run(programs, tmp_path / "run")


def test_before_anything_runs(run):
    rows, notes = run.status()
    assert rows == {
        "train": ["train", "waiting", "101"],
        "sample-flow": ["sample-flow", "waiting", "102", "0/30 configurations; 3 tasks: 3 waiting"],
        "sample-hmc": ["sample-hmc", "waiting", "103", "0/30 configurations; 3 tasks: 3 waiting"],
        "analyse": ["analyse", "waiting", "104"],
    }
    assert notes == [
        "train: waiting: jobs of higher priority come first",
        "sample-flow: waits for train",
        "sample-hmc: waits for stages before it",  # the queue says so, though there are none
        "analyse: waits for train, sample-flow, sample-hmc",
    ]


def test_files_and_the_queue_together(run):
    run.sample(0)
    run.outcome("sample-hmc.0", 0)
    run.outcome("sample-hmc.2", 1, "no space left on device")
    run.programs.queue(
        ("101", "RUNNING", 2, "None"),
        ("103_0", "COMPLETED", 0, "None"),
        ("103_1", "RUNNING", 1, "None"),
        ("103_2", "FAILED", 0, "NonZeroExitCode"),
    )
    rows, notes = run.status()
    assert rows["train"][1] == "running, requeued 2 times"
    assert rows["sample-hmc"][1:] == [
        "running, requeued 1 time",
        "103",
        "10/30 configurations; 3 tasks: 1 finished, 1 running, 1 failed",
    ]
    assert "sample-hmc task 2: failed: no space left on device" in notes


def test_a_failed_training_cancels_what_needs_it_and_status_says_why(run):
    run.sample(0, 1, 2)
    run.outcome("train", 1, "training diverged at step 7")
    run.programs.queue(
        ("101", "FAILED", 0, "NonZeroExitCode"),
        *((f"102_{index}", "CANCELLED", 0, "Dependency") for index in range(3)),
        ("104", "CANCELLED", 0, "Dependency"),
    )
    rows, notes = run.status()
    assert [cells[1] for cells in rows.values()] == ["failed", "cancelled", "finished", "cancelled"]
    assert notes == [
        "train: failed: training diverged at step 7",
        "sample-flow: cancelled because train failed: training diverged at step 7",
        "analyse: cancelled because train failed: training diverged at step 7",
    ]


def test_what_left_no_word_is_told_by_the_scheduler_and_the_log(run):
    run.programs.queue(
        ("101", "TIMEOUT", 0, "TimeLimit"),
        ("103_0", "OUT_OF_MEMORY", 0, "OutOfMemory"),
        ("103_1", "FAILED", 0, "NonZeroExitCode"),
        ("103_2", "CANCELLED", 0, "None"),
    )
    run.log(
        "sample-hmc.1", "began on n1", "line 9: 77 Killed", "2026-01-01 00:00:00 sample-hmc.1: ended with status 137"
    )
    rows, notes = run.status()
    assert rows["sample-hmc"][3].endswith("3 tasks: 2 failed, 1 stopped")
    assert notes == [
        "train: failed: the time limit was reached",
        "sample-flow: cancelled because train failed: the time limit was reached",
        "sample-hmc task 0: failed: out of memory",
        "sample-hmc task 1: failed: killed by SIGKILL (status 137), perhaps for lack of memory",
        "sample-hmc task 2: stopped: cancelled",
        "analyse: cancelled because train failed: the time limit was reached",
    ]


def test_an_unreachable_scheduler_is_said_in_one_line(run):
    run.sample(1)
    run.outcome("train", 75, "stopped by SIGUSR1; everything is saved")
    run.programs.install("squeue", "#!/bin/bash\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    rows, notes = run.status()
    assert [cells[1] for cells in rows.values()] == ["stopped", "cancelled", "submitted", "cancelled"]
    assert rows["sample-hmc"][3] == "10/30 configurations; 3 tasks: 2 submitted, 1 finished"
    (doubt,) = (note for note in notes if "does not answer" in note)
    assert doubt == (
        "slurm does not answer, so this is what the files say (squeue: Unable to contact slurm controller)"
    )


def test_without_slurms_programs(run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    rows, notes = run.status()
    assert {cells[1] for cells in rows.values()} == {"submitted"}
    assert notes == ["slurm does not answer, so this is what the files say (squeue: there is no such program here)"]


def test_accounts_know_what_the_queue_forgot(run):
    run.programs.queue()
    assert run.states() == ["failed", "cancelled", "failed", "cancelled"]
    accounts = "101|OUT_OF_MEMORY\\n103_0|CANCELLED by 1000\\n103_1|NODE_FAIL\\n103_2|COMPLETED"
    run.programs.install("sacct", f"#!/bin/bash\nprintf '{accounts}\\n'\n")
    _, notes = run.status()
    assert notes[0] == "train: failed: out of memory"
    assert notes[2:5] == [
        "sample-hmc task 0: stopped: cancelled",
        "sample-hmc task 1: failed: its node failed",
        "sample-hmc task 2: failed: ended without a message",
    ]


def test_a_whole_run_is_finished(run):
    run.sample(0, 1, 2)
    folder = RunFolder(run.folder)
    folder.flow.mkdir(exist_ok=True)
    write_checkpoint(folder, read_held_card(folder.card))
    folder.evaluation.touch()
    run.programs.queue()
    run.outcome("analyse", 0)
    assert run.states() == ["finished", "failed", "finished", "finished"]


def test_more_configurations_leave_tasks_unfinished(run):
    run.sample(0, 1, 2)
    for index in range(3):
        run.outcome(f"sample-hmc.{index}", 0)
    run.programs.queue()
    card = run.folder / "card.toml"
    card.write_text(card.read_text().replace("n_configs = 10", "n_configs = 20"))
    rows, notes = run.status()
    assert rows["sample-hmc"][1:] == ["unfinished", "103", "30/60 configurations; 3 tasks: 3 unfinished"]
    assert "sample-hmc: unfinished: submit again to continue" in notes


def test_a_broken_file_is_told(run):
    run.sample(0)
    path = run.folder / "ensembles" / "hmc.0.h5"
    path.write_bytes(path.read_bytes()[:1000])
    rows, notes = run.status()
    assert rows["sample-hmc"][1] == "broken"
    assert any(note.startswith(f"sample-hmc: {path}") for note in notes)


def test_many_reasons_are_cut_short(run):
    run.programs.queue(*((f"103_{index}", "PENDING", 0, f"Odd{index}") for index in range(3)))
    notes = [note for note in run.status()[1] if note.startswith("sample-hmc")]
    assert notes == [f"sample-hmc task {index}: waiting: Slurm says Odd{index}" for index in range(3)]


def test_a_dry_run_is_not_submitted(tmp_path):
    (tmp_path / "card.toml").write_text(WITH_FLOW)
    (tmp_path / "profile.toml").write_text(PROFILE)
    submit(tmp_path / "card.toml", tmp_path / "profile.toml", tmp_path / "run", (), True, Console(file=StringIO()))
    console = Console(file=StringIO(), width=120)
    status(tmp_path / "run", console)
    states = [line.split()[1] for line in console.file.getvalue().splitlines()[1:]]
    assert states == ["unsubmitted"] * 5


def test_a_run_that_was_never_submitted_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such card or folder"):
        status(tmp_path / "none", Console(file=StringIO()))
    (tmp_path / "card.toml").write_text(CARD)
    (tmp_path / "ensembles").mkdir()
    with pytest.raises(InputError, match="was never submitted; `lattice-flows watch`"):
        status(tmp_path, Console(file=StringIO()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("one\n\n", "one"),
        ("x: ended with status 3\n", "x: ended with status 3"),
        ("why\n\nx: ended with status 3\n", "why (status 3)"),
    ],
)
def test_last_words_of_a_log(tmp_path, text, words):
    (tmp_path / "log").write_text(text)
    assert last_words(tmp_path / "log") == words
    assert last_words(tmp_path / "none") == ""


def test_what_a_person_has_cancelled_is_not_called_failed(run):
    """Slurm forgets what it removed from the queue, where the site keeps no accounts."""
    run.sample(0)
    run.programs.queue(("101", "RUNNING", 0, "None"), *ALL_WAIT[1:4], ("103_1", "RUNNING", 0, ""), ALL_WAIT[-1])
    cancel(run.folder, Console(file=StringIO()))
    run.outcome("train", 75, "stopped by SIGTERM; everything is saved")
    run.outcome("sample-hmc.1", 1, "no space left on device")
    run.programs.queue()
    rows, notes = run.status()
    assert [cells[1] for cells in rows.values()] == ["cancelled", "cancelled", "failed", "cancelled"]
    assert notes == [
        "train: cancelled by you: stopped by SIGTERM; everything is saved",
        "sample-flow: cancelled by you",
        "sample-hmc task 1: failed: no space left on device",
        "sample-hmc task 2: cancelled by you",
        "analyse: cancelled by you",
    ]


def test_what_needs_a_cancelled_stage_says_so(run):
    run.programs.queue(("101", "RUNNING", 0, "None"))
    cancel(run.folder, Console(file=StringIO()))
    run.programs.queue()
    assert "sample-flow: cancelled because train was cancelled by you" in run.status()[1]


def test_a_new_submission_is_not_cancelled(run):
    cancel(run.folder, Console(file=StringIO()))
    run.programs.queue()
    (run.programs.home / "n").write_text("0")  # the same ids once more
    submit(run.folder, None, None, (), False, Console(file=StringIO()))
    assert "cancelled" not in run.states()[:1]


def test_without_accounts_outcomes_and_logs_say_how_jobs_ended(run):
    run.programs.queue()
    run.outcome("train", 75, "stopped by SIGUSR1; everything is saved")
    run.outcome("sample-hmc.0", 2, "hmc.0.h5: is of another theory")
    run.log("sample-hmc.1", "Killed", "2026-01-01 00:00:00 sample-hmc.1: ended with status 137")
    _, notes = run.status()
    assert notes[0] == "train: stopped: stopped by SIGUSR1; everything is saved"
    assert notes[2:5] == [
        "sample-hmc task 0: failed: hmc.0.h5: is of another theory",
        "sample-hmc task 1: failed: killed by SIGKILL (status 137), perhaps for lack of memory",
        "sample-hmc task 2: failed: ended without a message",
    ]


def test_the_progress_of_a_training_is_that_of_its_last_look(run):
    (run.folder / "flow").mkdir()
    run.programs.queue(("101", "RUNNING", 0, "None"))
    saved = Checkpoint(
        header={},
        settings={},
        seed=1,
        threads=1,
        step=7,
        train_seconds=0.5,
        reason="",
        worst_loss=0.0,
        flow={},
        average={},
        optimizer={"state": {}, "param_groups": []},
        generators=[],
    )
    save_checkpoint(run.folder / "flow" / "checkpoint.pt", saved)
    assert run.status()[0]["train"][1:] == ["running", "101", "7/20 steps"]
    record = Record(12, 3.5, -1.0, 0.25, -9.0, 1e-3, 1.0, 2.0, ess_error=0.01, n_samples=4000.0, largest_share=0.001)
    append_record(run.folder / "flow" / "history.csv", record)
    assert run.status()[0]["train"][1:] == ["running", "101", "12/20 steps, ESS 0.250(10)"]


def test_the_exit_status_tells_of_failures(run, monkeypatch):
    def ended() -> int:
        monkeypatch.setattr(sys, "argv", ["lattice-flows", "status", str(run.folder)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert ended() == 0
    run.programs.queue(*ALL_WAIT[:4], ("103_0", "RUNNING", 0, ""), ("103_1", "FAILED", 0, "NonZeroExitCode"))
    assert ended() == 1  # one task, though others run
    cancel(run.folder, Console(file=StringIO()))
    run.programs.queue()
    assert ended() == 0
