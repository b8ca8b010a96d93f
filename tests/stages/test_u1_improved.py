"""U(1) with rectangles from a card: the mixture of the reference, closed forms, reweighting to others."""

import json
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.estimates.selection import EVERYTHING, Selection
from lattice_flows.stages import analyse_files_stage, sample_stage
from lattice_flows.theories import THEORIES, ImprovedU1

ROOT = Path(__file__).parents[2]
RUNS, REFERENCE = ROOT / "runs" / "u1_improved", ROOT / "tests" / "reference" / "u1_improved.json"

CARD = """
seed = 3
[theory]
name = "u1_improved"
shape = [4, 4]
beta = 2.0
c1 = 0.02

[[ensemble]]
name = "mixed"
sampler = "mixture"
parts = [{sampler = "hmc", integrator = "omelyan"}, {sampler = "instanton"}]
n_chains = 10
n_configs = 1500
n_thermalisation = 50

[[ensemble]]
name = "tempered"
sampler = "tempering"
replica = {sampler = "hmc", n_md_steps = 5}
coupling = "c1"
last = 0.0
n_replicas = 3
n_configs = 50
n_thermalisation = 20
"""


@pytest.fixture(autouse=True)
def _in_the_catalogue(monkeypatch):
    monkeypatch.setitem(THEORIES, "u1_improved", ImprovedU1)


def test_the_table_is_the_constructors_arguments():
    card = parse_card(CARD)
    assert card.theory.action == ImprovedU1(2.0, 0.02)
    assert card.theory.as_dict() == {
        "name": "u1_improved", "shape": [4, 4], "boundary": "periodic", "beta": 2.0, "c1": 0.02
    }  # fmt: skip


BAD = [
    (CARD.replace("c1 = 0.02\n", ""), "[theory]: the key 'c1' is missing"),
    (CARD.replace("0.02", "inf"), "[theory]: c1"),
    (CARD.replace("[4, 4]", "[4, 4, 4]"), "[theory]: shape has 3 sides, but ensembles of u1_improved need 2"),
    (CARD.replace('{sampler = "instanton"}', '{sampler = "metropolis"}'), "no local updates of ImprovedU1; use hmc"),
    (CARD.replace('{sampler = "instanton"}', '{sampler = "winding_hmc"}'), "winding steps are those of u1"),
    (CARD.replace("n_replicas = 3", 'n_replicas = 3\nstart = "direct"'), "there is no direct sampler for this theory"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_cards_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_and_its_reweighting_to_the_closed_form(tmp_path):
    (tmp_path / "card.toml").write_text(CARD)
    sample_stage(tmp_path / "card.toml", tmp_path / "out", (), ["mixed", "tempered"], Console(quiet=True))
    summary = analyse_files_stage([tmp_path / "out" / "ensembles" / "mixed.h5"], None, EVERYTHING, Console(quiet=True))
    rows = summary["ensembles"]["mixed"]["observables"]
    assert summary["theory"]["c1"] == 0.02
    for name in ("plaquette", "topological_charge_squared", "wilson_loop_1x2"):
        assert abs(rows[name]["pull"]) < 4.5, rows[name]
    assert rows["wilson_loop_2x2"]["exact"] is None
    for one in summary["ensembles"]["mixed"]["topology"]["sectors"]:
        assert one["probability"] is None or abs(one["probability"] - one["exact"]) < 4.5 * one["probability_error"]
    assert summary["ensembles"]["mixed"]["acceptance_rate"] > 0.3
    assert (tmp_path / "out" / "ensembles" / "tempered.h5").exists()

    def reweighted(**couplings):
        selection = Selection(couplings=couplings)
        file = tmp_path / "out" / "ensembles" / "mixed.h5"
        return analyse_files_stage([file], None, selection, Console(quiet=True))["ensembles"]["mixed"]["observables"]

    for name, row in reweighted(c1=0.0).items():
        assert row["pull"] is None or abs(row["pull"]) < 4.5, (name, row)
    assert reweighted(c1=0.0)["plaquette"]["exact"] is not None
    assert abs(reweighted(c1=0.0, beta=2.3)["plaquette"]["pull"]) < 4.5
    truth = reweighted(c1=0.0)["plaquette"]
    assert abs(rows["plaquette"]["value"] - truth["exact"]) > 10.0 * rows["plaquette"]["error"]  # it had a way to go


def test_the_stored_reference_is_of_the_card_of_the_runs():
    stored = json.loads(REFERENCE.read_text(encoding="utf-8"))
    assert stored["card"] == (RUNS / "card.toml").read_text(encoding="utf-8")
    assert tomllib.loads(stored["card"])["theory"]["name"] == "u1_improved"
    theories = [point["theory"] for point in stored["points"]]
    points = {(theory["beta"], round(12 * theory["c1"]), *theory["shape"]) for theory in theories}
    assert points == {(6.0, 1, 8, 8), (3.0, -1, 8, 8), (6.0, 1, 16, 16), (3.0, -1, 16, 16)}
    for point in stored["points"]:
        assert parse_card(stored["card"], point["overrides"]).theory.as_dict() == point["theory"]
