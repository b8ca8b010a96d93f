"""Files of a time when a theory had fewer standard observables."""

import json

import h5py
import numpy as np
import pytest

from lattice_flows.theories import Plaquette, WilsonLoop, WilsonU1

CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.5

[[ensemble]]
name = "heatbath"
sampler = "heatbath"
n_chains = 2
n_configs = 60
n_thermalisation = 10
"""
LONGER = ("--set", "ensemble.heatbath.n_configs=80")
LINE = "heatbath  goes on without topological_charge, wilson_loop_2x2, which were no standard observables"


def series_of(path):
    with h5py.File(path) as file:
        return {name: values[()] for name, values in file["series"].items()}


@pytest.fixture
def older(card, lattice_flows, tmp_path):
    """The file of a run which measured plaquettes and a Wilson loop alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WilsonU1, "observables", lambda self, shape: (Plaquette(), WilsonLoop(1, 2)))
        status, _, said = lattice_flows("sample", card(CARD), "--out", "run")
        assert status == 0, said
    return tmp_path / "run" / "ensembles" / "heatbath.h5"


@pytest.mark.parametrize("command", ["sample", "run"])
def test_a_file_goes_on_with_the_series_that_it_has(command, older, lattice_flows):
    before = series_of(older)
    assert before.keys() == {"action", "plaquette", "wilson_loop_1x2"}
    status, out, said = lattice_flows(command, "run", *LONGER)
    assert status == 0, said
    assert LINE in out
    after = series_of(older)
    assert after.keys() == before.keys()
    for name, values in before.items():
        assert len(after[name]) == 80
        np.testing.assert_array_equal(after[name][:60], values)
    assert lattice_flows("verify", older)[0] == 0


def test_a_finished_file_is_analysed_with_what_it_has(older, lattice_flows, tmp_path):
    for sources in ([older], ["run"]):
        status, _, said = lattice_flows("analyse", *sources, "--json", "summary.json")
        assert status == 0, said
        summary = json.loads((tmp_path / "summary.json").read_text())["ensembles"]["heatbath"]
        assert summary["observables"].keys() == {"plaquette", "wilson_loop_1x2"}
    status, out, _ = lattice_flows("run", "run")
    assert status == 0
    assert "goes on without" not in out, "nothing was left to do"


def test_what_is_missing_can_be_measured_and_the_file_goes_on_with_it(older, lattice_flows):
    assert lattice_flows("measure", older, "topological_charge")[0] == 0
    status, out, said = lattice_flows("sample", "run", *LONGER)
    assert status == 0, said
    assert "goes on without wilson_loop_2x2," in out
    assert len(series_of(older)["topological_charge"]) == 80


def test_what_a_card_asks_for_by_name_is_measured(older, card, lattice_flows):
    """On the fields of a finished file, which then goes on with it."""
    other = card(CARD + '\n[[observable]]\nname = "polyakov_loop"\nmu = 0\n', "other.toml")
    older.parent.parent.joinpath("card.toml").write_text(other.read_text())
    status, out, said = lattice_flows("sample", "run", *LONGER)
    assert status == 0, said
    assert "goes on without topological_charge" in out
    assert {name for name in series_of(older) if name.startswith("polyakov")} != set()
    assert all(len(values) == 80 for values in series_of(older).values())
