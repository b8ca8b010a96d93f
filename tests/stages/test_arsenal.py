"""Every classical sampler from a card: its numbers, and interruptions to the bit."""

import random

import h5py
import numpy as np
import pytest
from cards import (
    ARSENAL,
    ARSENAL_SAMPLERS,
    SCALAR,
    SCALAR_SAMPLERS,
    assert_same_ensemble,
    interrupted_runs,
    set_pace,
    with_ensembles,
)

from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run

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
    set_pace(monkeypatch, block_seconds=0.005)
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
    assert "Histories of the magnetisation of one_vacuum, both. Frozen: one_vacuum." in page
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


def of_one(tmp_path, monkeypatch, text, theory=ARSENAL, n_configs=60):
    """The summary of a run of one ensemble."""
    tmp_path.mkdir(exist_ok=True)
    card = tmp_path / "one.toml"
    card.write_text(with_ensembles(theory, {"one": text}, n_configs))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return run(card, tmp_path / "run")["ensembles"]["one"]


def test_nothing_of_a_bias_that_was_hardly_built_is_trusted(tmp_path, monkeypatch):
    parts = 'sampler = "replica_exchange"\nparts = [{sampler = "hmc"}, {sampler = "metadynamics"}]'
    ensemble = of_one(tmp_path, monkeypatch, parts)
    assert any("bias of metadynamics is hardly built" in text for text in ensemble["warnings"])
    assert not any(row["trusted"] for row in ensemble["observables"].values())


def test_a_part_that_never_accepts_is_told(tmp_path, monkeypatch):
    stuck = "{sampler = 'hmc', trajectory_length = 50.0, n_md_steps = 1}"
    ensemble = of_one(tmp_path, monkeypatch, f"sampler = 'mixture'\nparts = [{{sampler = 'overrelaxation'}}, {stuck}]")
    assert ensemble["acceptance_rate"] == pytest.approx(0.5, abs=0.01), "the mean over all updates that are tested"
    assert any("of part 1: it hardly moves" in text for text in ensemble["warnings"])


def test_windows_that_cannot_be_joined_say_why(tmp_path, monkeypatch):
    far = 'sampler = "umbrella"\nn_windows = 2\nq_max = 0.8\nspring = 500.0'
    warnings = " ".join(of_one(tmp_path, monkeypatch, far)["warnings"])
    assert "overlap" in warnings, warnings


def test_short_series_of_a_scalar_field_are_analysed(tmp_path, monkeypatch):
    ensemble = of_one(tmp_path, monkeypatch, 'sampler = "heatbath"', SCALAR, n_configs=3)
    assert ensemble["observables"] == {}
    assert any("too few configurations" in text for text in ensemble["warnings"])


@pytest.mark.parametrize(
    ("theory", "text", "told"),
    [
        (ARSENAL, 'sampler = "umbrella"\nn_windows = 3', "must be a multiple of 3"),
        (ARSENAL, 'sampler = "winding_hmc"\nsize = 4', "size must be at most 3"),
        (ARSENAL.replace("[4, 6]", "[128, 128]"), 'sampler = "metadynamics"\nn_grid = 11', "n_grid must be at least"),
        (SCALAR, 'sampler = "tempering"\nlast = 0.0\nreplica = {sampler = "hmc"}', "coupling must be one of m2, lam"),
        (SCALAR, 'sampler = "cluster"', "make it a part of a 'mixture'"),
        (SCALAR, 'sampler = "instanton"', "instantons are those of u1"),
    ],
)
def test_what_a_sampler_cannot_do_is_told_in_one_line(theory, text, told, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="one") as caught:
        of_one(tmp_path, monkeypatch, text, theory)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ensembles_of_one_name_with_other_options_have_their_own_numbers(tmp_path, monkeypatch):
    first = of_one(tmp_path / "a", monkeypatch, "sampler = 'mixture'\nparts = [{sampler = 'heatbath'}]")
    other = of_one(
        tmp_path / "b", monkeypatch, "sampler = 'mixture'\nparts = [{sampler = 'heatbath'}, {sampler = 'heatbath'}]"
    )
    assert first["n_configs"] == other["n_configs"]
    keys = []
    for name in ("a", "b"):
        with h5py.File(RunFolder(tmp_path / name / "run").ensemble("one")) as file:
            keys.append(file["state/sampler/parts/0/streams"][:, 0])
    assert not np.isin(keys[0], keys[1]).any()
