"""The file alone tells how to make it again."""

import json

import h5py
import numpy as np
import pytest
from cards import CLASSICAL, WITH_FLOW, assert_same_ensemble

from lattice_flows.ensembles import Ensemble
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = ["ensemble.hmc.n_configs=50", "ensemble.direct.n_configs=20"]


@pytest.fixture
def original(card, tmp_path, monkeypatch):
    """A file away from its run, which is gone; its ensemble was extended after its card was written."""
    path = card(CLASSICAL)
    run(path, tmp_path / "run", SMALL)
    run(path, tmp_path / "run", ["ensemble.hmc.n_configs=80", "ensemble.direct.n_configs=20"])
    return RunFolder(tmp_path / "run").ensemble("hmc").rename(tmp_path / "found.h5")


def test_a_file_makes_itself_again(original, lattice_flows, tmp_path):
    again = RunFolder(tmp_path / "output" / "remade" / "found")  # no part of output/*/ensembles/*.h5
    for _ in range(2):  # the second time nothing is left to do
        status, out, _ = lattice_flows("run", "--from", original)
        assert status == 0
        assert f"holds the same bits as {original}" in out
    assert_same_ensemble(original, again.ensemble("hmc"))
    assert not again.ensemble("direct").exists()  # only what was asked for
    assert lattice_flows("run", "--from", original, "--out", "elsewhere")[0] == 0
    assert RunFolder(tmp_path / "elsewhere").ensemble("hmc").exists()


def test_a_difference_is_found(original, lattice_flows, tmp_path):
    """A file whose numbers are not those of its card: one bit of one link, with fresh checksums."""
    with Ensemble.open(original) as ensemble:
        header = {key: value for key, value in ensemble.attributes.items() if key in _header(original)}
        fields, state = ensemble.configs(0, 80), ensemble.state()
        series = {name: ensemble.series(name) for name in ensemble.series_names}
        every = {"wilson_loop_1x3": 7}
        field, chains = ensemble.field, range(3)
    from lattice_flows.ensembles import Block

    fields[40, 1, 0, 2, 2] = np.nextafter(fields[40, 1, 0, 2, 2], 0.0)
    forged = tmp_path / "forged.h5"
    with Ensemble.create(forged, header=header, chains=chains, field=field, store_fields=True) as writer:
        writer.append(Block(series=series, every=every, fields=fields))
        writer.commit(state, seconds=1.0)
        writer.finish()
    status, out, _ = lattice_flows("run", "--from", forged, "--out", "again")
    assert status == 1
    assert f"differs from {forged} in theta" in out.replace("\n", " ")


def _header(path):
    from lattice_flows.ensembles.layout import RESERVED

    with h5py.File(path) as file:
        return {name for name in file.attrs if name not in RESERVED}


def test_a_start_that_has_changed_is_told(card, lattice_flows, tmp_path):
    begun = CLASSICAL.replace('sampler = "direct"', f'sampler = "direct"\nstart = "{tmp_path}/first.h5"')
    run(card(CLASSICAL, "first.toml"), tmp_path / "run", SMALL)
    first = RunFolder(tmp_path / "run").ensemble("hmc").rename(tmp_path / "first.h5")
    run(card(begun), tmp_path / "next", SMALL)
    made = RunFolder(tmp_path / "next").ensemble("direct")
    assert "holds other data" not in lattice_flows("run", "--from", made, "--out", "same")[1]
    run(card(CLASSICAL.replace("seed = 5", "seed = 6"), "other.toml"), tmp_path / "other", SMALL)
    RunFolder(tmp_path / "other").ensemble("hmc").replace(first)
    assert f"start: {first} holds other data" in lattice_flows("run", "--from", made, "--out", "again")[1]


def test_with_its_flow(card, lattice_flows, tmp_path):
    run(card(WITH_FLOW), tmp_path / "run", ["ensemble.flow_hmc.n_configs=4", "ensemble.hmc.n_configs=4"])
    source = RunFolder(tmp_path / "run")
    status, out, _ = lattice_flows("run", "--from", source.ensemble("flow"), "--out", "again")
    assert status == 0, out
    status, _, _ = lattice_flows("run", "--from", source.evaluation, "--out", "evaluation")
    assert status == 0
    assert_same_ensemble(source.evaluation, RunFolder(tmp_path / "evaluation").evaluation)


def test_a_flow_of_limited_time_is_taken_from_its_run(card, lattice_flows, tmp_path):
    """Where it is no more, another one is trained, and that is said."""
    timed = card(WITH_FLOW.replace("max_steps = 120", "max_seconds = 0.5"))
    run(timed, tmp_path / "run", ["ensemble.flow_hmc.n_configs=4", "ensemble.hmc.n_configs=4"])
    source = RunFolder(tmp_path / "run")
    for file in (source.ensemble("flow"), source.evaluation):
        status, out, _ = lattice_flows("run", "--from", file, "--out", f"again_{file.stem}")
        assert status == 0, out
        assert f"taken from {source.flow / 'checkpoint.pt'}" in out
        assert "holds the same bits as" in out
    source.flow.rename(tmp_path / "gone")
    status, out, _ = lattice_flows("run", "--from", source.ensemble("flow"), "--out", "another")
    assert status == 1
    assert "is not there, so another flow is trained, and the bits will differ" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "give a run card"),
        (["run", "card.toml", "--from", "found.h5"], "give a run card"),
        (["run", "--from", "nothing.h5"], "no such ensemble"),
        (["run", "--from", "nothing.h5", "--set", "seed=3"], "--set cannot be given"),
    ],
)
def test_what_is_asked_wrongly(lattice_flows, arguments, message):
    status, _, errors = lattice_flows(*arguments)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1


STORED = """
seed = 5
[theory]
name = "u1"
shape = [8, 8]
beta = 4.0
[[ensemble]]
name = "plain"
sampler = "direct"
n_configs = 300
[[ensemble]]
name = "gzip"
sampler = "direct"
n_configs = 300
compression = "gzip"
[[ensemble]]
name = "single"
sampler = "direct"
n_configs = 300
compression = "gzip"
field_dtype = "float32"
"""


def test_storage_is_chosen_on_the_card(card, tmp_path):
    run(card(STORED), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    sizes = {name: folder.ensemble(name).stat().st_size for name in ("plain", "gzip", "single")}
    assert sizes["gzip"] < sizes["plain"]
    assert sizes["single"] < 0.6 * sizes["plain"]
    with Ensemble.open(folder.ensemble("single")) as ensemble:
        fields = ensemble.configs(0, 300)
        assert fields.dtype == np.float32
        assert fields.astype(float).min() >= -np.pi
        assert fields.astype(float).max() < np.pi
        assert ensemble.state()["sampler/x"].dtype == np.float64
        assert json.loads(ensemble.attributes["sampler"])["name"] == "direct"
    with h5py.File(folder.ensemble("gzip")) as file:
        assert file["fields/theta"].compression == "gzip"
        np.testing.assert_array_equal(file["fields/theta"][:2], Ensemble.open(folder.ensemble("gzip")).configs(0, 2))


def test_angles_near_pi_stay_in_their_interval():
    from lattice_flows.lattice import CIRCLE, REAL

    angles = np.array([-np.pi, np.nextafter(np.pi, 0), 3.1415926, 0.5])
    narrow = CIRCLE.stored(angles, "float32")
    assert narrow.dtype == np.float32
    assert (narrow.astype(float) >= -np.pi).all()
    assert (narrow.astype(float) < np.pi).all()
    np.testing.assert_allclose(narrow, angles, atol=3e-7)
    assert CIRCLE.stored(angles, "float64") is angles
    assert REAL.stored(angles, "float32").dtype == np.float32
