"""Parts of ensembles, other couplings, quantities that a person writes down."""

import json

import numpy as np
import pytest

from lattice_flows.ensembles import Ensemble
from lattice_flows.exact import ExactU1
from lattice_flows.statistics import derived, gamma_method
from lattice_flows.workflows.analyse import analyse_files
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.expressions import parse_quantity
from lattice_flows.workflows.selection import Selection, parse_couplings, parse_thermalisation
from lattice_flows.workflows.stages import run

BETA, SHAPE = 2.0, (4, 6)
CARD = """
seed = 3
[theory]
name = "u1"
shape = [4, 6]
beta = 2.0
[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 5000
[[observable]]
name = "wilson_loop"
r = 1
t = 2
every = 7
"""


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    (folder / "card.toml").write_text(CARD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        run(folder / "card.toml", folder / "run")
    return folder / "run" / "ensembles"


def analysed(path, **selection):
    (summary,) = analyse_files([path], Selection(**selection))["ensembles"].values()
    return summary


def test_a_cut_and_thinning_are_those_of_the_series(ensembles):
    path = ensembles / "direct.h5"
    summary = analysed(path, thermalisation=100, every=3)
    with Ensemble.open(path) as ensemble:
        plaquette, loop = ensemble.series("plaquette"), ensemble.series("wilson_loop_1x2")
        numbers = ensemble.series_configs("wilson_loop_1x2")
    kept = np.arange(102, 5000, 3)
    assert summary["n_configs"] == len(kept)
    assert summary["observables"]["plaquette"]["value"] == gamma_method(plaquette[kept]).value
    both = (numbers >= 100) & (numbers % 3 == 0)
    assert summary["observables"]["wilson_loop_1x2"]["value"] == gamma_method(loop[both]).value
    assert (summary["thermalisation_dropped"], summary["every"]) == (100, 3)


COLD = """
[theory]
name = "u1"
shape = [16, 16]
beta = 2.0
[[ensemble]]
name = "cold"
sampler = "hmc"
trajectory_length = 0.2
n_md_steps = 2
n_configs = 1000
n_thermalisation = 0
start = "cold"
"""


def test_a_thermalisation_is_found(tmp_path):
    """Of chains that begin ten deviations of the plaquette from where they end."""
    (tmp_path / "card.toml").write_text(COLD)
    run(tmp_path / "card.toml", tmp_path / "run")
    path = tmp_path / "run" / "ensembles" / "cold.h5"
    whole, cut = analysed(path), analysed(path, thermalisation=None)
    assert abs(whole["observables"]["plaquette"]["pull"]) > 1.5 * abs(cut["observables"]["plaquette"]["pull"])
    assert cut["thermalisation_dropped"] >= 10
    assert abs(cut["observables"]["plaquette"]["pull"]) < 4.5
    assert whole["thermalisation_dropped"] == 0


def test_nothing_left_is_refused(ensembles):
    with pytest.raises(InputError, match="drop fewer"):
        analysed(ensembles / "direct.h5", thermalisation=4999)
    for wrong in ({"thermalisation": -1}, {"every": 0}):
        with pytest.raises(InputError, match="must be"):
            Selection(**wrong)
    with pytest.raises(InputError, match="or auto"):
        parse_thermalisation("all")


@pytest.mark.parametrize("beta", [1.85, 2.2])
def test_reweighting_agrees_with_the_closed_form_there(ensembles, beta):
    summary = analyse_files([ensembles / "direct.h5"], Selection(couplings={"beta": beta}))
    assert summary["theory"]["beta"] == beta
    (ensemble,) = summary["ensembles"].values()
    exact = ExactU1(beta, 24)
    assert ensemble["observables"]["plaquette"]["exact"] == exact.plaquette
    for name, row in ensemble["observables"].items():
        assert abs(row["pull"]) < 4.5, (name, row)
    assert ensemble["reweighting"]["from"]["beta"] == BETA
    assert ensemble["reweighting"]["reliable"]
    # The unweighted average is far away: the test would see weights that do nothing.
    plain = analysed(ensembles / "direct.h5")["observables"]["plaquette"]
    assert abs(plain["value"] - exact.plaquette) > 6 * plain["error"]


def test_too_little_overlap_is_said(ensembles):
    ensemble = analysed(ensembles / "direct.h5", couplings={"beta": 12.0})
    assert not ensemble["reweighting"]["reliable"]
    assert any("too little overlap" in text for text in ensemble["warnings"])
    assert not any(row["trusted"] for row in ensemble["observables"].values())


PHI4 = """
seed = 4
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 0.0
[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 3000
"""


def test_reweighting_from_fields(tmp_path):
    """In couplings that do not scale the action: a free field to a heavier one, whose closed form is known."""
    (tmp_path / "card.toml").write_text(PHI4)
    run(tmp_path / "card.toml", tmp_path / "run")
    path = tmp_path / "run" / "ensembles" / "direct.h5"
    (ensemble,) = analyse_files([path], Selection(couplings={"m2": 1.2}))["ensembles"].values()
    pulls = [row["pull"] for row in ensemble["observables"].values() if row["pull"] is not None]
    assert len(pulls) >= 3
    assert max(map(abs, pulls)) < 4.5
    with pytest.raises(InputError, match="unknown key 'beta'"):
        analyse_files([path], Selection(couplings={"beta": 1.2}))


def test_derived_quantities(ensembles):
    path = ensembles / "direct.h5"
    text = "spread = mean(topological_charge**2) - topological_charge**2"
    row = analysed(path, derived=(text, "sum = 2 * plaquette"))["observables"]["spread"]
    with Ensemble.open(path) as ensemble:
        charge = ensemble.series("topological_charge")
    by_hand = derived(lambda square, mean: square - mean**2, charge**2, charge)
    assert row["value"] == pytest.approx(by_hand.value, rel=1e-12)
    assert row["error"] == pytest.approx(by_hand.error, rel=1e-6)


def test_a_formula_is_read_right():
    series = ["plaquette", "plaquette_t0.5", "wilson_loop_1x2"]
    quantity = parse_quantity("x = -log(plaquette_t0.5 / wilson_loop_1x2**2) + 1.5e0*abs(plaquette - 3)", series)
    names = [term.series for term in quantity.terms]
    values = {"plaquette": 0.4, "plaquette_t0.5": 0.7, "wilson_loop_1x2": 0.9}
    expected = -np.log(0.7 / 0.81) + 1.5 * 2.6
    assert quantity.function(*(values[name] for name in names)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plaquette", "NAME = EXPRESSION"),
        ("x = ", "not an expression"),
        ("x = 3", "names no series"),
        ("x = plaquete", "'plaquete' is not known"),
        ("x = __import__('os').system('true')", "not known"),
        ("x = plaquette.__class__", "not known"),
        ("x = mean(plaquette * other)", "not known"),
        ("x = mean(plaquette, plaquette)", "in one series"),
        ("x = mean(mean(plaquette))", "not known"),
        ("x = log(plaquette", "not an expression"),
        ("x = [plaquette]", "not known"),
        ("x = plaquette if plaquette else 1", "not known"),
        ("x = exec(plaquette)", "not known"),
        ("x = (lambda: plaquette)()", "not known"),
        ("x = " + "(" * 400 + "plaquette" + ")" * 400, "not an expression"),
        ("x = " + "plaquette+" * 200 + "1", "NAME = EXPRESSION"),
        ("a b = plaquette", "NAME = EXPRESSION"),
    ],
)
def test_what_is_no_formula_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_quantity(text, ["plaquette", "action"])
    assert "\n" not in str(refused.value)


def test_couplings_are_numbers():
    assert parse_couplings(["beta=6.1"]) == {"beta": 6.1}
    for wrong in ("beta", "beta=", "=3", "beta=six"):
        with pytest.raises(InputError, match="COUPLING=NUMBER"):
            parse_couplings([wrong])


def test_the_command(ensembles, lattice_flows, tmp_path):
    arguments = ["analyse", ensembles / "direct.h5", "--reweight", "beta=2.1", "--thermalisation", "auto"]
    status, out, _ = lattice_flows(*arguments, "--every", 2, "--derive", "chi = -log(plaquette)", "--json", "a.json")
    assert status == 0
    assert "chi" in out
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["ensembles"]["direct"]["every"] == 2
    status, _, errors = lattice_flows("analyse", ensembles / "direct.h5", "--derive", "x = nothing")
    assert status == 2
    assert errors.count("\n") == 1
