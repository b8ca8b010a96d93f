"""Every classical sampler from a card: its numbers, and interruptions to the bit."""

import random

import pytest
from cards import (
    ARSENAL,
    ARSENAL_SAMPLERS,
    SCALAR,
    SCALAR_SAMPLERS,
    assert_same_ensemble,
    interrupted_runs,
    with_ensembles,
)

from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.stages import run

CARDS = {"u1": (ARSENAL, ARSENAL_SAMPLERS), "phi4": (SCALAR, SCALAR_SAMPLERS)}
N_CONFIGS = 200


@pytest.fixture(scope="module", params=CARDS)
def job(request, tmp_path_factory):
    """A card, and its run that was never interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    theory, samplers = CARDS[request.param]
    card = folder / "card.toml"
    card.write_text(with_ensembles(theory, samplers, N_CONFIGS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return card, folder / "run", run(card, folder / "run"), samplers


def test_every_sampler_has_its_numbers(job):
    _, _, summary, samplers = job
    assert list(summary["ensembles"]) == list(samplers)
    for name, ensemble in summary["ensembles"].items():
        assert ensemble["n_configs"] == N_CONFIGS
        assert ensemble["observables"], name
        for quantity, row in ensemble["observables"].items():
            assert row["value"] is not None
            if row["pull"] is not None and row["trusted"]:
                assert abs(row["pull"]) < 4.5, (name, quantity, row)


def test_interruptions_change_no_bit(job, tmp_path, monkeypatch, seed):
    """Stopped at random moments of thermalisation and production, and taken up again."""
    card, reference, _, samplers = job
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lattice_flows.workflows.generate._BLOCK_SECONDS", 0.005)
    out = tmp_path / "interrupted"
    assert interrupted_runs(card, out, monkeypatch, random.Random(seed), 100) >= len(samplers)
    for name in samplers:
        assert_same_ensemble(RunFolder(reference).ensemble(name), RunFolder(out).ensemble(name))


BROKEN = """
seed = 1
[theory]
name = "phi4"
shape = [8, 8]
m2 = -9.0
lam = 8.0

[[ensemble]]
name = "one_vacuum"
sampler = "hmc"
n_chains = 1
n_configs = 500

[[ensemble]]
name = "both"
sampler = "mixture"
parts = [{sampler = "heatbath"}, {sampler = "cluster"}]
n_chains = 2
n_configs = 500
"""


def test_a_chain_that_never_leaves_its_vacuum_is_frozen(tmp_path, monkeypatch):
    """Its magnetisation fluctuates about the wrong value, and nothing in the series but the symmetry says so."""
    card = tmp_path / "broken.toml"
    card.write_text(BROKEN)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ensembles = run(card, tmp_path / "run")["ensembles"]
    frozen, moving = ensembles["one_vacuum"], ensembles["both"]
    assert frozen["frozen"]
    assert not frozen["observables"]["magnetisation"]["trusted"]
    assert frozen["seconds_per_independent_config"] is None
    assert frozen["seconds_per_independent_config_at_least"] > 0
    assert any("magnetisation went through its range 0 times" in text for text in frozen["warnings"])
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Histories and histograms of the magnetisation of one_vacuum, both. Frozen: one_vacuum." in page
    assert not moving["frozen"]
    assert abs(moving["observables"]["magnetisation"]["pull"]) < 4.5
    assert moving["seconds_per_independent_config"] > 0


def test_few_round_trips_are_told(tmp_path, monkeypatch):
    """A ladder with too few rungs: its replicas do not travel, so tempering has brought nothing."""
    card = tmp_path / "ladder.toml"
    samplers = {"ladder": 'sampler = "tempering"\nlast = 1.0\nn_replicas = 3\nreplica = {sampler = "hmc"}'}
    text = with_ensembles(ARSENAL.replace("beta = 2.0", "beta = 12.0").replace("[4, 6]", "[8, 8]"), samplers, 60)
    card.write_text(text)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ladder = run(card, tmp_path / "run")["ensembles"]["ladder"]
    assert ladder["round_trips"] < 20
    assert any("round trips" in text for text in ladder["warnings"])
    assert not ladder["observables"]["topological_charge_squared"]["trusted"]
