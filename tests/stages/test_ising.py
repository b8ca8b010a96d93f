"""The Ising model from a card: its numbers, interruptions to the bit, and spins of one byte all the way out and in."""

import json
import random

import numpy as np
import pytest
import xarray
from cards import assert_same_ensemble, interrupted_runs, set_pace, with_ensembles
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.estimates.selection import Selection
from lattice_flows.interchange.export import export
from lattice_flows.interchange.import_fields import import_fields
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import Ising

# pyerrors imports scipy.odr, which scipy will drop; ArviZ announces its successor when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`scipy.odr` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:\\s*ArviZ is undergoing a major refactor:FutureWarning"),
]

THEORY = """
seed = 11
[theory]
name = "ising"
shape = [6, 5]
beta = 0.4

[[observable]]
name = "two_point"
distance = 2
every = 3
"""
SAMPLERS = {
    "heatbath": 'sampler = "heatbath"\nn_updates = 4\nstart = "cold"\ncompression = "gzip"',
    "cluster": 'sampler = "cluster"\nn_updates = 3',
    "swendsen_wang": 'sampler = "swendsen_wang"',
    "mixture": 'sampler = "mixture"\nparts = [{sampler = "metropolis", n_updates = 3}, {sampler = "cluster"}]',
}
N_CONFIGS = 300
CARD = with_ensembles(THEORY, SAMPLERS, N_CONFIGS)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The card, its run that was never interrupted, and its summary."""
    folder = tmp_path_factory.mktemp("ising")
    (folder / "card.toml").write_text(CARD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder / "card.toml", RunFolder(folder / "run"), run(folder / "card.toml", folder / "run")


def test_numbers_of_every_sampler(job):
    _, _, summary = job
    oracle = Ising(0.4).closed_forms((6, 5))
    for name, ensemble in summary["ensembles"].items():
        rows = ensemble["observables"]
        assert {"energy", "specific_heat", "magnetisation", "susceptibility", "binder_cumulant"} <= set(rows), name
        assert rows["energy"]["exact"] == oracle.energy
        assert rows["specific_heat"]["exact"] == oracle.specific_heat
        assert all(row["pull"] is None or abs(row["pull"]) < 4.5 for row in rows.values() if row["trusted"]), name
        assert ("improved_susceptibility" in rows) == (name in ("cluster", "swendsen_wang", "mixture"))
        assert ("improved_binder_cumulant" in rows) == (name == "swendsen_wang")
    assert 0.0 < summary["ensembles"]["mixture"]["acceptance_rate"] < 15 / 16


def test_interruptions_change_no_bit(job, tmp_path, monkeypatch, seed):
    card, folder, _ = job
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    set_pace(monkeypatch, block_seconds=0.003)
    out = tmp_path / "interrupted"
    assert interrupted_runs(card, out, monkeypatch, random.Random(seed), 200) >= len(SAMPLERS)
    for name in SAMPLERS:
        assert_same_ensemble(folder.ensemble(name), RunFolder(out).ensemble(name))


@pytest.mark.parametrize("name", SAMPLERS)
def test_files_hold_one_byte_a_spin(name, job):
    _, folder, _ = job
    with Ensemble.open(folder.ensemble(name)) as file:
        assert file.verify()
        assert (file.field.name, file.field.dims, file.field.dtype) == ("spin", ("x0", "x1"), "int8")
        spins = file.configs(0, file.n_configs)
        assert spins.dtype == np.int8
        assert set(np.unique(spins)) == {-1, 1}
        flat = spins.reshape(-1, 6, 5)
        np.testing.assert_array_equal(file.series("action").ravel(), Ising(0.4).evaluate(flat))
        np.testing.assert_allclose(file.series("magnetisation").ravel(), flat.mean((1, 2)), atol=1e-15)
        state = file.state()
        assert {values.dtype.name for key, values in state.items() if key.split("/")[-1] == "x"} == {"int8"}


def test_measuring_stored_spins_is_measuring_the_chain(job, lattice_flows, tmp_path):
    _, folder, _ = job
    copy = tmp_path / "cluster.h5"
    copy.write_bytes(folder.ensemble("cluster").read_bytes())
    assert lattice_flows("measure", copy, "two_point distance=2 every=3")[0] == 2  # it is there
    assert lattice_flows("measure", copy, "two_point distance=1")[0] == 0
    assert lattice_flows("verify", copy)[0] == 0
    with Ensemble.open(copy) as file:
        slices = file.configs(0, file.n_configs).mean(3)  # (config, chain, x0)
        for distance, every in ((1, 1), (2, 3)):
            wanted = 5 * (slices * np.roll(slices, distance, 2)).mean(2)[::every]
            np.testing.assert_allclose(file.series(f"two_point_{distance}"), wanted, atol=1e-14)


def test_reweighting_leaves_improved_estimators_out(job):
    """They are means over signs at the coupling of the chain, and a line says that they are missing."""
    _, folder, _ = job
    file = folder.ensemble("swendsen_wang")
    found = analyse_files([file], Selection(couplings={"beta": 0.38})).summary["ensembles"]["swendsen_wang"]
    rows = found["observables"]
    assert any("improved_susceptibility, improved_binder_cumulant: averages" in text for text in found["warnings"])
    assert not any(name.startswith("improved") for name in rows)
    assert rows["specific_heat"]["exact"] == Ising(0.38).closed_forms((6, 5)).specific_heat
    assert all(abs(rows[name]["pull"]) < 4.5 for name in ("energy", "specific_heat", "magnetisation"))


@pytest.mark.parametrize("kind", ["netcdf", "npy", "arviz", "pyerrors"])
def test_exports(kind, job, tmp_path):
    _, folder, _ = job
    suffix = {"netcdf": "x.nc", "npy": "x", "arviz": "x.arviz.nc", "pyerrors": "x.json.gz"}[kind]
    target = export(folder.ensemble("swendsen_wang"), kind, tmp_path / suffix)
    with Ensemble.open(folder.ensemble("swendsen_wang")) as file:
        spins, improved = file.configs(0, file.n_configs), file.series("improved_susceptibility")
    if kind == "netcdf":
        with xarray.open_dataset(target) as data:
            assert data["spin"].dtype == np.int8
            assert data["spin"].dims == ("config", "chain", "x0", "x1")
            np.testing.assert_array_equal(data["spin"], spins)
    elif kind == "npy":
        np.testing.assert_array_equal(np.load(target / "fields.npy"), spins)
        assert np.load(target / "fields.npy").dtype == np.int8
        assert json.loads((target / "header.json").read_text())["axes"]["fields"] == ["config", "chain", "x0", "x1"]
    elif kind == "arviz":
        with xarray.open_dataset(target, group="sample_stats") as data:
            np.testing.assert_array_equal(data["improved_susceptibility"], improved.T)
    else:
        import pyerrors.input.json

        observables = {
            one.tag: one for one in pyerrors.input.json.load_json(str(target), full_output=False, verbose=False)
        }
        assert observables["improved_susceptibility"].value == pytest.approx(improved.mean())


def imported(paths, out, theory=None, **options):
    import_fields(paths, theory or {"name": "ising", "beta": 0.4}, out, QUIET, StopRequest(), **options)
    with Ensemble.open(out) as file:
        return file.configs(0, file.n_configs), dict(file.attributes)


def test_what_was_exported_comes_back(job, tmp_path):
    _, folder, summary = job
    arrays = export(folder.ensemble("cluster"), "npy", tmp_path / "arrays")
    spins, attributes = imported([arrays / "fields.npy"], tmp_path / "cluster.h5")
    assert spins.dtype == np.int8
    assert json.loads(attributes["theory"])["shape"] == [6, 5]
    assert json.loads(attributes["imported_axes"]) == [["config", "chain", "x0", "x1"]]
    with Ensemble.open(folder.ensemble("cluster")) as one, Ensemble.open(tmp_path / "cluster.h5") as other:
        np.testing.assert_array_equal(one.configs(0, N_CONFIGS), other.configs(0, N_CONFIGS))
        for name in ("action", "energy", "magnetisation", "lowest_mode_squared"):
            np.testing.assert_array_equal(one.series(name), other.series(name))
        assert other.verify()
    found = analyse_files([tmp_path / "cluster.h5"]).summary["ensembles"]["cluster"]["observables"]
    assert found["energy"] == summary["ensembles"]["cluster"]["observables"]["energy"]


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "float64"])
def test_spins_of_another_code(dtype, tmp_path, rng):
    spins = rng.choice([-1, 1], (20, 3, 4, 6)).astype(dtype)
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    for k, path in enumerate(paths):
        np.save(path, spins[:, k])
    found, _ = imported(paths, tmp_path / "x.h5")
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, spins)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda x: np.where(np.arange(x.size).reshape(x.shape) == 4 * 72 + 24 + 5, 0, x),
            "configuration 4, chain 1: 0 is",
        ),
        (lambda x: np.where(x == x[3, 2, 1, 1], x, 0.5), "0.5 is none of -1, 1"),
        (lambda x: np.where(x > 0, np.nan, x), "a number that is not finite"),
        (lambda x: x + 0j, "holds complex128; give the integers -1, 1"),
        (lambda x: x[..., None], "it should be (config, [chain,] L0, L1)"),
        (lambda x: x[:3], "at least 4 are needed"),
        (lambda x: x[..., :1], "shape"),
    ],
)
def test_what_are_no_spins_is_refused(spoil, message, tmp_path, rng):
    np.save(tmp_path / "x.npy", spoil(rng.choice([-1, 1], (20, 3, 4, 6))))
    with pytest.raises(InputError) as caught:
        imported([tmp_path / "x.npy"], tmp_path / "x.h5")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.h5").exists()


def test_there_is_no_axis_of_directions(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.choice([-1, 1], (20, 3, 4, 6)))
    with pytest.raises(InputError, match=r"should name x0, x1 in the order of the array.* wrong or missing: mu"):
        imported([tmp_path / "x.npy"], tmp_path / "x.h5", axes="config,chain,x0,x1,mu")


BAD = [
    ('sampler = "hmc"', "hmc moves continuous variables, but those of Ising are the integers -1, 1; use heatbath"),
    ('sampler = "heatbath"\nfield_dtype = "float32"', "field_dtype: fields of ising are stored as int8; leave it out"),
    ('sampler = "metropolis"\nwidth = 0.5', "width: a change of the integers -1, 1 is to another one; leave it out"),
    ('sampler = "heatbath"\nstart = "direct"', "there is no direct sampler for this theory; use 'hot' or 'cold'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_cards_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(with_ensembles(THEORY, {"bad": text}, 10))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "beta"), [("[6]", 0.4), ("[6, 4, 4]", 0.4), ("[6, 4]", -0.4)])
def test_other_theories_are_refused_in_one_line(shape, beta):
    text = THEORY.replace("[6, 5]", shape).replace("0.4", str(beta))
    with pytest.raises(InputError, match=r"shape has|beta must be a number between 0"):
        parse_card(text)


def test_a_start_from_spins_and_from_another_field(job, tmp_path, lattice_flows, card):
    _, folder, _ = job
    source = folder.ensemble("heatbath")
    again = with_ensembles(THEORY, {"again": f'sampler = "cluster"\nstart = "{source}"'}, 5)
    assert lattice_flows("sample", card(again, "again.toml"), "--out", "again")[0] == 0
    phi = with_ensembles(
        '[theory]\nname = "phi4"\nshape = [6, 5]\nm2 = 1.0\nlam = 1.0\n',
        {"phi": f'sampler = "heatbath"\nstart = "{source}"'},
        5,
    )
    status, _, errors = lattice_flows("sample", card(phi, "phi.toml"), "--out", "phi")
    assert status == 2
    assert "holds no fields of shape [6, 5] called phi" in errors
