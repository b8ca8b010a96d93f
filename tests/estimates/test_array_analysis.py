"""The files of a job array, analysed as one ensemble; and what is said of tasks that are missing."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cards import claimed, environment
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Block, Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files, analyse_run
from lattice_flows.monitor.watch import watch
from lattice_flows.production.job_array import Task, task_progress
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import write_files_report, write_report

N_CHAINS, N = 16, 200
CARD = f"""
seed = 7
[theory]
name = "u1"
shape = [4, 4]
beta = 1.5
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = {N_CHAINS}
n_configs = {N}
n_thermalisation = 10
store_fields = false
"""


def series_of(chains: range, n: int) -> dict[str, np.ndarray]:
    """Of each chain what its number says, (n, n_chains)."""
    found: dict[str, list[np.ndarray]] = {}
    for chain in chains:
        rng = np.random.default_rng([7, chain])
        noise = rng.normal(size=n)
        one = {
            "action": 10.0 + noise, "plaquette": 0.5 + 0.1 * noise,
            "topological_charge": rng.integers(-1, 2, n).astype(float),
            "wilson_loop_1x2": 0.3 + 0.1 * rng.normal(size=n), "wilson_loop_2x2": 0.2 + 0.01 * rng.normal(size=n),
            "accepted": (rng.random(n) < 0.75).astype(float),
        }  # fmt: skip
        for name, values in one.items():
            found.setdefault(name, []).append(values)
    return {name: np.stack(columns, axis=1) for name, columns in found.items()}


def write(
    path: Path, card: Card, chains: range, *, task: Task | None = None, n: int = N, finish: bool = True,
    threads: int = 1, **changed: str,
) -> None:  # fmt: skip
    header = {
        "name": "hmc", "theory": json.dumps(card.theory.as_dict()), "weighted": 0, "seed": 7, "threads": threads,
        "sampler": json.dumps({"name": "hmc", "n_updates": 1, "n_thermalisation": 10}), "device": "cpu",
        "observables": json.dumps([one.as_dict() for one in card.measurements]), "software": '{"python": "3"}',
        "git_commit": "c0ffee", "created": "2031-05-06T07:08:09+00:00", "card": card.text, "overrides": "[]",
    } | changed | ({} if task is None else {"task": str(task)})  # fmt: skip
    spec = field_spec(card.theory)
    with Ensemble.create(path, header=header, chains=chains, field=spec, store_fields=False) as writer:
        writer.append(Block(series_of(chains, n)))
        writer.commit({"n_thermalised": 10}, seconds=0.5 * len(chains) / threads)  # half a core second for each chain
        if finish:
            writer.finish()


def array(folder: RunFolder, card: Card, count: int, *, without: tuple[int, ...] = (), **options: int) -> None:
    for index in set(range(count)) - set(without):
        task = Task(index, count)
        write(folder.task("hmc", index), card, task.chains(N_CHAINS), task=task, **options)


@pytest.fixture
def begun(card, tmp_path):
    """A run that holds nothing yet."""
    return claimed(card(CARD), tmp_path / "run", [])


def assert_same_figures(one: dict, other: dict) -> None:
    """Equal up to the rounding of sums in another order, but for what names the files."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_same_figures(value, other[key])
        elif isinstance(value, float):
            assert other[key] == pytest.approx(value, rel=1e-9, abs=1e-12), key
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for a, b in zip(value, other[key], strict=True):
                assert_same_figures(a, b)
        else:
            assert other[key] == value, key


@pytest.mark.parametrize("count", [1, 3, 16])
def test_an_array_has_the_figures_of_the_whole(begun, tmp_path, count):
    """The cost too: seconds of all cores, however the chains were dealt."""
    folder, card = begun
    write(tmp_path / "whole" / "hmc.h5", card, range(N_CHAINS), threads=2)
    array(folder, card, count)
    whole = analyse_files([tmp_path / "whole" / "hmc.h5"]).summary["ensembles"]["hmc"]
    found = analyse_run(folder, card).summary["ensembles"]["hmc"]
    assert analyse_files(folder.files("hmc")).summary["ensembles"]["hmc"] == found
    cost = found["seconds"] * found["threads"]
    assert cost == pytest.approx(0.5 * N_CHAINS) == whole["seconds"] * whole["threads"]
    n_eff = found["observables"]["topological_charge_squared"]["n_eff"]
    assert found["seconds_per_independent_config"] == pytest.approx(cost / n_eff)
    for one in (whole, found):
        del one["seconds"], one["threads"], one["files"]
    assert_same_figures(whole, found)


def test_threads_that_differ_do_not_change_the_cost(begun):
    folder, card = begun
    for index in range(4):
        task = Task(index, 4)
        write(folder.task("hmc", index), card, task.chains(N_CHAINS), task=task, threads=1 + index)
    found = analyse_run(folder, card).summary["ensembles"]["hmc"]
    assert found["seconds"] * found["threads"] == pytest.approx(0.5 * N_CHAINS)


def test_what_is_missing_is_said(begun):
    folder, card = begun

    def warnings() -> list[str]:
        return [text for text in analyse_run(folder, card).summary["ensembles"]["hmc"]["warnings"] if "task" in text]

    array(folder, card, 16, without=(3, 5, 7))
    assert warnings() == ["holds 13 of 16 chains: tasks 3, 5 and 7 are missing"]
    write(folder.task("hmc", 3), card, range(3, 4), task=Task(3, 16), finish=False)
    write(folder.task("hmc", 5), card, range(5, 6), task=Task(5, 16), n=N // 2)
    assert warnings() == [
        "holds 15 of 16 chains: task 7 is missing",
        "tasks 3 and 5 are not finished: some chains are shorter",
    ]
    write(folder.task("hmc", 7), card, range(7, 8), task=Task(7, 16), n=3, finish=False)  # has just begun
    assert warnings()[0] == "holds 15 of 16 chains: task 7 is missing"
    assert analyse_run(folder, card).summary["ensembles"]["hmc"]["n_configs"] == N // 2
    for path in folder.ensembles.glob("*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    array(folder, card, 16, without=tuple(range(1, 14)))
    assert warnings() == ["holds 3 of 16 chains: tasks 1, 2, 3, 4, 5, 6, 7, 8 and 5 others are missing"]
    array_of_four = RunFolder(folder.path / "four")
    array(array_of_four, card, 4)
    assert not [
        text for text in analyse_run(array_of_four, card).summary["ensembles"]["hmc"]["warnings"] if "task" in text
    ]


def test_the_report_takes_an_array(begun, tmp_path):
    folder, card = begun
    array(folder, card, 4, without=(2,))
    with analyse_run(folder, card) as analysis:
        write_report(folder, card, analysis, folder.report)
    page = (folder.report / "index.html").read_text()
    assert "holds 12 of 16 chains: task 2 is missing" in page
    assert "hmc, 3 files" in page
    assert page.count("2031-05-06T07:08:09+00:00") == 1
    assert analysis.summary["ensembles"]["hmc"]["n_chains"] == 12
    with analyse_files(folder.files("hmc")) as analysis:
        write_files_report(tmp_path / "report", analysis)
    assert "hmc, 3 files" in (tmp_path / "report" / "index.html").read_text()


def test_files_that_do_not_belong_together_are_told_apart(begun):
    folder, card = begun
    array(folder, card, 4, without=(3,))
    last = folder.task("hmc", 3)
    write(last, card, range(3), task=Task(3, 4))
    with pytest.raises(InputError, match=r"hmc\.3\.h5: holds the same chains as .*hmc\.0\.h5"):
        analyse_run(folder, card)
    last.unlink()
    write(last, card, range(12, 16), task=Task(3, 4), name="other")
    with pytest.raises(InputError, match=r"hmc\.3\.h5: holds the ensemble 'other', not 'hmc'; move it back"):
        analyse_run(folder, card)
    last.unlink()
    write(last, card, range(12, 16), task=Task(3, 4), sampler=json.dumps({"name": "hmc", "n_thermalisation": 9}))
    with pytest.raises(InputError, match=r"hmc\.3\.h5: was made by another card: .*n_thermalisation: 10 on .*, 9 in"):
        analyse_run(folder, card)


def test_the_whole_file_comes_first(begun):
    folder, card = begun
    array(folder, card, 4)
    write(folder.ensemble("hmc"), card, range(2))
    assert analyse_run(folder, card).summary["ensembles"]["hmc"]["n_chains"] == 2


def test_many_files_need_few_descriptors(begun, tmp_path):
    """60 files and 40 descriptors: none stays open between two readings."""
    folder, card = begun
    for index in range(60):
        write(folder.task("hmc", index), card, range(index, index + 1), task=Task(index, 60), n=8)
    command = [sys.executable, "-m", "lattice_flows.cli", "analyse", *map(str, folder.files("hmc"))]
    done = subprocess.run(
        [*command, "--report", "report"], capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "index.html").exists()


def look(folder: RunFolder, capsys) -> list[str]:
    capsys.readouterr()
    watch(folder.path, Console(width=120, no_color=True), interval=1.0, once=True)
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_an_array_is_watched_in_one_row(begun, capsys):
    folder, card = begun
    assert "waiting" in look(folder, capsys)[1]
    array(folder, card, 16, without=(2, 3, 4, 5, 6, 7))
    write(folder.task("hmc", 2), card, range(2, 3), task=Task(2, 16), n=N // 2, finish=False)
    _, first, second = look(folder, capsys)
    assert first.split() == ["hmc", "interrupted", *["█████░░░", "65", "%"], "10/16", "tasks"]
    assert "2100/3200" in second
    lock = folder.task("hmc", 2).with_suffix(".lock")
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    _, first, second = look(folder, capsys)
    assert first.split()[1] == "running"
    assert second.endswith("1 running")
    lock.unlink()
    array(folder, card, 16, without=tuple({*range(16)} - {3, 4, 5, 6, 7}))
    with Ensemble.resume(folder.task("hmc", 2)) as writer:
        writer.append(Block(series_of(range(2, 3), N // 2)))
        writer.commit({"n_thermalised": 10}, seconds=0.25)
        writer.finish()
    _, first, _ = look(folder, capsys)
    assert first.split()[1] == "finished"
    assert "16/16 tasks" in first
    folder.task("hmc", 9).write_bytes(b"nothing")
    lines = look(folder, capsys)
    assert "broken" in lines[1]
    assert lines[-1].startswith("hmc: hmc.9.h5: ")


def test_progress_of_the_tasks_of_an_array(begun):
    folder, card = begun
    array(folder, card, 16, without=(3,))
    found = task_progress(folder, card.ensemble("hmc"), 16)
    assert [one.finished for one in found] == [index != 3 for index in range(16)]
    assert {one.n_configs for one in found} == {0, N}
