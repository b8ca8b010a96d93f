"""The topology of real ensembles: its keys, its numbers against closed forms, and where there is none."""

import json
import math
from contextlib import ExitStack

import numpy as np
import pytest

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates.charge_sectors import _known, topology_summary
from lattice_flows.estimates.grouping import open_replicas
from lattice_flows.estimates.observables import observables_summary
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.statistics import pull

CARD = """
seed = 11
[theory]
name = "u1"
shape = [8, 8]
beta = 2.0

[[ensemble]]
name = "direct"
sampler = "direct"
n_chains = 4
n_configs = 3000
store_fields = false

[[ensemble]]
name = "biased"
sampler = "metadynamics"
trajectory_length = 1.0
n_md_steps = 6
q_max = 4.0
n_chains = 4
n_configs = 2500
n_updates = 2
n_thermalisation = 1000
store_fields = false

[[ensemble]]
name = "windows"
sampler = "umbrella"
n_windows = 2
spring = 1e-9
q_max = 1.0
n_md_steps = 6
n_chains = 2
n_configs = 50
store_fields = false

[[ensemble]]
name = "short"
sampler = "direct"
n_configs = 4
store_fields = false

[[observable]]
name = "wilson_loop"
r = 1
t = 3
every = 3
"""
FROZEN = """
seed = 3
[theory]
name = "u1"
shape = [16, 16]
beta = 12.0

[[ensemble]]
name = "hmc"
sampler = "hmc"
trajectory_length = 1.0
n_md_steps = 12
n_chains = 12
n_configs = 2000
n_thermalisation = 0
start = "direct"
store_fields = false
"""
U1_16 = {"name": "u1", "shape": [16, 16], "boundary": "periodic"}
LOOPS = {"wilson_loop_1x2", "wilson_loop_2x2", "wilson_loop_1x3"}
SPARSE = """
seed = 5
[theory]
name = "u1"
shape = [8, 8]
beta = 2.0

[[ensemble]]
name = "direct"
sampler = "direct"
n_chains = 8
n_configs = 400
store_fields = false

[[observable]]
name = "topological_charge"
every = 200
"""
SCALAR = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 0.5

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 50
trajectory_length = 1.0
n_md_steps = 6
"""


def topologies(text, folder, doubt=False):
    """The topology of every ensemble of a card, and its observables, by name.

    doubt: no row of <Q^2> is trusted; None: there is none.
    """
    card = folder / "card.toml"
    card.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        names = run(card, folder / "run")["ensembles"]
    with ExitStack() as stack:
        groups = open_replicas([RunFolder(folder / "run").ensemble(name) for name in names], stack)
        found = {}
        for group in groups:
            observables, _ = observables_summary(group)
            if doubt:
                observables["topological_charge_squared"]["trusted"] = False
            if doubt is None:
                del observables["topological_charge_squared"]
            found[group.name] = topology_summary(group, observables), observables, closed_forms_of(group.theory)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return topologies(CARD, tmp_path_factory.mktemp("u1"))


def test_has_the_keys_of_the_contract_in_plain_json(found):
    for name in ("direct", "biased"):
        topology = found[name][0]
        assert json.loads(json.dumps(topology, allow_nan=False)) == topology
        assert list(topology) == ["tunnelling_rate", "sectors", "fixed_charge", "theta", "weights", "trusted"]
        assert list(topology["tunnelling_rate"]) == ["value", "error"]
        for sector in topology["sectors"]:
            assert list(sector) == ["charge", "probability", "probability_error", "exact", "gaussian", "observables"]
            assert set(sector["observables"]) == {"plaquette", *LOOPS} or abs(sector["charge"]) > 1
        assert [sector["charge"] for sector in topology["sectors"][1:-1]].count(0) == 1
        assert set(topology["fixed_charge"]) == {"plaquette", *LOOPS}
        for row in topology["fixed_charge"].values():
            assert list(row) == ["value", "error", "slope", "slope_error", "chi2_per_dof", "linear", "charge_squared"]
            assert row["linear"]
            assert row["charge_squared"] == "ensemble"
        assert len(topology["theta"]) == 13
        assert topology["theta"][-1]["theta"] == math.pi
        for row in topology["theta"]:
            assert list(row) == ["theta", "value", "error", "exact", "resolved"]
    assert found["direct"][0]["weights"] is None
    for row in found["biased"][0]["weights"]:
        assert list(row) == ["charge", "share", "exact", "share_error", "n_configs", "ess", "ess_error"]
        assert (row["ess_error"] is None) == (row["n_configs"] == 1)


@pytest.mark.parametrize("name", ["direct", "biased"])
def test_agrees_with_the_closed_forms(name, found):
    topology, observables, exact = found[name]
    for sector in topology["sectors"]:
        assert sector["exact"] == pytest.approx(exact.charge_distribution(9)[sector["charge"] + 9], abs=1e-12)
        if sector["probability"] is not None:
            assert abs(pull(sector["probability"], sector["probability_error"], sector["exact"])) < 4.5
        if abs(sector["charge"]) < 3:  # in its tail, P(Q) is no Gaussian
            assert sector["gaussian"] == pytest.approx(sector["exact"], rel=0.3)
    assert sum(sector["probability"] is not None for sector in topology["sectors"]) >= 3
    for quantity, row in topology["fixed_charge"].items():
        assert abs(pull(row["value"], row["error"], observables[quantity]["exact"])) < 4.5
        assert row["slope"] < 0.0
        assert row["chi2_per_dof"] < 5.0
        assert row["error"] < 1.3 * observables[quantity]["error"]
    for row in topology["theta"][1:]:
        assert row["exact"] == pytest.approx(float(exact.theta_ratio(row["theta"])), rel=1e-9)
        assert abs(pull(row["value"], row["error"], row["exact"])) < 4.5
        assert row["resolved"] == (row["value"] > 3.0 * row["error"])
    assert topology["theta"][3]["resolved"]


def test_weights_by_sector(found):
    rows = found["biased"][0]["weights"]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    shares = {row["charge"]: row["share"] for row in rows}
    errors = {row["charge"]: row["share_error"] for row in rows}
    for sector in found["biased"][0]["sectors"]:
        if sector["probability"] is not None:
            assert shares[sector["charge"]] == pytest.approx(sector["probability"])
        assert errors[sector["charge"]] == sector["probability_error"]
    assert sum(error is not None for error in errors.values()) >= 3
    assert all(0.0 < row["ess"] <= 1.0 + 1e-12 for row in rows)


def test_independent_configurations_tunnel_as_often_as_their_charges_differ(found):
    topology, _, exact = found["direct"]
    rate = topology["tunnelling_rate"]
    assert abs(pull(rate["value"], rate["error"], 1.0 - np.sum(exact.charge_distribution(9) ** 2))) < 4.5


def test_nothing_is_said_where_nothing_can_be(found, tmp_path):
    assert found["windows"][0] is None  # umbrella needs MBAR
    assert found["short"][0] is None
    assert topologies(SCALAR, tmp_path)["hmc"][0] is None


def test_a_frozen_ensemble_knows_the_whole_by_the_exact_charge_squared(tmp_path):
    """Its own P(Q) and <Q^2> are those of the start."""
    topology, _, exact = topologies(FROZEN, tmp_path)["hmc"]
    assert topology["tunnelling_rate"]["value"] < 20 / (12 * 400)
    assert len(topology["sectors"]) > 1
    assert {(sector["probability"], sector["probability_error"]) for sector in topology["sectors"]} == {(None, None)}
    assert topology["fixed_charge"]["plaquette"]["charge_squared"] == "exact"
    row = topology["fixed_charge"]["plaquette"]
    assert abs(pull(row["value"], row["error"], exact.plaquette)) < 4.5
    assert abs(pull(row["value"], row["error"], closed_forms_of({**U1_16, "beta": 12.24}).plaquette)) > 5  # 2 % off


def test_what_is_doubtful_is_not_resolved(tmp_path):
    text = SPARSE.replace("every = 200", "every = 1")
    trusted, doubtful, unknown = (topologies(text, tmp_path, doubt)["direct"][0] for doubt in (False, True, None))
    assert [trusted["trusted"], doubtful["trusted"], unknown["trusted"]] == [True, False, False]
    assert any(row["resolved"] for row in trusted["theta"])
    assert not any(row["resolved"] for row in doubtful["theta"] + unknown["theta"])
    assert [row["value"] for row in doubtful["theta"]] == [row["value"] for row in trusted["theta"]]


@pytest.mark.parametrize("every", [200, 60, 3])
def test_a_charge_that_is_measured_now_and_then(every, tmp_path):
    """Two values of it tell nothing; of seven, those configurations on which both are known are taken."""
    topology, _, exact = topologies(SPARSE.replace("every = 200", f"every = {every}"), tmp_path)["direct"]
    assert (topology is None) == (every == 200)
    if every == 3:
        row = topology["fixed_charge"]["plaquette"]
        assert abs(pull(row["value"], row["error"], exact.plaquette)) < 4.5
        for sector in topology["sectors"]:
            assert abs(sector["observables"]["plaquette"]["value"] - exact.plaquette) < 0.1


def test_no_exact_probability_is_negative():
    """Far in the tail the closed form is zero but for its rounding."""
    exact = closed_forms_of({**U1_16, "beta": 12.0})
    assert exact.charge_distribution(9).min() < 0.0
    assert _known(exact, 9).min() == 0.0
    np.testing.assert_array_equal(_known(exact, 9)[8:11], exact.charge_distribution(9)[8:11])
