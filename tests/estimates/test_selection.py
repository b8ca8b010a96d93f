"""Parts of ensembles, other couplings, quantities that a person writes down."""

import json

import numpy as np
import pytest
from scipy.signal import lfilter

from lattice_flows.ensembles import Block, Ensemble, FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.estimates.expressions import parse_quantity
from lattice_flows.estimates.selection import Selection, parse_couplings, parse_thermalisation
from lattice_flows.stages import run
from lattice_flows.statistics import derived, gamma_method
from lattice_flows.theories import ExactU1

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
    (summary,) = analyse_files([path], Selection(**selection)).summary["ensembles"].values()
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
n_chains = 64
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
    # The start lifts the pull by 4.6 +- 0.8, over eight seeds.
    assert whole["observables"]["plaquette"]["pull"] > cut["observables"]["plaquette"]["pull"] + 2.0
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
    summary = analyse_files([ensembles / "direct.h5"], Selection(couplings={"beta": beta})).summary
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
    (ensemble,) = analyse_files([path], Selection(couplings={"m2": 1.2})).summary["ensembles"].values()
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
        ("x = " + "-" * 900 + "plaquette", "nested too deeply|not an expression"),
        ("x = plaquette * 1" + "0" * 400, "too large"),
    ],
)
def test_what_is_no_formula_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_quantity(text, ["plaquette", "action"])
    assert "\n" not in str(refused.value)


def test_couplings_are_numbers():
    assert parse_couplings(["beta=6.1"]) == {"beta": 6.1}
    whole = parse_couplings(["n_wells=3", "beta=6.0", "m2=-4"])
    assert whole == {"n_wells": 3, "beta": 6.0, "m2": -4}
    assert [type(value) for value in whole.values()] == [int, float, int]
    with pytest.raises(InputError, match="is given twice"):
        parse_couplings(["beta=1", "beta=2"])
    for wrong in ("beta", "beta=", "=3", "beta=six", "beta=nan", "beta=1e400", "beta=1" + "0" * 400):
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


def written(path, series, every=None, first_chain=0, seed=1, seconds=1.0, sampler="hmc"):
    """An ensemble file of 4x4, beta = 2, with these series (n, n_chains) alone."""
    n_chains = series["action"].shape[1]
    names = {"plaquette": {}, "topological_charge": {}, "wilson_loop_1x3": {"r": 1, "t": 3}}
    tables = [
        {"name": name.removesuffix("_1x3"), "every": (every or {}).get(name, 1), **parameters}
        for name, parameters in names.items()
        if name in series
    ]
    header = {
        "name": "made",
        "theory": json.dumps({"name": "u1", "shape": [4, 4], "boundary": "periodic", "beta": 2.0}),
        "sampler": json.dumps({"name": sampler, "n_updates": 2, "n_thermalisation": 10}),
        "observables": json.dumps(tables),
        "weighted": 0,
        "seed": seed,
        "threads": 1,
        "card": "",
    }
    field = FieldSpec("theta", ("mu", "x0", "x1"), (2, 4, 4))
    chains = range(first_chain, first_chain + n_chains)
    with Ensemble.create(path, header=header, chains=chains, field=field, store_fields=False) as writer:
        writer.append(Block(series=series, every=every or {}))
        writer.commit({}, seconds=seconds)
        writer.finish()
    return path


def noise(rng, n, n_chains, rho=0.0):
    return lfilter([1.0], [1.0, -rho], rng.normal(size=(n, n_chains)), axis=0)


def test_other_couplings_do_not_hide_that_chains_disagree(tmp_path, rng):
    plaquette = 0.7 + 0.01 * noise(rng, 2000, 3) + np.array([0.0, 0.0, 0.02])
    path = written(tmp_path / "made.h5", {"action": 32 * (1 - plaquette), "plaquette": plaquette})
    for couplings in ({}, {"beta": 2.0001}):
        row = analysed(path, couplings=couplings)["observables"]["plaquette"]
        assert row["r_hat"] > 1.05
        assert not row["trusted"]


def test_overlap_counts_independent_configurations(tmp_path, rng):
    """ESS * N is far above 200; with tau_int = 20 of the action it stands for a few dozen."""
    slow = noise(rng, 2000, 4, rho=0.95) * np.sqrt(1 - 0.95**2)
    series = {"action": 10 + slow, "plaquette": 0.7 + 0.01 * slow}
    figures = analysed(written(tmp_path / "made.h5", series), couplings={"beta": 5.0})["reweighting"]
    assert figures["ess"] * figures["n_samples"] > 300
    assert figures["n_effective"] < 200
    assert not figures["reliable"]
    quick = {"action": 10 + 0.3 * noise(rng, 2000, 4), "plaquette": 0.7 + 0.01 * noise(rng, 2000, 4)}
    assert analysed(written(tmp_path / "quick.h5", quick), couplings={"beta": 3.0})["reweighting"]["reliable"]


def test_thinning_changes_neither_cost_nor_motion(tmp_path, rng):
    charge = np.rint(2 * noise(rng, 4000, 2, rho=0.5))
    series = {
        "action": 10 + noise(rng, 4000, 2),
        "topological_charge": charge,
        "round_trips": rng.integers(0, 2, (4000, 2)),
        "rejection_run": np.full((4000, 2), 21),
    }
    path = written(tmp_path / "made.h5", series)
    plain, thinned = analysed(path), analysed(path, every=10)
    for key in ("seconds_per_independent_config", "round_trips", "updates_per_round_trip", "longest_rejection_run"):
        assert thinned[key] == plain[key]
    assert [text for text in thinned["warnings"] if "rejected" in text or "round trips" in text] == []
    cut = analysed(path, thermalisation=2000)
    assert cut["seconds_per_independent_config"] == pytest.approx(plain["seconds_per_independent_config"], rel=0.2)


def test_what_parts_tell_is_heard_at_any_depth(tmp_path, rng):
    """accepted_1_0 is that of part 0.1, the part 1 of part 0: names as they have always been."""
    series = {
        "action": 10 + noise(rng, 4000, 2),
        "topological_charge": np.rint(2 * noise(rng, 4000, 2, rho=0.5)),
        "accepted": np.full((4000, 2), 0.5),
        "accepted_0": np.full((4000, 2), 0.6),
        "accepted_1_0": np.full((4000, 2), 0.05),
        "round_trips_0": rng.integers(0, 2, (4000, 2)),
        "round_trips_2_1": np.zeros((4000, 2)),
        "rejection_run_3": np.full((4000, 2), 1500),
    }
    summary = analysed(written(tmp_path / "made.h5", series))
    assert [text.partition(":")[0] for text in summary["warnings"] if "of part" in text] == [
        "only 0 round trips of part 1.2",
        "a chain rejected 1500 proposals of part 3 in a row",
        "acceptance rate 0.05 of part 0.1",
    ]
    assert (summary["round_trips"], summary["longest_rejection_run"], summary["acceptance_rate"]) == (0, 1500, 0.5)
    own = analysed(written(tmp_path / "own.h5", {**series, "round_trips": np.ones((4000, 2))}))
    assert own["round_trips"] == 8000


def test_the_cost_of_an_imported_ensemble_is_not_bounded_by_zero(tmp_path):
    frozen = {"action": np.ones((50, 2)), "topological_charge": np.zeros((50, 2))}
    summary = analysed(written(tmp_path / "made.h5", frozen, seconds=0.0, sampler="imported"))
    assert summary["frozen"]
    assert summary["seconds_per_independent_config_at_least"] is None


def test_a_charge_that_is_measured_less_often(tmp_path, rng):
    """Than what is taken apart by it, or at other configurations."""
    charge = np.rint(2 * noise(rng, 3000, 2))
    loop = 0.5 + 0.01 * noise(rng, 3000, 2)
    every = {"topological_charge": 2, "wilson_loop_1x3": 3}
    series = {
        "action": 10 + noise(rng, 3000, 2),
        "topological_charge": charge[::2],
        "plaquette": loop,
        "wilson_loop_1x3": loop[::3],
    }
    summary = analysed(written(tmp_path / "made.h5", series, every))
    sectors = {sector["charge"]: sector["observables"] for sector in summary["topology"]["sectors"]}
    together = loop[::6][charge[::6] == 0]
    assert sectors[0]["wilson_loop_1x3"]["value"] == pytest.approx(together.mean(), rel=1e-12)
    few = {"action": series["action"][:400], "topological_charge": charge[:400:200]}
    assert analysed(written(tmp_path / "few.h5", few, {"topological_charge": 200}))["topology"] is None


def test_an_observable_of_some_files_is_left_out_and_said(tmp_path, rng):
    base = {"action": 10 + noise(rng, 400, 2), "plaquette": 0.7 + 0.01 * noise(rng, 400, 2)}
    more = {**base, "wilson_loop_1x3": 0.5 + 0.01 * noise(rng, 400, 2)}
    one = written(tmp_path / "one.h5", base)
    other = written(tmp_path / "other.h5", more, first_chain=2)
    seldom = {**more, "wilson_loop_1x3": more["wilson_loop_1x3"][::5]}
    rarely = written(tmp_path / "rarely.h5", seldom, {"wilson_loop_1x3": 5}, first_chain=4)
    for paths in ([one, other], [other, one], [other, rarely], [rarely, other]):
        (summary,) = analyse_files(paths, Selection(thermalisation=None)).summary["ensembles"].values()
        assert list(summary["observables"]) == ["plaquette"]
        assert any("wilson_loop_1x3: not measured in all files" in text for text in summary["warnings"])
        with pytest.raises(InputError, match="is not known"):
            analyse_files(paths, Selection(derived=("x = wilson_loop_1x3",)))


def test_chains_of_unequal_lengths_are_told(tmp_path, rng):
    paths = [
        written(tmp_path / f"{n}.h5", {"action": noise(rng, n, 2), "plaquette": noise(rng, n, 2)}, first_chain=k)
        for k, n in ((0, 600), (2, 150))
    ]
    (summary,) = analyse_files(paths).summary["ensembles"].values()
    assert (summary["n_configs"], summary["n_configs_of_longest"]) == (150, 600)


def test_a_name_that_is_taken_is_refused(ensembles):
    for text in ("plaquette = 2 * plaquette", "topological_charge_squared = plaquette"):
        with pytest.raises(InputError, match="is taken"):
            analysed(ensembles / "direct.h5", derived=(text,))
    with pytest.raises(InputError, match="is taken"):
        analysed(ensembles / "direct.h5", derived=("x = plaquette", "x = action"))
    summary = analysed(ensembles / "direct.h5", derived=("x = log(-plaquette)",))
    assert any("x: no estimate" in text or "x" in text for text in summary["warnings"])


def test_numbers_far_off_the_closed_form_are_told(tmp_path, rng):
    """As of fields that were imported with other couplings, whatever their error says."""
    exact = ExactU1(2.0, 16).plaquette
    for shift, told in ((0.0, False), (0.1, True)):
        plaquette = exact + shift + 0.05 * rng.standard_normal((500, 2))
        found = analysed(written(tmp_path / f"{shift}.h5", {"action": plaquette, "plaquette": plaquette}))
        assert any("plaquette: more than 5 errors off the exact value" in text for text in found["warnings"]) == told


def test_many_numbers_a_little_off_the_closed_form_are_told(tmp_path, rng):
    exact = ExactU1(2.0, 16)
    error = 1 / np.sqrt(1000)
    for shift, told in ((0.0, False), (4.0, True)):
        off = {
            name: known + 0.05 * (standard(rng, 1000) + shift * error).reshape(500, 2)
            for name, known in (("plaquette", exact.plaquette), ("wilson_loop_1x3", exact.wilson_loop(3)))
        }
        found = analysed(written(tmp_path / f"{shift}.h5", {"action": off["plaquette"], **off}))
        assert any("of 2 independent values against the closed forms" in text for text in found["warnings"]) == told


def standard(rng, n):
    """Values with the mean 0 and the deviation 1."""
    values = rng.standard_normal(n)
    return (values - values.mean()) / values.std()
