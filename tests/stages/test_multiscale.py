"""The multiscale flow from cards: nothing to train, volume transfer, checkpoints and tables that do not fit."""

import json
import shutil
from pathlib import Path

import pytest
from cards import assert_same_ensemble, claimed
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run, sample_stage, train_stage
from lattice_flows.training import CHECKPOINT_NAME, load_flow_weights, read_checkpoint

EXACT = """
seed = 5
[theory]
name = "u1"
shape = [6, 10]
beta = 2.0

[flow]
name = "multiscale"
conditioner = "exact"

[[ensemble]]
name = "chain"
sampler = "flow_metropolis"
n_configs = 500
n_thermalisation = 10
start = "flow"

[[ensemble]]
name = "weighted"
sampler = "flow_samples"
n_configs = 200
n_thermalisation = 0
"""

MLP = """
seed = 3
[theory]
name = "u1"
shape = [8, 8]
beta = 2.0

[flow]
name = "multiscale"
n_bins = 6
hidden = [8]

[training]
max_steps = 30
monitor_every = 10
monitor_samples = 64

[[ensemble]]
name = "chain"
sampler = "flow_metropolis"
n_configs = 50
n_thermalisation = 5
start = "flow"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole job of the exact flow."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "card.toml").write_text(EXACT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder / "run", run(folder / "card.toml", folder / "run")


def test_the_exact_flow_goes_through_the_whole_card(finished):
    out, summary = finished
    flow = summary["flow"]
    assert flow["ess"] > 0.999
    assert abs(flow["log_z"] - flow["log_z_exact"]) < 4.5 * flow["log_z_error"]
    assert (flow["train_seconds"], flow["n_parameters"], flow["warnings"]) == (0.0, 0, [])
    tables = [flow["observables"], *(ensemble["observables"] for ensemble in summary["ensembles"].values())]
    pulls = [row["pull"] for table in tables for row in table.values()]
    assert len(tables) == 3
    assert max(map(abs, pulls)) < 4.5, pulls
    assert summary["ensembles"]["chain"]["acceptance_rate"] > 0.99
    assert summary["ensembles"]["chain"]["observables"]["topological_charge_squared"]["tau_int"] < 0.6
    page = (out / "report" / "index.html").read_text()
    assert "multiscale" in page
    checkpoint = read_checkpoint(RunFolder(out).flow / CHECKPOINT_NAME)
    assert (checkpoint.reason, checkpoint.step) == ("no_parameters", 0)


def test_the_train_stage_says_that_there_is_nothing_to_train(card, lattice_flows):
    status, out, errors = lattice_flows("train", card(EXACT), "--out", "run")
    assert status == 0, errors
    assert "nothing to train: the flow has no parameters" in out + errors
    assert lattice_flows("verify", "run/flow/checkpoint.pt")[0] == 0
    status, out, _ = lattice_flows("info", "run/flow/checkpoint.pt")
    assert (status, "no_parameters" in out) == (0, True)


def test_a_second_sampling_of_the_exact_flow_has_the_same_bits(finished, card, tmp_path):
    out, _ = finished
    again = tmp_path / "again"
    train_stage(card(EXACT), again, (), Console(quiet=True))
    sample_stage(card(EXACT), again, (), ["chain", "weighted"], Console(quiet=True))
    for name in ("chain", "weighted"):
        assert_same_ensemble(RunFolder(out).ensemble(name), RunFolder(again).ensemble(name))
    assert_same_ensemble(RunFolder(out).evaluation, RunFolder(again).evaluation)


def one_line(errors):
    (line,) = errors.strip().splitlines()
    assert line.startswith("lattice-flows: ")
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of an 8 x 8 training."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "card.toml").write_text(MLP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        train_stage(folder / "card.toml", folder / "run", (), Console(quiet=True))
    return RunFolder(folder / "run").flow / CHECKPOINT_NAME


@pytest.fixture
def parent(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copy(trained, tmp_path / "parent.pt"))


def test_a_larger_lattice_takes_over_the_splits_of_a_smaller_one(parent, card, lattice_flows, tmp_path):
    still = ["--set", "training.max_steps=1", "--set", "training.learning_rate=1e-12"]
    larger = [*still, "--set", "theory.shape=[16, 16]", "--set", f"training.init_from={parent}"]
    assert lattice_flows("train", card(MLP), *larger, "--out", "child")[0] == 0
    fresh = [*still, "--set", "theory.shape=[16, 16]"]
    assert lattice_flows("train", card(MLP), *fresh, "--out", "fresh")[0] == 0
    small, large, own = (
        load_flow_weights(path)
        for path in (parent, *(tmp_path / name / "flow" / CHECKPOINT_NAME for name in ("child", "fresh")))
    )
    assert small.weights.keys() < large.weights.keys()
    for name, weight in large.weights.items():
        expected = small.weights.get(name, own.weights[name])
        assert float((weight - expected).abs().max()) < 1e-9, name
    assert any(float((large.weights[name] - own.weights[name]).abs().max()) > 1e-3 for name in small.weights)
    assert read_checkpoint(tmp_path / "child" / "flow" / CHECKPOINT_NAME).parent == small.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["flow.n_bins=5"], "cannot start from it: it is of another flow"),
        (["theory.name=u1_improved", "theory.c1=0.05"], "cannot start from it: it is of the theory u1"),
        (["flow={name = 'multiscale', conditioner = 'exact'}"], "training.init_from: this flow has no parameters"),
    ],
    ids=["flow", "theory", "exact"],
)
def test_what_cannot_be_taken_over_is_told_in_one_line(parent, card, lattice_flows, changes, message):
    arguments = [part for change in changes for part in ("--set", change)]
    arguments += ["--set", "theory.shape=[16, 16]", "--set", f"training.init_from={parent}"]
    status, _, errors = lattice_flows("train", card(MLP), *arguments, "--out", "child")
    assert status == 2
    assert message in one_line(errors)


def put(checkpoint, out):
    """In the place of the run's own."""
    RunFolder(out).flow.mkdir(exist_ok=True)
    shutil.copy(checkpoint, RunFolder(out).flow / CHECKPOINT_NAME)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (["theory.beta=2.1"], "theory"),
        (["theory.shape=[8, 16]"], "theory"),
        (["theory.name=u1_improved", "theory.c1=0.05"], "theory"),
        (["flow.n_bins=5"], "flow"),
        (["flow.conditioner=structured"], "flow"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_a_checkpoint_of_another_theory_shape_or_flow_is_told_in_one_line(
    parent, card, lattice_flows, tmp_path, changes, key
):
    arguments = [part for change in changes for part in ("--set", change)]
    status, _, errors = lattice_flows("sample", card(MLP), *arguments, "--out", "other")
    assert (status, "is not trained" in one_line(errors)) == (2, True)
    claimed(card(MLP), tmp_path / "other", changes)
    put(parent, tmp_path / "other")
    status, _, errors = lattice_flows("sample", card(MLP), *arguments, "--out", "other")
    assert status == 2
    line = one_line(errors)
    assert f"was trained by another card: {key}." in line
    assert "on the card" in line


def test_damaged_checkpoints_are_told_in_one_line(parent, lattice_flows, card, tmp_path):
    whole = parent.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    claimed(card(MLP), tmp_path / "run", [])
    for content in (b"", whole[: len(whole) // 2], bytes(flipped), b"no checkpoint"):
        parent.write_bytes(content)
        put(parent, tmp_path / "run")
        status, _, errors = lattice_flows("sample", card(MLP), "--out", "run")
        assert status == 2
        assert "checkpoint.pt" in one_line(errors)


U1 = '[theory]\nname = "u1"\nshape = [8, 8]\nbeta = 2.0\n'
IMPROVED = '[theory]\nname = "u1_improved"\nshape = [8, 8]\nbeta = 6.0\nc1 = 0.08\n'
PHI4 = '[theory]\nname = "phi4"\nshape = [8, 8]\nm2 = -4.0\nlam = 8.0\n'
TREE, HYBRID = '[flow]\nname = "multiscale"\n', '[flow]\nname = "hybrid"\n'
SCALAR, COUPLING = '[flow]\nname = "checkerboard_coupling"\n', '[flow]\nname = "plaquette_coupling"\n'
BY_DENSITY, BY_FUNCTION = TREE + 'conditioner = "exact"\n', TREE + 'conditioner = "structured"\n'

BAD = [
    (IMPROVED + BY_DENSITY, "conditioner = 'exact' is for the Wilson action, not for ImprovedU1"),
    (PHI4 + BY_DENSITY, "conditioner = 'exact' is for the Wilson action, not for Phi4"),
    (PHI4 + BY_FUNCTION, "for actions of 2D plaquettes, not for Phi4"),
    (PHI4 + TREE, "multiscale is a flow of angles, but the variables of phi4 are real numbers"),
    (PHI4 + HYBRID, "for actions of 2D plaquettes, not for Phi4"),
    (PHI4 + COUPLING, "plaquette_coupling is a flow of angles, but the variables of phi4 are real numbers"),
    (PHI4.replace("[8, 8]", "[8]") + TREE, "multiscale needs a lattice of two sides and two plaquettes or more; got 8"),
    (U1 + SCALAR, "checkerboard_coupling is a flow of phi4 and phi4_hopping, got WilsonU1"),
    (PHI4.replace("[8, 8]", "[5, 4]") + SCALAR, "checkerboard_coupling needs even sides, such as 8 x 6; got 5 x 4"),
    (IMPROVED.replace("[8, 8]", "[6, 6]") + HYBRID, "needs two sides that are multiples of 4, such as 8 x 12; got 6"),
    (IMPROVED + HYBRID + "n_layers = 0", "n_layers must be between 1 and 1000, got 0"),
    (U1.replace("2.0", "1e5") + BY_DENSITY, "tabulated for beta between 0 and 300, got 100000"),
    (U1.replace("2.0", "1e5") + BY_FUNCTION, "tabulated for beta between 0 and 300, got 100000"),
    (IMPROVED + HYBRID + "tree_beta = 1e5", "tree_beta must be between 0 and 300, got 100000"),
    *((U1 + tree + f"n_bins = {n}", f"n_bins must be between 2 and 256, got {n}")
      for tree in (TREE, BY_DENSITY, BY_FUNCTION) for n in (0, -1, 1000)),
    *((U1 + TREE + f"n_knots = {n}", f"n_knots must be between 2 and 1000, got {n}") for n in (1, 0, -1, 10**9)),
    *((U1 + tree + f"n_knots = {n}", f"n_knots must be 1 more than a divisor of {grid}, such as 25 or 49, got {n}")
      for tree, grid in ((BY_DENSITY, 384), (BY_FUNCTION, 192)) for n in (1, 0, -1, 50)),
    *((U1 + TREE + f"hidden = {widths}", f"hidden must be a list of 1 to 1000 widths between 1 and 10000, got {widths}")
      for widths in ([0], [], [8, -1])),
    *((U1 + BY_FUNCTION + f"n_harmonics = {n}", f"n_harmonics must be between 1 and 192, got {n}")
      for n in (0, -1, 1000)),
    (U1 + TREE + "n_bins = 2.5", "n_bins = 2.5"),
    (U1 + TREE + 'hidden = "x"', "hidden = 'x'"),
    (U1 + TREE + 'conditioner = "none"', "conditioner = 'none': input should be 'mlp', 'structured' or 'exact'"),
    (U1 + TREE + "n_bin = 3", "unknown key 'n_bin'; did you mean 'n_bins'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[f"{k} {message[:50]}" for k, (_, message) in enumerate(BAD)])
def test_tables_that_do_not_fit_are_told_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(text, where="run.toml")
    assert str(caught.value).startswith("run.toml: [flow]: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_stand_in_the_checkpoint(parent):
    assert read_checkpoint(parent).header["flow"] == {
        "name": "multiscale", "conditioner": "mlp", "n_bins": 6, "n_knots": None, "n_harmonics": 16, "hidden": [8]
    }  # fmt: skip
    assert json.loads(json.dumps(read_checkpoint(parent).settings))["objective"] == "reinforce"
