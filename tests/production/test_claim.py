"""A folder is claimed, or its card changed, only after all checks; what a kill leaves of a claim goes with the next."""

import pytest
from cards import CLASSICAL, WITH_FLOW

FEW = ["--set", "ensemble.hmc.n_configs=5", "--set", "ensemble.direct.n_configs=5"]
MORE = ["--set", "ensemble.hmc.n_configs=9"]


def everything(folder):
    """All files of the folder, and what they hold."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def begun(card, lattice_flows, tmp_path):
    """A run folder of few configurations."""
    status, _, said = lattice_flows("sample", card(CLASSICAL), "--out", "run", *FEW)
    assert status == 0, said
    return tmp_path / "run"


def assert_refused_without_a_trace(lattice_flows, folder, arguments, text):
    before = everything(folder)
    status, _, said = lattice_flows(*arguments)
    assert status == 2, said
    assert text in said
    assert everything(folder) == before


@pytest.mark.parametrize("command", ["sample", "run"])
def test_a_file_of_another_seed(command, begun, card, lattice_flows):
    other = card(CLASSICAL.replace("seed = 5", "seed = 6"), "other.toml")
    assert lattice_flows("sample", other, "--out", "other", *FEW)[0] == 0
    (begun / "ensembles" / "hmc.h5").write_bytes((begun.parent / "other/ensembles/hmc.h5").read_bytes())
    assert_refused_without_a_trace(lattice_flows, begun, [command, "run", *MORE], "seed: 5 on the card, 6 in the run")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--ensemble", "none"], "unknown name 'none'"),
        (["--task", "0/3"], "holds all chains"),
    ],
)
def test_what_cannot_be_sampled(arguments, text, begun, lattice_flows):
    assert_refused_without_a_trace(lattice_flows, begun, ["sample", "run", *MORE, *arguments], text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sample", "--ensemble", "none"], "unknown name 'none'"),
        (["sample", "--task", "0/9"], "ask for no more tasks than that"),
        (["train"], "no [flow]"),
    ],
)
def test_a_new_folder_is_not_claimed(arguments, text, card, lattice_flows, tmp_path):
    command, *options = arguments
    status, _, said = lattice_flows(command, card(CLASSICAL), "--out", "new", *options)
    assert status == 2
    assert text in said
    assert not (tmp_path / "new").exists()


LONG = "n" * 300


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("ensemble.hmc.start=none.h5", "[[ensemble]] hmc: start = 'none.h5': no such ensemble file"),
        ("ensemble.hmc.start=small.h5", "holds no fields of shape [2, 4, 6]"),
        ("ensemble.hmc.start=new/ensembles/direct.h5", "the ensemble 'direct' is not made before this one"),
        ("ensemble.hmc.start=new/ensembles/hmc.h5", "the ensemble 'hmc' is not made before this one"),
        ("ensemble.direct.start=new/ensembles/hmc.h5", "make it with store_fields = true"),
        (f"ensemble.hmc.name={LONG}", "must have at most 180 letters"),
        ("ensemble=[]", "so there is nothing to"),
        ("ensemble.hmc.width=4.0", "[[ensemble]] hmc: width must be at most 3.14159 for angles, got 4.0"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "run"])
def test_a_card_that_cannot_be_carried_out_claims_nothing(command, change, text, card, lattice_flows, tmp_path):
    changes = ["--set", "ensemble.hmc.store_fields=false", "--set", change]
    if "width" in change:
        changes += ["--set", "ensemble.hmc.sampler=metropolis"]
    if "small" in change:
        other = card(CLASSICAL.replace("[4, 6]", "[4, 4]"), "other.toml")
        assert lattice_flows("sample", other, "--out", "other", *FEW)[0] == 0
        (tmp_path / "other/ensembles/hmc.h5").rename(tmp_path / "small.h5")
    status, _, said = lattice_flows(command, card(CLASSICAL), "--out", "new", *changes)
    assert status == 2, said
    assert text in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("device=cuda:1", "device = 'cuda:1': not on this machine"),
        ("device=cuda:99999999999999999999", "device = 'cuda:99999999999999999999': not on this machine"),
        ("training.init_from=card.toml", "card.toml: not a readable checkpoint"),
        ("training.data=card.h5", "card.h5"),
    ],
)
def test_a_training_that_cannot_begin_claims_nothing(command, change, text, card, lattice_flows, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (tmp_path / "card.h5").write_bytes(b"no ensemble")
    settings = ["--set", change, "--set", "training.objective=forward_kl"] if "data" in change else ["--set", change]
    status, _, said = lattice_flows(command, card(WITH_FLOW), "--out", "new", *settings)
    assert status == 2, said
    assert text in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_ensemble_may_continue_one_that_the_same_call_makes(card, lattice_flows):
    more = ["--set", "ensemble.direct.start=new/ensembles/hmc.h5", *FEW]
    status, _, said = lattice_flows("sample", card(CLASSICAL), "--out", "new", *more)
    assert status == 0, said


def test_a_file_whose_start_is_gone_is_not_made_again(begun, card, lattice_flows, tmp_path):
    more = ["--set", "ensemble.hmc.start=run/ensembles/hmc.h5", *FEW]
    assert lattice_flows("sample", card(CLASSICAL), "--out", "next", *more)[0] == 0
    (begun / "ensembles/hmc.h5").unlink()
    status, _, said = lattice_flows("run", "--from", "next/ensembles/hmc.h5", "--out", "again")
    assert status == 2
    assert "no such ensemble file" in said
    assert not (tmp_path / "again").exists()


def test_tasks_of_two_arrays_are_not_mixed(card, lattice_flows, tmp_path):
    path = card(CLASSICAL)
    assert lattice_flows("sample", path, "--out", "run", *FEW, "--task", "0/3")[0] == 0
    for task in ("1/2", "2/4"):
        status, _, said = lattice_flows("sample", path, "--out", "run", *FEW, "--task", task)
        assert status == 2
        assert "hmc.0.h5: holds task 0/3, so there is no task" in said or "no more tasks than" in said
    assert sorted(path.name for path in (tmp_path / "run/ensembles").glob("hmc*")) == ["hmc.0.h5"]
    assert lattice_flows("sample", path, "--out", "run", *FEW, "--task", "1/3")[0] == 0


def test_nothing_is_sampled_before_its_flow_is_trained(card, lattice_flows, tmp_path):
    status, _, said = lattice_flows("sample", card(WITH_FLOW), "--out", "new")
    assert status == 2
    assert "is not trained; train it first" in said
    assert not (tmp_path / "new").exists()


def test_a_flow_that_is_not_trained_yet_is_no_reason_to_refuse_a_run(card, lattice_flows):
    settings = ["--set", "training.max_steps=2", "--set", "ensemble.flow.n_configs=4"]
    settings += ["--set", "ensemble.flow_hmc.n_configs=2", "--set", "ensemble.hmc.n_configs=4"]
    status, _, said = lattice_flows("run", card(WITH_FLOW), "--out", "run", *settings)
    assert status == 0, said


def test_what_kills_left_of_claims_is_removed_by_the_next(begun, lattice_flows):
    stale = [begun / name for name in ("card.0123abcd.tmp", "overrides.89ab4567.tmp", "card.toml.89ab4567.tmp")]
    theirs = [begun / "notes.tmp", begun / "card.mine.tmp"]
    for path in [*stale, *theirs]:
        path.write_text("half a card")
    assert lattice_flows("sample", "run")[0] == 0
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in theirs)
