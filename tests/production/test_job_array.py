"""Job arrays: the chains of tasks are those of the whole ensemble, whatever their number."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cards import assert_same_ensemble, claimed, environment
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.production.generate import generate
from lattice_flows.production.job_array import Task, parse_task, task_progress
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import train_flow
from lattice_flows.terminal.interrupt import Stopped, StopRequest

QUIET = Console(quiet=True)

CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 5
n_configs = 40
n_thermalisation = 10

[[ensemble]]
name = "mixed"
sampler = "mixture"
n_chains = 5
n_configs = 30
n_thermalisation = 10
parts = [{ sampler = "hmc" }, { sampler = "instanton" }]

[[ensemble]]
name = "direct"
sampler = "direct"
n_chains = 5
n_configs = 30
start = "direct"

[[ensemble]]
name = "umbrella"
sampler = "umbrella"
n_windows = 3
n_chains = 6
n_configs = 20
n_thermalisation = 10
"""

WITH_FLOW = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
transform = "projection"
n_layers = 8
hidden = [8]
[training]
max_steps = 5
[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_chains = 4
n_configs = 200
n_thermalisation = 2
batch_size = 100
"""


@pytest.fixture
def begun(card, tmp_path):
    """A run that holds nothing yet."""
    return claimed(card(CARD), tmp_path / "run", [])


def made(folder: RunFolder, card, name: str, n_tasks: int) -> list[Path]:
    for index in range(n_tasks):
        generate(folder, card, name, StopRequest(), QUIET, Task(index, n_tasks))
    return folder.files(name)


def chains_of(files: list[Path], name: str) -> dict[str, np.ndarray]:
    """Everything that the files hold of their chains, put together."""
    opened = [Ensemble.open(path) for path in files]
    found = {f"series/{one}": [file.series(one) for file in opened] for one in opened[0].series_names}
    if opened[0].has_fields:
        found["fields"] = [file.configs(0, file.n_configs) for file in opened]
    return {key: np.concatenate(parts, axis=1) for key, parts in found.items()}


def test_tasks_share_out_all_chains():
    for n_chains in (1, 5, 16, 17):
        for count in range(1, n_chains + 1):
            dealt = [Task(index, count).chains(n_chains) for index in range(count)]
            assert [k for chains in dealt for k in chains] == list(range(n_chains))
            sizes = {len(chains) for chains in dealt}
            assert max(sizes) - min(sizes) <= 1


def test_the_task_of_a_text():
    assert parse_task("3/16") == Task(3, 16)
    assert str(Task(3, 16)) == "3/16"
    for wrong in ("", "3", "3/", "/4", "4/4", "-1/4", "1/0", "0/0", "1.0/4", "1/4/5", "²/4", " 1/4", "1/99999999"):
        with pytest.raises(InputError, match=r"^--task .*: (must be written I/N|tasks are counted from 0)"):
            parse_task(wrong)


@pytest.mark.parametrize("name", ["hmc", "mixed", "direct"])
def test_chains_do_not_know_how_they_are_dealt(begun, tmp_path, card, name):
    folder, asked = begun
    files = made(folder, asked, name, 3)
    assert [path.name for path in files] == [f"{name}.{index}.h5" for index in range(3)]
    whole, asked = claimed(card(CARD), tmp_path / "whole", [])
    generate(whole, asked, name, StopRequest(), QUIET)
    expected, found = chains_of(whole.files(name), name), chains_of(files, name)
    assert expected.keys() == found.keys()
    assert "fields" in found
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)
    assert len({values.tobytes() for values in np.moveaxis(found["fields"], 1, 0)}) == 5
    headers = [Ensemble.open(path).attributes for path in [*whole.files(name), *files]]
    for key in ("name", "theory", "sampler", "card", "seed", "observables"):
        assert len({str(header[key]) for header in headers}) == 1, key
    assert [header.get("task") for header in headers] == [None, "0/3", "1/3", "2/3"]
    assert [(header["first_chain"], header["n_chains"]) for header in headers[1:]] == [(0, 1), (1, 2), (3, 2)]


def test_chains_that_start_from_a_file_are_dealt_its_configurations(begun, tmp_path, card):
    """Also where it holds fewer than there are chains."""
    folder, asked = begun
    generate(folder, asked, "hmc", StopRequest(), QUIET)
    starts = [f"ensemble.direct.start={folder.ensemble('hmc')}", "ensemble.direct.sampler=hmc",
              "ensemble.direct.n_md_steps=3", "ensemble.direct.n_chains=7", "ensemble.direct.n_thermalisation=0",
              "ensemble.direct.n_configs=3"]  # fmt: skip
    (array, asked), (whole, _) = (claimed(card(CARD), tmp_path / name, starts) for name in ("array", "one"))
    generate(whole, asked, "direct", StopRequest(), QUIET)
    expected, found = chains_of(whole.files("direct"), ""), chains_of(made(array, asked, "direct", 3), "")
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)


def test_tasks_of_umbrella_hold_whole_sets_of_windows(begun, tmp_path, card):
    folder, asked = begun
    with pytest.raises(InputError, match=r"has 2 sets of . chains.*a number of tasks that divides 2"):
        generate(folder, asked, "umbrella", StopRequest(), QUIET, Task(0, 3))
    files = made(folder, asked, "umbrella", 2)
    whole, asked = claimed(card(CARD), tmp_path / "whole", [])
    generate(whole, asked, "umbrella", StopRequest(), QUIET)
    expected, found = chains_of(whole.files("umbrella"), ""), chains_of(files, "")
    assert (expected["series/window"][0] == [0, 1, 2, 0, 1, 2]).all()
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a flow, and its array of two tasks."""
    folder = tmp_path_factory.mktemp("flow")
    (folder / "card.toml").write_text(WITH_FLOW)
    run, asked = claimed(folder / "card.toml", folder / "run", [])
    train_flow(run, asked, StopRequest(), QUIET)
    made(run, asked, "flow", 2)
    return run, asked


def test_tasks_of_a_flow_are_independent(trained):
    """Their proposals come from one network, and from random numbers that no other task draws."""
    run, _ = trained
    files = [Ensemble.open(path) for path in run.files("flow")]
    proposals = np.concatenate([file.proposals("log_w") for file in files], axis=1)  # (n_proposals, 4)
    assert len(np.unique(proposals)) == proposals.size
    correlation = np.corrcoef(proposals.T) - np.eye(4)
    assert np.abs(correlation).max() * np.sqrt(len(proposals)) < 4.5
    drawn = {file.state()["sampler/generator"].tobytes() for file in files}
    assert len(drawn) == 2


def test_tasks_of_a_flow_are_the_same_at_equal_grouping(trained, tmp_path):
    run, asked = trained
    again, _ = claimed(run.card, tmp_path / "again", [])
    again.flow.symlink_to(run.flow)
    for one, other in zip(run.files("flow"), made(again, asked, "flow", 2)):
        assert_same_ensemble(one, other)


def test_what_does_not_fit_is_refused_in_one_line(begun):
    folder, asked = begun
    with pytest.raises(InputError, match=r"--task 0/6: ensemble 'hmc' has 5 chains; ask for no more tasks than that"):
        generate(folder, asked, "hmc", StopRequest(), QUIET, Task(0, 6))
    generate(folder, asked, "hmc", StopRequest(), QUIET, Task(0, 2))
    with pytest.raises(InputError, match=r"hmc\.0\.h5: 'hmc' was begun as a job array; continue with --task I/N"):
        generate(folder, asked, "hmc", StopRequest(), QUIET)
    for other in (Task(0, 5), Task(0, 3)):  # finished, and of another array
        with pytest.raises(InputError, match=rf"hmc\.0\.h5: holds chains 0 to 1 of task 0/2, but task {other} should"):
            generate(folder, asked, "hmc", StopRequest(), QUIET, other)
    generate(folder, asked, "direct", StopRequest(), QUIET)
    with pytest.raises(InputError, match=r"direct\.h5: holds all chains of 'direct'; continue without --task"):
        generate(folder, asked, "direct", StopRequest(), QUIET, Task(0, 2))
    assert folder.files("direct") == [folder.ensemble("direct")]


def test_an_array_that_is_whole_is_left_alone(begun):
    folder, asked = begun
    files = made(folder, asked, "direct", 2)
    before = [path.stat().st_mtime_ns for path in files]
    generate(folder, asked, "direct", StopRequest(), QUIET)
    made(folder, asked, "direct", 2)
    assert [path.stat().st_mtime_ns for path in files] == before
    assert not folder.ensemble("direct").exists()


class _After(StopRequest):
    """Stops after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def __call__(self) -> bool:
        self.looks -= 1
        if self.looks < 0:
            self.signal = "SIGUSR1"
        return super().__call__()


def test_a_task_that_was_stopped_goes_on_to_the_same_bits(begun, tmp_path, card):
    folder, asked = begun
    generate(folder, asked, "hmc", StopRequest(), QUIET, Task(1, 2))
    stopped, _ = claimed(card(CARD), tmp_path / "stopped", [])
    n_stops = 0
    while not stopped.task("hmc", 1).exists():
        try:
            generate(stopped, asked, "hmc", _After(6), QUIET, Task(1, 2))
        except Stopped:
            n_stops += 1
    assert n_stops > 3
    assert_same_ensemble(folder.task("hmc", 1), stopped.task("hmc", 1))


def test_a_task_that_was_killed_goes_on_to_the_same_bits(tmp_path, card):
    """SIGKILL, of a process of its own, in the middle of its segments; the others are not touched."""
    more = ["ensemble.hmc.n_configs=60000", "ensemble.hmc.store_fields=false"]
    killed, asked = claimed(card(CARD), tmp_path / "killed", more)
    path = killed.task("hmc", 1)
    program = [sys.executable, "-c", KILLED, str(killed.path)]
    with subprocess.Popen(program, env=environment(), cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while not Ensemble.exists(path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    (progress,) = [one for one in task_progress(killed, asked.ensemble("hmc"), 2) if one.index == 1]
    assert not progress.finished
    generate(killed, asked, "hmc", StopRequest(), QUIET, Task(1, 2))
    whole, asked = claimed(card(CARD), tmp_path / "whole", more)
    generate(whole, asked, "hmc", StopRequest(), QUIET, Task(1, 2))
    assert_same_ensemble(whole.task("hmc", 1), path)


KILLED = """
import sys
from pathlib import Path
from rich.console import Console
from lattice_flows.production.generate import generate
from lattice_flows.production.produce import Pace
from lattice_flows.production.run_folder import asked_for
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.production.job_array import Task
folder, card = asked_for(Path(sys.argv[1]), None, [])
generate(folder, card, "hmc", StopRequest(), Console(quiet=True), Task(1, 2), Pace(commit_seconds=0.05))
"""


def test_how_far_tasks_are_is_read_from_their_files(begun):
    folder, asked = begun
    table = asked.ensemble("hmc")
    generate(folder, asked, "hmc", StopRequest(), QUIET, Task(2, 3))
    with pytest.raises(Stopped):
        generate(folder, asked, "hmc", _After(4), QUIET, Task(0, 3))
    found = task_progress(folder, table, 3)
    assert [one.index for one in found] == [0, 1, 2]
    assert [one.finished for one in found] == [False, False, True]
    assert (found[1].n_configs, found[1].n_thermalised) == (0, 0)
    assert (found[2].n_configs, found[2].n_thermalised) == (40, 10)
    assert found[0].n_configs == 0
    assert 0 < found[0].n_thermalised < 10
    more = parse_card(CARD, ["ensemble.hmc.n_configs=50"]).ensemble("hmc")
    assert not task_progress(folder, more, 3)[2].finished
    for count in (1, 2):
        with pytest.raises(InputError, match=r"hmc\.2\.h5: belongs to an array of more than"):
            task_progress(folder, table, count)
    with pytest.raises(InputError, match=r"hmc\.\d\.h5: holds .*, but task \d/4 has"):
        task_progress(folder, table, 4)


def test_the_files_of_an_ensemble(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.files("a") == []
    folder.ensembles.mkdir()
    for name in ("a.10.h5", "a.2.h5", "a.01.h5", "a.x.h5", "ab.1.h5", "a.3.lock", "a.4.h5.tmp", "b.h5", "b.0.h5"):
        (folder.ensembles / name).touch()
    for number, name in (("000000.h5", "a.7.segments"), ("000000.h5.tmp", "a.8.segments")):
        (folder.ensembles / name).mkdir()
        (folder.ensembles / name / number).touch()
    assert folder.files("a") == [folder.task("a", index) for index in (2, 7, 10)]
    assert folder.files("b") == [folder.ensemble("b")]
    assert folder.tasks("b") == [0]
    assert folder.cluster == tmp_path / "cluster"


def test_many_tasks_open_one_run_at_once(card, tmp_path):
    """All of them claim it, none finds it half written; what is the same is not written again."""
    path, out = card(CARD), tmp_path / "run"
    gate = threading.Barrier(20)

    def opened(_: int) -> str:
        gate.wait(60)
        return claimed(path, out, ["seed=9"])[1].text

    with ThreadPoolExecutor(20) as pool:
        for _ in range(5):
            assert set(pool.map(opened, range(20))) == {CARD}
    assert sorted(entry.name for entry in out.iterdir()) == ["card.toml", "ensembles", "overrides.json"]
    assert json.loads((out / "overrides.json").read_text()) == ["seed=9"]
    with read_only(out):
        assert claimed(out, None, [])[1].seed == 9
        assert claimed(path, out, ["seed=9"])[1].seed == 9


@contextmanager
def read_only(folder: Path):
    before = [(path, path.stat().st_mtime_ns) for path in folder.iterdir()]
    yield
    assert [(path, path.stat().st_mtime_ns) for path in folder.iterdir()] == before
    assert os.listdir(folder) == [path.name for path, _ in before]
