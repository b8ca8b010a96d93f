"""The whole job: its files and numbers, interruptions to the bit, and folders that hold something else."""

import json
import random

import numpy as np
import pytest
from cards import CLASSICAL, WITH_FLOW, assert_same_ensemble, contents, interrupted_runs, set_pace

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, load_flow_weights, read_history

pytestmark = pytest.mark.usefixtures("without_figures")  # but for the fixture below


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the card with a flow, never interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    card = folder / "with_flow.toml"
    card.write_text(WITH_FLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder / "run", run(card, folder / "run")


def test_summary_has_the_documented_keys(finished):
    out, summary = finished
    assert json.loads((out / "report" / "summary.json").read_text()) == summary
    assert summary["theory"] == {"name": "u1", "shape": [4, 4], "boundary": "periodic", "beta": 1.0}
    flow_keys = "ess ess_error log_z log_z_error log_z_exact n_samples train_seconds n_parameters warnings"
    assert set(flow_keys.split()) <= summary["flow"].keys()
    assert summary["flow"]["n_samples"] >= 16384
    assert list(summary["ensembles"]) == ["flow", "flow_hmc", "hmc"]
    keys = (
        "sampler n_chains n_configs acceptance_rate seconds threads frozen seconds_per_independent_config observables"
    )
    estimate_keys = "value error tau_int tau_int_error window n_eff r_hat exact pull"
    for ensemble in summary["ensembles"].values():
        assert {*keys.split(), "warnings"} <= ensemble.keys()
        assert "topological_susceptibility" in ensemble["observables"]
        for estimate in ensemble["observables"].values():
            assert set(estimate_keys.split()) <= estimate.keys()


def test_every_number_agrees_with_the_exact_one(finished):
    _, summary = finished
    flow = summary["flow"]
    assert abs(flow["log_z"] - flow["log_z_exact"]) < 4.5 * flow["log_z_error"]
    tables = [flow["observables"], *(ensemble["observables"] for ensemble in summary["ensembles"].values())]
    for table in tables:
        for name, estimate in table.items():
            assert abs(estimate["pull"]) < 4.5, (name, estimate)


def test_files_say_how_they_were_made(finished):
    out, _ = finished
    folder = RunFolder(out)
    weights = load_flow_weights(folder.flow / CHECKPOINT_NAME)
    with Ensemble.open(folder.ensemble("flow")) as ensemble:
        attributes = ensemble.attributes
        assert attributes["card"] == WITH_FLOW
        assert attributes["flow_sha256"] == weights.sha256
        assert json.loads(attributes["theory"])["beta"] == 1.0
        assert "torch" in json.loads(attributes["software"])
        assert ensemble.verify()
        assert ensemble.proposals("log_w").shape == (400, 4)
        assert set(ensemble.series_names) >= {"action", "plaquette", "topological_charge", "accepted", "log_w"}
    with Ensemble.open(folder.ensemble("flow_hmc")) as ensemble:
        assert json.loads(ensemble.attributes["sampler"])["n_md_steps"] >= 1  # it was tuned


def test_a_finished_run_is_left_alone(finished):
    out, summary = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    again = run(out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")} == before
    assert again["ensembles"] == summary["ensembles"]


def test_interruptions_change_no_bit(finished, card, tmp_path, monkeypatch, seed):
    reference, _ = finished
    set_pace(monkeypatch, block_seconds=0.01)
    out = tmp_path / "interrupted"
    assert interrupted_runs(card(WITH_FLOW), out, monkeypatch, random.Random(seed), 400) >= 5
    assert_same_run(reference, out)


def assert_same_run(reference, out):
    for name in ("flow", "flow_hmc", "hmc"):
        assert_same_ensemble(RunFolder(reference).ensemble(name), RunFolder(out).ensemble(name))
    assert_same_ensemble(RunFolder(reference).evaluation, RunFolder(out).evaluation)
    one, other = (load_flow_weights(folder / "flow" / CHECKPOINT_NAME) for folder in (reference, out))
    assert one.sha256 == other.sha256
    rows = [
        [(r.step, r.loss, r.ess) for r in read_history(folder / "flow" / HISTORY_NAME)] for folder in (reference, out)
    ]
    assert rows[0] == rows[1]


def test_series_measured_every_few_configurations(card, tmp_path):
    out = tmp_path / "out"
    summary = run(card(CLASSICAL), out)
    with Ensemble.open(RunFolder(out).ensemble("hmc")) as ensemble:
        numbers, every = ensemble.series_configs("wilson_loop_1x3"), ensemble.series("wilson_loop_1x3")
        np.testing.assert_array_equal(numbers, np.arange(0, 600, 7))
        from lattice_flows.theories import WilsonLoop

        fields = ensemble.configs(0, 600)[numbers]
        again = WilsonLoop(1, 3)(fields.reshape(-1, 2, 4, 6)).reshape(every.shape)
        np.testing.assert_array_equal(every, again)
        np.testing.assert_allclose(
            ensemble.series("action"), 1.5 * 24 * (1 - ensemble.series("plaquette")), rtol=0, atol=1e-11
        )
    with Ensemble.open(RunFolder(out).ensemble("direct")) as ensemble:
        assert not ensemble.has_fields
    assert summary["flow"] is None


def test_extending_a_finished_run_is_as_one_long_run(card, tmp_path):
    path = card(CLASSICAL)
    run(path, tmp_path / "short", ["ensemble.hmc.n_configs=200"])
    run(path, tmp_path / "short", ["ensemble.hmc.n_configs=600"])
    run(path, tmp_path / "long")
    assert_same_ensemble(*(RunFolder(tmp_path / name).ensemble("hmc") for name in ("short", "long")))


def test_seeds_and_ensembles_have_their_own_numbers(card, tmp_path):
    path = card(CLASSICAL)
    run(path, tmp_path / "one", ["ensemble.hmc.n_configs=20"])
    run(path, tmp_path / "other", ["ensemble.hmc.n_configs=20", "seed=6"])
    one, other = (contents(RunFolder(tmp_path / name).ensemble("hmc")) for name in ("one", "other"))
    assert not np.array_equal(one["series/plaquette"], other["series/plaquette"])


def test_starts(card, tmp_path):
    path = card(CLASSICAL)
    run(path, tmp_path / "first", ["ensemble.hmc.n_configs=20"])
    file = RunFolder(tmp_path / "first").ensemble("hmc")
    for start in ("cold", "direct", str(file)):
        out = tmp_path / f"out_{len(start)}"
        run(path, out, ["ensemble.hmc.n_configs=20", f"ensemble.hmc.start={start}"])
        assert RunFolder(out).ensemble("hmc").exists()
    with pytest.raises(InputError, match="neither 'hot', 'cold', 'direct', 'flow' nor"):
        run(path, tmp_path / "none", ["ensemble.hmc.start=warm"])
    with pytest.raises(InputError, match="is only for samplers with a flow"):
        run(path, tmp_path / "flow", ["ensemble.hmc.start=flow"])
    with pytest.raises(InputError, match=r"start = 'none.h5': no such ensemble file"):
        run(path, tmp_path / "absent", ["ensemble.hmc.start=none.h5"])
    with pytest.raises(InputError, match="holds no fields of shape"):
        run(path, tmp_path / "other", ["theory.shape=[4, 4]", f"ensemble.hmc.start={file}"])


def test_folders_of_others_are_left_alone(card, tmp_path):
    path, out = card(CLASSICAL), tmp_path / "out"
    run(path, out, ["ensemble.hmc.n_configs=20", "ensemble.direct.n_configs=20"])
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="holds the run of another card"):
        run(path, out, ["theory.beta=2"])
    with pytest.raises(InputError, match="it may only grow"):
        run(path, out, ["ensemble.hmc.n_configs=10", "ensemble.direct.n_configs=20"])
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(path, foreign)
    assert [file.name for file in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"):
        run(path, foreign / "thesis.tex")
    with pytest.raises(InputError, match="holds no run"):
        run(foreign)


def test_frozen_ensembles_are_flagged_and_bounded(card, tmp_path):
    text = CLASSICAL.replace("1.5", "12.0").replace(
        'name = "direct"\nsampler = "direct"', 'name = "d"\nsampler = "direct"'
    )
    summary = run(card(text), tmp_path / "out", ["ensemble.hmc.start=cold"])
    frozen = summary["ensembles"]["hmc"]
    assert frozen["frozen"]
    assert frozen["seconds_per_independent_config"] is None
    assert frozen["seconds_per_independent_config_at_least"] > 0
    assert any("frozen" in warning for warning in frozen["warnings"])


def test_a_file_of_another_theory_sampler_or_seed_is_not_continued(card, tmp_path):
    path = card(CLASSICAL)
    small = ["ensemble.hmc.n_configs=20", "ensemble.direct.n_configs=20"]
    run(path, tmp_path / "home", small)
    home = RunFolder(tmp_path / "home")
    own = home.ensemble("hmc").read_bytes()
    for index, change in enumerate(
        ["theory.beta=2.5", "seed=8", "ensemble.hmc.integrator='omelyan'", "theory.shape=[4, 4]"]
    ):
        run(path, tmp_path / f"other_{index}", [*small, change])
        foreign = RunFolder(tmp_path / f"other_{index}").ensemble("hmc").read_bytes()
        home.ensemble("hmc").write_bytes(foreign)
        with pytest.raises(InputError, match="was made by another card"):
            run(path, tmp_path / "home", ["ensemble.hmc.n_configs=30", "ensemble.direct.n_configs=20"])
        assert home.ensemble("hmc").read_bytes() == foreign
    home.ensemble("hmc").write_bytes(home.ensemble("direct").read_bytes())
    with pytest.raises(InputError, match="holds"):
        run(home.path)
    home.ensemble("hmc").write_bytes(own)


def test_a_scan_in_beta_and_a_continuation_have_their_own_random_numbers(card, tmp_path):
    path = card(CLASSICAL)
    series = {}
    runs = {"one": [], "near": ["theory.beta=1.51"], "next": [f"ensemble.hmc.start={tmp_path}/one/ensembles/hmc.h5"]}
    for name, change in runs.items():
        run(path, tmp_path / name, ["ensemble.direct.n_configs=1", "ensemble.hmc.n_md_steps=4", *change])
        with Ensemble.open(RunFolder(tmp_path / name).ensemble("hmc")) as ensemble:
            series[name] = ensemble.series("plaquette")
    for other in ("near", "next"):
        x, y = (series[name] - series[name].mean() for name in ("one", other))
        correlation = (x * y).mean() / (x.std() * y.std())
        assert abs(correlation) * np.sqrt(x.size / 8) < 4.5  # tau_int of the product is below 4


def test_tuning_thermalises_its_pilots(card, tmp_path):
    """From a hot start at large beta, where every trajectory is accepted while the integrator fails."""
    out = tmp_path / "out"
    changes = ["theory.beta=20.0", "theory.shape=[16, 16]", "ensemble.hmc.n_configs=300", "ensemble.direct.n_configs=1"]
    summary = run(card(CLASSICAL), out, changes)
    assert 0.6 < summary["ensembles"]["hmc"]["acceptance_rate"] < 0.97
