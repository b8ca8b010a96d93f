"""Averages over populations of particles: their errors, log Z and ESS, from a card to the summary."""

import numpy as np
import pytest
from cards import claimed

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.estimates.selection import Selection
from lattice_flows.interchange.export import export
from lattice_flows.production.origin import Origin
from lattice_flows.stages import run
from lattice_flows.statistics import (
    derived_reweighted,
    effective_sample_size,
    log_partition,
    pareto_k,
    population_log_w,
    population_means,
    sector_means,
    sector_probabilities,
    theta_dependence,
)
from lattice_flows.theories import WilsonU1

CARD = """
seed = 3
[theory]
name = "u1"
shape = [4, 4]
beta = 1.6

[[ensemble]]
name = "smc"
sampler = "smc"
n_chains = 32
n_particles = 16
n_configs = {n_configs}
n_updates = 2
n_steps = 4
n_thermalisation = 0
initial = {{beta = 1.2}}
protocol = [0.0, 1.0]
resample_below = 1.0
kernel = {{sampler = "metropolis", width = 0.1}}

[[observable]]
name = "wilson_loop"
r = 1
t = 3
every = 50
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 400 populations in averages, and 800 in log Z: the summary and the file."""
    place = tmp_path_factory.mktemp("populations")
    (place / "card.toml").write_text(CARD.format(n_configs=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lattice_flows.stages.write_report", lambda *_: None)
        summary = run(place / "card.toml", place / "run")["ensembles"]["smc"]
    folder, _ = claimed(place / "card.toml", place / "run")
    return summary, folder.ensemble("smc")


def test_weights_are_those_of_populations(made):
    summary, path = made
    with Ensemble.open(path) as file:
        log_w, header = file.proposals("log_w"), Origin(file.attributes)
    assert (header.populations, header.n_particles, header.chains_per_set) == (True, 16, 16)
    of_populations = population_log_w(log_w, 16).ravel()
    found = summary["proposals"]
    assert found["n_samples"] == of_populations.size == 800
    assert found["log_z"] == pytest.approx(log_partition(of_populations).value)
    assert found["ess"] == pytest.approx(effective_sample_size(of_populations).value)
    assert found["pareto_k"] == pytest.approx(pareto_k(of_populations))
    assert found["log_z_reliable"]
    exact = WilsonU1(1.6).closed_forms((4, 4)).log_z
    assert abs(found["log_z"] - exact) < 4.5 * found["log_z_error"]
    assert found["log_z_error"] > 2.0 * log_partition(log_w.ravel()).error, "particles are not independent"


def test_averages_are_those_of_populations(made):
    summary, path = made
    with Ensemble.open(path) as file:
        log_w, plaquette = file.series("log_w"), file.series("plaquette")
    w = np.exp(log_w - log_w.max()).reshape(-1, 2, 16)  # (config, population, particle)
    value = (w * plaquette.reshape(w.shape)).sum() / w.sum()
    by_hand = (w * (plaquette.reshape(w.shape) - value)).mean(axis=2)  # (config, population)
    error = by_hand.std() / w.mean() / np.sqrt(by_hand.size)
    row = summary["observables"]["plaquette"]
    assert row["value"] == pytest.approx(value)
    assert row["error"] == pytest.approx(error, rel=0.25), "tau_int of independent populations is 1/2"
    known = {name: one for name, one in summary["observables"].items() if one["pull"] is not None and one["trusted"]}
    assert {"plaquette", "topological_charge_squared"} < known.keys()
    assert all(abs(one["pull"]) < 4.5 for one in known.values())
    assert row["n_eff"] < 0.5 * plaquette.size, "the updates are so small that descendants are almost the same"
    sectors = summary["topology"]["sectors"]
    assert sectors[len(sectors) // 2]["probability_error"] > 0
    assert summary["topology"]["weights"] is None


def test_a_selection_takes_whole_populations(made):
    _, path = made
    selected = Selection(thermalisation=None, every=2, couplings={"beta": 1.65})
    with analyse_files([path], selected) as analysis:
        found = analysis.summary["ensembles"]["smc"]
    assert found["thermalisation_dropped"] == 0
    assert found["reweighting"]["n_samples"] == 200
    known = [row for row in found["observables"].values() if row["pull"] is not None and row["trusted"]]
    assert len(known) > 2
    assert all(abs(row["pull"]) < 4.5 for row in known)


def test_fewer_than_twenty_populations_tell_no_error(made, tmp_path, monkeypatch):
    loop = made[0]["observables"]["wilson_loop_1x3"]  # of 4 x 2 populations
    assert not loop["trusted"]
    told = [text for text in made[0]["warnings"] if "populations" in text]
    assert told == ["wilson_loop_1x3: fewer than 20 populations, so the error is not known; make more configurations"]
    monkeypatch.setattr("lattice_flows.stages.write_report", lambda *_: None)
    (tmp_path / "card.toml").write_text(CARD.format(n_configs=5))
    few = run(tmp_path / "card.toml", tmp_path / "run")["ensembles"]["smc"]
    assert not any(row["trusted"] for row in few["observables"].values())
    told = [text for text in few["warnings"] if "populations" in text]
    assert len(told) == 1
    assert "errors are not known: " in told[0]
    assert "fewer than 20" in told[0]


def test_pyerrors_gets_no_particles(made, tmp_path):
    pytest.importorskip("pyerrors")
    with pytest.raises(InputError, match="particles of populations, which depend on one another"):
        export(made[1], "pyerrors", tmp_path / "smc.json.gz")


@pytest.mark.quick
def test_files_of_before_have_no_populations():
    before = Origin({"weighted": 1, "chains_per_set": 2})
    assert (before.populations, before.n_particles) == (False, 1)


@pytest.mark.quick
def test_means_of_populations(rng):
    log_w = rng.normal(size=(5, 6))
    expected = np.log(np.exp(log_w).reshape(5, 2, 3).mean(2))
    np.testing.assert_allclose(population_log_w(log_w, 3), expected)
    np.testing.assert_allclose(population_log_w(log_w - 900.0, 3), expected - 900.0)
    assert population_log_w(np.full((4, 3), -np.inf), 3).tolist() == [[-np.inf]] * 4
    replicas = list(np.ascontiguousarray(log_w.T))
    np.testing.assert_allclose(list(population_means(replicas, 3)), log_w.reshape(5, 2, 3).mean(2).T)
    assert population_means(replicas, 1) is replicas
    for refused in (lambda: population_log_w(log_w, 4), lambda: population_means(replicas, 4)):
        with pytest.raises(ValueError, match="6 chains are not whole populations of 4"):
            refused()


@pytest.mark.quick
def test_equal_particles_count_once(rng):
    """Of populations of equal particles every error is that of one particle of each; particle by particle, it is the
    smaller by the root of their number."""
    n = 400
    charge, values, log_w = rng.integers(-1, 2, (n, 5)), rng.normal(size=(n, 5)), 0.3 * rng.normal(size=(n, 5))
    several = [np.repeat(one, 4, axis=1) for one in (charge.astype(float), values, log_w)]
    for find in (
        lambda q, v, w, k: derived_reweighted(lambda a, b: a / (3.0 + b), w, v, q, n_particles=k),
        lambda q, v, w, k: sector_probabilities(q, w, n_particles=k)[0],
        lambda q, v, w, k: sector_means(q, v, w, n_particles=k)[1],
        lambda q, v, w, k: theta_dependence(q, [1.0], w, n_particles=k)[0],
    ):
        one = find(charge.astype(float), values, log_w, 1)
        both, wrong = find(*several, 4), find(*several, 1)
        assert both.value == pytest.approx(one.value)
        assert both.error == pytest.approx(one.error)
        assert both.n_eff == pytest.approx(one.n_eff)
        assert wrong.error < 0.6 * one.error
