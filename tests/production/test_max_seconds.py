"""A budget of time: the same for every sampler, and kept over interruptions."""

import io

import numpy as np
import pytest
from cards import CLASSICAL, assert_same_ensemble, claimed, interrupted_runs, set_pace
from rich.console import Console

from lattice_flows.card.card import MANY, parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.monitor.watch import watch
from lattice_flows.production.job_array import Task
from lattice_flows.production.remake import remake
from lattice_flows.stages import run, sample_stage

pytestmark = pytest.mark.usefixtures("without_figures")

SECONDS = 0.3
TIMED = CLASSICAL.replace("n_configs = 600", f"max_seconds = {SECONDS}").replace("n_configs = 500", "n_configs = 5")
QUIET = Console(quiet=True)


def file_of(folder):
    return folder / "ensembles" / "hmc.h5"


def look(folder):
    file = io.StringIO()
    watch(folder, Console(file=file, width=120), 2.0, True)
    return file.getvalue()


def test_time_is_the_limit(card, tmp_path):
    run(card(TIMED), out := tmp_path / "run")
    with Ensemble.open(file_of(out)) as ensemble:
        assert ensemble.finished
        assert ensemble.seconds >= SECONDS
        assert ensemble.n_configs > 1
    assert "0/0 s" in look(out)
    assert look(out).count("finished") == 2

    before = file_of(out).read_bytes()
    run(card(TIMED), out)
    assert file_of(out).read_bytes() == before


def test_configurations_may_end_it_first(card, tmp_path):
    limits = ["ensemble.hmc.max_seconds=1e6", "ensemble.hmc.n_configs=20"]
    sample_stage(card(TIMED), out := tmp_path / "run", limits, ["hmc"], QUIET)
    with Ensemble.open(file_of(out)) as ensemble:
        assert ensemble.n_configs == 20


def test_more_time_goes_on(card, tmp_path):
    """With the configurations that follow: they depend on no clock, only their number does."""
    sample_stage(source := card(TIMED), out := tmp_path / "run", [], ["hmc"], QUIET)
    with Ensemble.open(file_of(out)) as ensemble:
        first = ensemble.series("plaquette")
    sample_stage(source, out, [f"ensemble.hmc.max_seconds={2 * SECONDS}"], ["hmc"], QUIET)
    with Ensemble.open(file_of(out)) as ensemble:
        whole = ensemble.series("plaquette")
        assert ensemble.seconds >= 2 * SECONDS
    assert len(whole) > len(first)
    np.testing.assert_array_equal(whole[: len(first)], first)

    limits = ["ensemble.hmc.max_seconds=1e6", f"ensemble.hmc.n_configs={len(whole)}"]
    sample_stage(source, same := tmp_path / "same", limits, ["hmc"], QUIET)
    assert_same_ensemble(file_of(out), file_of(same))


def test_interruptions_take_no_time(card, tmp_path, monkeypatch):
    set_pace(monkeypatch, block_seconds=0.01, commit_seconds=0.02)
    source, looks = card(TIMED), iter([40, 2000, 1000, 4000])

    class Planned:
        def randint(self, low, high):
            return next(looks, 10**9)

    out = tmp_path / "run"
    assert interrupted_runs(source, out, monkeypatch, Planned()) >= 2
    with Ensemble.open(file_of(out)) as ensemble:
        assert SECONDS <= ensemble.seconds < 10 * SECONDS  # and not that of every attempt
        n_configs = ensemble.n_configs
    monkeypatch.undo()
    assert remake(file_of(out), tmp_path / "again", QUIET)
    with Ensemble.open(file_of(tmp_path / "again")) as again:
        assert again.n_configs == n_configs


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ensemble.hmc.max_seconds=0.1", "ensemble.hmc.max_seconds: 0.1 on the card, 0.3 in the run, and it may only"),
        (
            "ensemble.hmc.n_configs=7",
            "ensemble.hmc.n_configs: 7 on the card, no limit in the run, and it may only grow",
        ),
    ],
)
def test_a_smaller_budget_is_refused(change, told, card, tmp_path):
    claimed(source := card(TIMED), tmp_path / "run")
    with pytest.raises(InputError, match=told):
        claimed(source, tmp_path / "run", [change])


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "'long'"])
def test_no_time_at_all(value):
    with pytest.raises(InputError, match=r"\[\[ensemble\]\] hmc: max_seconds"):
        parse_card(CLASSICAL, [f"ensemble.hmc.max_seconds={value}"])


def test_limits_of_a_card():
    tables = parse_card(TIMED).ensembles
    assert [(table.n_configs, table.max_seconds) for table in tables] == [(MANY, SECONDS), (5, None)]


def test_each_task_has_the_time(card, tmp_path):
    source = card(TIMED)
    for index in range(3):
        sample_stage(source, tmp_path / "run", [], ["hmc"], QUIET, Task(index, 3))
    for path in (files := sorted((tmp_path / "run" / "ensembles").glob("hmc*.h5"))):
        with Ensemble.open(path) as ensemble:
            assert ensemble.finished
            assert ensemble.seconds >= SECONDS
    assert len(files) == 3
    assert "3/3 tasks" in look(tmp_path / "run")
