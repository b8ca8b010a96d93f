"""A run folder holds what its card says: every change of the card is taken, or told key by key."""

import re
import shutil

import h5py
import numpy as np
import pytest
import torch
from cards import assert_same_ensemble, claimed, contents

from lattice_flows.production.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("without_figures")

CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0

[flow]
name = "plaquette_coupling"
transform = "projection"
n_layers = 8
hidden = [4]

[training]
max_steps = 6
monitor_every = 2

[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_configs = 40
n_thermalisation = 5
batch_size = 50

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 30
n_thermalisation = 5
"""
OBSERVABLE = '\n[[observable]]\nname = "polyakov_loop"\nmu = 0\n'
MORE = '\n[[ensemble]]\nname = "more"\nsampler = "direct"\nn_configs = 10\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run."""
    from lattice_flows.stages import run

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lattice_flows.stages.write_report", lambda *_: None)
        (folder / "card.toml").write_text(CARD)
        run(folder / "card.toml", folder / "run")
    return folder / "run"


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def edited(folder: RunFolder, old: str, new: str) -> None:
    text = folder.card.read_text()
    assert text.count(old) == 1
    folder.card.write_text(text.replace(old, new))


CHANGES = [
    ("seed = 5", "seed = 6", "seed: 6 on the card, 5 in the run"),
    ("beta = 1.0", "beta = 1.5", "theory.beta: 1.5 on the card, 1.0 in the run"),
    ("hidden = [4]", "hidden = [5]", "flow.hidden: [5] on the card, [4] in the run"),
    ("monitor_every = 2", "learning_rate = 0.5", "training.learning_rate: 0.5 on the card"),
    ("max_steps = 6", "max_steps = 5", "training.max_steps: 5 on the card, 6 in the run, and it may only grow"),
    ("batch_size = 50", "batch_size = 60", "ensemble.flow.batch_size: 60 on the card, 50 in the run"),
    ('"hmc"\nn_conf', '"hmc"\nn_md_steps = 9\nn_conf', "ensemble.hmc.n_md_steps: 9 on the card, absent in the run"),
    ("= 30\nn_thermalisation = 5", "= 30\nn_thermalisation = 7", "ensemble.hmc.n_thermalisation: 7 on the card, 5 in"),
    ('"hmc"\nn_conf', '"hmc"\nstore_fields = false\nn_conf', "ensemble.hmc.store_fields: false on the card, true in"),
]


@pytest.mark.parametrize("command", ["run", "sample", "analyse", "verify"])
@pytest.mark.parametrize(("old", "new", "told"), CHANGES, ids=[change[1] for change in CHANGES])
def test_an_edited_card_is_told_key_by_key(command, old, new, told, folder, lattice_flows):
    edited(folder, old, new)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    status, _, said = lattice_flows(command, folder.path)
    assert status == 2
    assert told in said
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("old", "new", "told"), CHANGES, ids=[change[1] for change in CHANGES])
def test_another_card_is_not_for_this_folder(old, new, told, folder, card, lattice_flows):
    status, _, said = lattice_flows("run", card(CARD.replace(old, new)), "--out", folder.path)
    assert status == 2
    assert told.removesuffix(", and it may only grow") in said
    assert folder.card.read_text() == CARD


def test_a_card_that_asks_for_more_is_taken(folder, card, lattice_flows, made):
    """More configurations, ensembles and observables: what there was keeps its bits."""
    longer = CARD.replace("n_configs = 30", "n_configs = 45") + MORE + OBSERVABLE
    held = contents(folder.ensemble("hmc"))
    status, _, said = lattice_flows("run", card(longer), "--out", folder.path)
    assert status == 0, said
    found = contents(folder.ensemble("hmc"))
    (new,) = {name for name in found if "polyakov" in name and "imag" not in name} or {None}
    assert new is not None
    for name, values in held.items():
        if not name.startswith("state"):
            np.testing.assert_array_equal(found[name][:30] if values.ndim else found[name], values)
    fresh = RunFolder(folder.path.parent / "fresh")
    assert lattice_flows("sample", card(longer, "b.toml"), "--out", fresh.path, "--ensemble", "hmc")[0] == 0
    assert_same_ensemble(fresh.ensemble("hmc"), folder.ensemble("hmc"))
    assert folder.ensemble("more").exists()
    assert lattice_flows("verify", folder.path)[0] == 0


def test_an_observable_needs_fields_and_a_finished_file(folder, card, lattice_flows):
    text = CARD + MORE.replace("direct", "hmc") + "store_fields = false\n"
    assert lattice_flows("run", card(text), "--out", folder.path)[0] == 0
    status, _, said = lattice_flows("run", card(text + OBSERVABLE), "--out", folder.path)
    assert status == 2
    assert "more.h5: holds chains without polyakov_loop" in said
    assert "no fields to measure them on" in said


def test_less_is_refused(folder, card, lattice_flows):
    for text, told in (
        (CARD.split('[[ensemble]]\nname = "hmc"')[0], "ensemble.hmc: absent on the card"),
        (CARD.replace("n_configs = 30", "n_configs = 20"), "n_configs: 20 on the card, 30 in the run"),
    ):
        status, _, said = lattice_flows("run", card(text), "--out", folder.path)
        assert status == 2
        assert told in said


def test_a_replaced_flow_is_told(folder, lattice_flows):
    path = folder.flow / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["average"] = {k: v + 0.3 if v.is_floating_point() else v for k, v in content["average"].items()}
    torch.save(content, path)
    for command in ("run", "sample", "analyse", "verify"):
        status, _, said = lattice_flows(command, folder.path)
        assert status == 2
        assert re.search(r"made with the flow of checksum \w+\.\.\., but that of checkpoint\.pt is", said)


def test_a_history_of_another_training_is_told(folder, lattice_flows):
    path = folder.flow / "history.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace(lines[1].split(",")[3], "0.99"), *lines[2:]]))
    status, _, said = lattice_flows("verify", folder.path)
    assert status == 2
    assert "is not the history of checkpoint.pt" in said


def test_finished_files_of_another_run_are_told(folder, card, lattice_flows, tmp_path):
    for change, told in (
        ("seed = 7", "seed: 5 on the card, 7 in the run"),
        ("seed = 5\n[theory]", None),
    ):
        other = CARD.replace("seed = 5", change, 1) if told else CARD.replace('sampler = "hmc"', 'sampler = "direct"')
        out = tmp_path / f"other{len(change)}"
        assert lattice_flows("sample", card(other), "--out", out, "--ensemble", "hmc")[0] == 0
        shutil.copy(RunFolder(out).ensemble("hmc"), folder.ensemble("hmc"))
        for command in ("run", "analyse"):
            status, _, said = lattice_flows(command, folder.path)
            assert status == 2
            assert (told or 'ensemble.hmc.sampler: "hmc" on the card, "direct" in the run') in said


def test_a_length_that_was_given_is_not_one_that_is_left_open(card, lattice_flows, tmp_path):
    given = CARD.replace('"hmc"\nn_conf', '"hmc"\ntrajectory_length = 0.5\nn_conf')
    out = tmp_path / "given"
    assert lattice_flows("sample", card(given), "--out", out, "--ensemble", "hmc")[0] == 0
    shutil.copy(card(CARD), out / "card.toml")
    status, _, said = lattice_flows("sample", out, "--ensemble", "hmc")
    assert status == 2
    assert "ensemble.hmc.trajectory_length: absent on the card, 0.5 in the run" in said


def test_a_folder_with_a_card_is_no_run(card, lattice_flows, tmp_path):
    path = card(CARD, "card.toml")
    before = sorted(tmp_path.iterdir())
    status, _, said = lattice_flows("run", path.parent)
    assert status == 2
    assert "holds a card and no run; run" in said
    assert sorted(tmp_path.iterdir()) == before


def test_a_claim_that_was_cut_short_can_be_made_again(card, tmp_path):
    out = tmp_path / "cut"
    (out / "ensembles").mkdir(parents=True)
    assert claimed(card(CARD), out)[0].card.exists()


def test_the_report_is_of_these_files_or_not(folder, lattice_flows):
    assert "summary.json: is of these files" in lattice_flows("verify", folder.path)[1]
    with h5py.File(folder.ensemble("hmc")) as file:
        sha256 = file.attrs["sha256"]
    assert sha256 in (folder.report / "summary.json").read_text()
    assert lattice_flows("sample", folder.path, "--set", "ensemble.hmc.n_configs=35")[0] == 0
    status, out, _ = lattice_flows("verify", folder.path)
    assert status == 0
    assert "summary.json: is not of these files as they are now" in out


def test_a_checkpoint_that_is_missing_is_told_before_another_training(folder, lattice_flows):
    (folder.flow / "checkpoint.pt").unlink()
    for command in ("run", "train", "sample", "analyse", "verify"):
        status, _, said = lattice_flows(command, folder.path)
        assert status == 2
        assert "checkpoint.pt: is missing, and" in said
    assert not (folder.flow / "checkpoint.pt").exists()


def test_what_is_missing_beside_the_checkpoint_is_said(folder, lattice_flows):
    (folder.flow / "history.csv").unlink()
    folder.evaluation.unlink()
    status, out, _ = lattice_flows("verify", folder.path)
    assert status == 0
    assert "history.csv: is missing" in out
    assert "evaluation.h5: is missing" in out


def test_the_report_of_a_selection_is_not_the_runs_own(folder, lattice_flows, tmp_path):
    own = (folder.report / "summary.json").read_bytes()
    status, out, _ = lattice_flows("analyse", folder.path, "--reweight", "beta=1.1")
    assert status == 0
    assert "index.html" not in out
    (tmp_path / "link").symlink_to(folder.report)
    for place in (folder.report, folder.path, folder.ensembles, tmp_path / "link", folder.path / "new"):
        status, _, said = lattice_flows("analyse", folder.path, "--reweight", "beta=1.1", "--report", place)
        assert status == 2
        assert "is in the folder of the run" in said
    for sources in (folder.path, folder.ensemble("hmc")):
        assert lattice_flows("analyse", sources, "--json", folder.report / "summary.json")[0] == 2
    assert lattice_flows("analyse", folder.ensemble("hmc"), "--report", folder.report)[0] == 2
    assert (folder.report / "summary.json").read_bytes() == own
    assert lattice_flows("analyse", folder.path, "--reweight", "beta=1.1", "--report", tmp_path / "elsewhere")[0] == 0
    assert (tmp_path / "elsewhere" / "index.html").exists() or (tmp_path / "elsewhere" / "summary.json").exists()
