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
    assert_refused_without_a_trace(lattice_flows, begun, [command, "run", *MORE], "another seed")


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
