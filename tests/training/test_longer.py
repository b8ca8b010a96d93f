"""A training that has ended goes on when the card asks for a longer one."""

import shutil

import numpy as np
import pytest
from cards import WITH_FLOW, contents

from lattice_flows.production.run_folder import RunFolder
from lattice_flows.training import load_flow_weights, read_checkpoint, read_history

ENOUGH = "training.target_ess=0.05"
SHORT, LONG = "training.max_steps=40", "training.max_steps=80"


@pytest.fixture
def train(card, lattice_flows, tmp_path):
    """Train in the folder of this name with these overrides; returns the output."""

    def do(name: str, *overrides: str) -> str:
        options = [part for override in overrides for part in ("--set", override)]
        status, out, said = lattice_flows("train", card(WITH_FLOW), "--out", tmp_path / name, *options)
        assert status == 0, said
        return out

    return do


def weights_of(folder):
    return load_flow_weights(RunFolder(folder).flow / "checkpoint.pt")


def test_one_that_had_reached_its_target_has_the_bits_of_one_without(train, tmp_path):
    train("long")
    train("short", ENOUGH)
    first = weights_of(tmp_path / "short")
    assert first.step < 120
    assert read_checkpoint(RunFolder(tmp_path / "short").flow / "checkpoint.pt").reason == "target_ess"
    out = train("short")
    assert f"goes on from step {first.step}, as if it had been longer from the start" in out
    assert weights_of(tmp_path / "short").sha256 == weights_of(tmp_path / "long").sha256 != first.sha256


def test_more_steps_go_on_and_say_that_the_schedule_is_another(train, tmp_path):
    train("short", SHORT)
    folder = RunFolder(tmp_path / "short")
    before = contents(folder.evaluation)["proposals/log_w"]
    out = train("short", LONG)
    assert "goes on from step 40; its schedules stretch from here on" in out
    held = read_checkpoint(folder.flow / "checkpoint.pt")
    assert (held.step, held.reason, held.settings["max_steps"]) == (80, "max_steps", 80)
    assert [row.step for row in read_history(folder.flow / "history.csv")] == [40, 80]
    assert not np.array_equal(contents(folder.evaluation)["proposals/log_w"], before)  # of the flow as it is now
    train("long", LONG)
    assert weights_of(folder.path).sha256 != weights_of(tmp_path / "long").sha256
    assert "goes on" not in train("short", LONG)


def test_it_is_refused_where_ensembles_hang_on_the_flow(train, lattice_flows, tmp_path):
    train("run", SHORT, "ensemble.flow.n_configs=20")
    folder = tmp_path / "run"
    assert lattice_flows("sample", folder, "--ensemble", "flow")[0] == 0
    for command in ("train", "run"):
        status, _, said = lattice_flows(command, folder, "--set", LONG)
        assert status == 2
        assert "ensembles/flow.h5: was made with the flow as it is" in said
    status, _, said = lattice_flows("sample", folder, "--set", LONG, "--set", "ensemble.flow.n_configs=30")
    assert status == 2
    assert "is at step 40 of its training; finish that first" in said
    shutil.move(folder / "ensembles" / "flow.h5", tmp_path / "kept.h5")
    assert lattice_flows("train", folder, "--set", LONG)[0] == 0
    assert weights_of(folder).step == 80


def test_a_shorter_one_is_refused(train, card, lattice_flows, tmp_path):
    train("run", LONG)
    status, _, said = lattice_flows("train", card(WITH_FLOW), "--out", tmp_path / "run", "--set", SHORT)
    assert status == 2
    assert "training.max_steps: 40 on the card, 80 in the run, and it may only grow" in said
