"""Ensembles in the hands of other packages, and arrays of other codes in ours."""

import gc
import json
import pickle
import resource
import sys
import tracemalloc
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray
from cards import CLASSICAL, assert_same_ensemble
from rich.console import Console

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, StorageError
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.interchange.export import KINDS, export
from lattice_flows.interchange.import_npy import Portions, import_npy
from lattice_flows.interchange.pyerrors import ensemble_label
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import SAMPLERS, Umbrella
from lattice_flows.stages import sample_stage
from lattice_flows.statistics import derived_reweighted, gamma_method
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories import sample_u1

# pyerrors imports scipy.odr, which scipy will drop; ArviZ announces its successor when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`scipy.odr` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:\\s*ArviZ is undergoing a major refactor:FutureWarning"),
]

THEORY = {"name": "u1", "beta": 1.5}
QUIET = Console(quiet=True)
N_CONFIGS, N_CHAINS, FIRST_CHAIN, SHAPE = 700, 3, 2, (4, 6)
OBSERVABLES = [
    {"name": "plaquette", "every": 1},
    {"name": "topological_charge", "every": 1},
    {"name": "wilson_loop", "every": 7, "r": 1, "t": 2},
]
HEADER = {
    "name": "toy",
    "theory": json.dumps({"name": "u1", "shape": list(SHAPE), "boundary": "periodic", "beta": 1.5}),
    "sampler": json.dumps({"name": "toy", "n_updates": 1}),
    "observables": json.dumps(OBSERVABLES),
    "seed": 2**63 + 1,
    "card": "# β = 1.5\n" + 70_000 * "x",
    "flow_sha256": "",
}


def autoregressive(rng, n=N_CONFIGS, coefficient=0.8):
    """Chains (n, N_CHAINS) whose tau_int is (1 + coefficient) / (1 - coefficient) / 2."""
    values = rng.normal(size=(n, N_CHAINS))
    for previous, current in pairwise(values):
        current += coefficient * previous
    return values


def toy(path, rng, *, weighted=0, finish=True, field_dtype="float64", sampler="toy", header=HEADER):
    """An ensemble in two segments, its fields and series without any physics. Returns what was written."""
    fields = rng.uniform(-3, 3, (N_CONFIGS, N_CHAINS, 2, *SHAPE)).astype(field_dtype)
    series = {
        "action": autoregressive(rng),
        "plaquette": autoregressive(rng, coefficient=0.3),
        "topological_charge": np.rint(autoregressive(rng)) + rng.uniform(-1e-15, 1e-15, (N_CONFIGS, N_CHAINS)),
        "accepted": np.full((N_CONFIGS, N_CHAINS), 0.1),
        "log_w": autoregressive(rng, coefficient=0.5),
        "rejection_run": rng.integers(0, 9, (N_CONFIGS, N_CHAINS)),
        "wilson_loop_1x2": autoregressive(rng, n=N_CONFIGS // 7),
    }
    proposals = rng.normal(size=(N_CONFIGS + 5, N_CHAINS))
    header = {**header, "weighted": weighted, "sampler": json.dumps({"name": sampler, "n_updates": 1})}
    field = FieldSpec("theta", ("mu", "x0", "x1"), (2, *SHAPE), field_dtype)
    chains = range(FIRST_CHAIN, FIRST_CHAIN + N_CHAINS)
    with Ensemble.create(path, header=header, chains=chains, field=field, store_fields=True) as writer:
        for start, stop in ((0, 301), (301, N_CONFIGS)):
            # The rows of configurations 0, 7, 14, ...
            sparse = {name: (-(-start // 7), -(-stop // 7)) for name in series if name.startswith("wilson")}
            rows = {name: slice(*sparse.get(name, (start, stop))) for name in series}
            writer.append(
                Block(
                    series={name: values[rows[name]] for name, values in series.items()},
                    every={"wilson_loop_1x2": 7},
                    fields=fields[start:stop],
                    proposals={"log_w": proposals[start : stop if stop < N_CONFIGS else None]},
                )
            )
            writer.commit({"x": np.zeros(1)}, seconds=1.0)
        if finish:
            writer.finish()
    return {"fields": fields, "proposals": proposals, **series}


@pytest.fixture(params=[True, False], ids=["finished", "segments"])
def ensemble(request, tmp_path, rng):
    """The path of a toy ensemble and what it holds."""
    path = tmp_path / "toy.h5"
    return path, toy(path, rng, finish=request.param)


def test_netcdf_in_xarray(ensemble):
    path, held = ensemble
    target = export(path, "netcdf")
    assert target == path.with_suffix(".nc")
    for engine in ("h5netcdf", "netcdf4"):
        with xarray.open_dataset(target, engine=engine) as data:
            assert data["theta"].dims == ("config", "chain", "mu", "x0", "x1")
            assert data["wilson_loop_1x2"].dims == ("config_every_7", "chain")
            np.testing.assert_array_equal(data["theta"], held["fields"])
            np.testing.assert_array_equal(data["proposal_log_w"], held["proposals"])
            for name in ("action", "log_w", "wilson_loop_1x2", "rejection_run"):
                np.testing.assert_array_equal(data[name], held[name])
                assert data[name].dtype == held[name].dtype
            assert list(data.chain) == [2, 3, 4]
            wanted = held["wilson_loop_1x2"][2, 1]
            assert data["wilson_loop_1x2"].sel(config_every_7=14, chain=3) == wanted
            assert {name: data.attrs[name] for name in HEADER if name != "sampler"} == {
                name: value for name, value in HEADER.items() if name != "sampler"
            }
            assert list(data.attrs["shape"]) == list(SHAPE)


def test_netcdf_in_netcdf4(ensemble):
    path, held = ensemble
    target = export(path, "netcdf")
    with netCDF4.Dataset(target) as data:
        np.testing.assert_array_equal(data["theta"][600:], held["fields"][600:])
        np.testing.assert_array_equal(data["action"][:], held["action"])
        assert data["action"].filters()["fletcher32"]
        assert data.getncattr("card") == HEADER["card"]
        assert data.getncattr("flow_sha256") == ""
        assert data.getncattr("seed") == HEADER["seed"]
    with netCDF4.Dataset(target, "a") as data:  # may be added to
        data.createVariable("more", "f8", ("config", "chain"))[:] = held["plaquette"]
    with xarray.open_dataset(target) as data:
        np.testing.assert_array_equal(data["more"], held["plaquette"])


def about_common_mean(observable):
    """pyerrors takes fluctuations about the mean of each replica, which makes errors of several too small."""
    for name, own in observable.r_values.items():
        observable.deltas[name] = observable.deltas[name] + (own - observable.value)


def test_pyerrors_finds_our_numbers(ensemble):
    import pyerrors

    path, held = ensemble
    target = export(path, "pyerrors")
    assert target.name == "toy.json.gz"
    loaded = pyerrors.input.json.load_json(str(target), verbose=False, full_output=True)
    by_tag = {observable.tag: observable for observable in loaded["obsdata"]}
    charge = np.rint(held["topological_charge"])
    wanted = {
        **{name: held[name] for name in ("action", "plaquette", "log_w", "rejection_run", "wilson_loop_1x2")},
        "topological_charge": charge,
        "topological_charge_squared": charge**2,
    }
    assert by_tag.keys() == {*wanted, "accepted"}
    (label,) = by_tag["action"].e_names
    assert label.startswith("toy_")
    for name, series in wanted.items():
        observable = by_tag[name]
        np.testing.assert_allclose(
            observable.deltas[f"{label}|r4"] + observable.r_values[f"{label}|r4"], series[:, 2], atol=1e-12
        )
        about_common_mean(observable)
        observable.gamma_method(S=1.5)
        ours = gamma_method(series.astype(np.float64))
        theirs = (observable.value, observable.dvalue, observable.e_tauint[label], observable.e_dtauint[label])
        np.testing.assert_allclose(theirs, ours[:4], rtol=1e-10, err_msg=name)
        assert observable.names == [f"{label}|r{k}" for k in (2, 3, 4)]
        every = 7 if name == "wilson_loop_1x2" else 1
        assert observable.idl[f"{label}|r3"] == range(0, N_CONFIGS, every)
    description = loaded["description"]
    assert (description["card"], description["left_out"]) == (HEADER["card"], {})
    assert "note" not in description


@pytest.mark.parametrize(("name", "value"), [("accepted", 0.1), ("topological_charge", 3.0)])
def test_pyerrors_of_a_constant_series(name, value, tmp_path, rng, monkeypatch):
    """The rounding of a mean, or of a frozen charge, is no fluctuation."""
    import pyerrors

    toy(tmp_path / "toy.h5", rng)
    series, frozen = Ensemble.series, 3.0 + 1e-15 * rng.integers(-3, 4, (N_CONFIGS, N_CHAINS))
    monkeypatch.setattr(
        Ensemble, "series", lambda self, name: frozen if name == "topological_charge" else series(self, name)
    )
    observables = pyerrors.input.json.load_json(str(export(tmp_path / "toy.h5", "pyerrors")), verbose=False)
    (constant,) = [observable for observable in observables if observable.tag == name]
    constant.gamma_method()
    assert (constant.value, constant.dvalue) == (value, 0.0)


def test_pyerrors_reweights_as_we_do(tmp_path, rng):
    import pyerrors

    held = toy(tmp_path / "toy.h5", rng, weighted=1)
    target = export(tmp_path / "toy.h5", "pyerrors")
    loaded = pyerrors.input.json.load_json(str(target), verbose=False, full_output=True)
    by_tag = {observable.tag: observable for observable in loaded["obsdata"]}
    assert "reweight" in loaded["description"]["note"]
    for name, every in (("plaquette", 1), ("wilson_loop_1x2", 7)):
        (found,) = pyerrors.reweight(by_tag["reweighting_factor"], [by_tag[name]])
        about_common_mean(found)
        found.gamma_method(S=1.5)
        ours = derived_reweighted(lambda mean: mean, list(held["log_w"][::every].T), list(held[name].T))
        assert found.value == pytest.approx(ours.value, rel=1e-10)
        assert found.dvalue == pytest.approx(ours.error, rel=5e-3)  # of a ratio, which is not linear between replicas


def test_pyerrors_leaves_out_and_says_so(tmp_path, rng, monkeypatch):
    import pyerrors

    toy(tmp_path / "toy.h5", rng)
    series = Ensemble.series
    broken = {"action": np.full((N_CONFIGS, N_CHAINS), np.inf), "log_w": np.zeros((4, N_CHAINS))}
    monkeypatch.setattr(Ensemble, "series", lambda self, name: broken.get(name, series(self, name)))
    target = export(tmp_path / "toy.h5", "pyerrors")
    loaded = pyerrors.input.json.load_json(str(target), verbose=False, full_output=True)
    assert loaded["description"]["left_out"].keys() == {"action", "log_w"}
    assert not {"action", "log_w"} & {observable.tag for observable in loaded["obsdata"]}


@pytest.mark.parametrize("name", ["umbrella", "another"])
def test_pyerrors_refuses_windows(name, tmp_path, rng, monkeypatch):
    monkeypatch.setitem(SAMPLERS, name, Umbrella)  # by what it is, whatever its name
    toy(tmp_path / "toy.h5", rng, sampler=name)
    with pytest.raises(InputError, match="joined by MBAR"):
        export(tmp_path / "toy.h5", "pyerrors")


def test_arviz(ensemble):
    import arviz

    path, held = ensemble
    target = export(path, "arviz")
    assert target.name == "toy.arviz.nc"
    data = arviz.from_netcdf(target)
    assert set(data.groups()) == {"posterior", "sample_stats", "posterior_every_7", "proposals"}
    assert set(data.posterior.data_vars) == {"action", "plaquette", "topological_charge"}
    assert set(data.sample_stats.data_vars) == {"accepted", "log_w", "rejection_run"}
    assert data.posterior["action"].dims == ("chain", "draw")
    assert list(data.posterior.chain) == [2, 3, 4]
    np.testing.assert_array_equal(data.posterior_every_7.draw, np.arange(0, N_CONFIGS, 7))
    for group, name in (("posterior", "action"), ("sample_stats", "log_w"), ("posterior_every_7", "wilson_loop_1x2")):
        np.testing.assert_array_equal(data[group][name], held[name].T)
        for diagnostic in (arviz.ess, arviz.rhat):
            wanted = float(diagnostic(arviz.convert_to_dataset({name: held[name].T.copy()}))[name])
            assert float(diagnostic(data[group][[name]])[name]) == wanted
    np.testing.assert_array_equal(data.proposals["log_w"], held["proposals"].T)
    assert data.posterior.attrs["theory"] == HEADER["theory"] == data.attrs["theory"]
    data.close()


def test_npy(ensemble):
    path, held = ensemble
    folder = export(path, "npy")
    assert folder.name == "toy_npy"
    header = json.loads((folder / "header.json").read_text())
    names = {*(f"series_{name}" for name in held.keys() - {"fields", "proposals"}), "fields", "proposals_log_w"}
    assert {file.stem for file in folder.iterdir()} == {*names, "header"}
    for name in names:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        key = "proposals" if name.startswith("proposals") else name.removeprefix("series_")
        np.testing.assert_array_equal(array, held[key])
        assert array.dtype == held[key].dtype
        assert len(header["axes"][name]) == array.ndim
    assert (header["every"]["series_wilson_loop_1x2"], header["every"]["fields"]) == (7, 1)
    assert header["attributes"]["card"] == HEADER["card"]


@pytest.mark.parametrize("kind", ["netcdf", "npy"])
def test_fields_in_single_precision(kind, tmp_path, rng):
    held = toy(tmp_path / "toy.h5", rng, field_dtype="float32")
    target = export(tmp_path / "toy.h5", kind, tmp_path / "other")
    found = np.load(target / "fields.npy") if kind == "npy" else xarray.load_dataset(target)["theta"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, held["fields"])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_is_overwritten_and_nothing_left_over(kind, tmp_path, rng):
    toy(tmp_path / "toy.h5", rng)
    first = export(tmp_path / "toy.h5", kind)
    assert {entry.name for entry in tmp_path.iterdir()} == {"toy.h5", first.name}
    with pytest.raises(InputError, match=rf"{first.name}: already exists"):
        export(tmp_path / "toy.h5", kind)
    with pytest.raises(InputError, match="folder does not exist"):
        export(tmp_path / "toy.h5", kind, tmp_path / "nowhere" / "x")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_broken_file(kind, tmp_path, rng):
    path = tmp_path / "toy.h5"
    held = toy(path, rng)
    content = bytearray(path.read_bytes())
    place = content.find(held["plaquette"][100:104].tobytes())
    assert place > 0
    content[place + 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(EnsembleError, match=str(path)):
        export(path, kind)
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.h5"]


@contextmanager
def small_files():
    """No file may grow beyond 20 kB, which to a writer is a full disk. No fixture: pytest too may write to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_full_disk(kind, tmp_path, rng):
    toy(tmp_path / "toy.h5", rng)
    with small_files():
        with pytest.raises((OSError, StorageError), match="too large"):
            export(tmp_path / "toy.h5", kind)
        gc.collect()  # whatever a file closed too late would say
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.h5"]


@pytest.mark.parametrize("kind", ["netcdf", "npy"])
def test_fields_larger_than_memory(kind, tmp_path):
    """They pass in pieces of 8 MiB, so 64 MiB of fields take no more than a few of these."""
    field = FieldSpec("theta", ("mu", "x0", "x1"), (2, 32, 32))
    with Ensemble.create(tmp_path / "x.h5", header=HEADER, chains=range(4), field=field, store_fields=True) as writer:
        for k in range(4):
            writer.append(Block(series={}, fields=np.full((256, 4, *field.shape), float(k))))
            writer.commit({}, seconds=1.0)
    tracemalloc.start()
    target = export(tmp_path / "x.h5", kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    size = (target / "fields.npy" if kind == "npy" else target).stat().st_size
    assert size > 64 << 20


@pytest.mark.parametrize(("kind", "package"), [("netcdf", "h5netcdf"), ("arviz", "h5netcdf"), ("pyerrors", "pyerrors")])
def test_missing_package(kind, package, tmp_path, rng, monkeypatch):
    toy(tmp_path / "toy.h5", rng)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        InputError, match=rf"{package} is missing; install it with pip install 'lattice_flows\[interchange\]'"
    ):
        export(tmp_path / "toy.h5", kind)


def test_unknown_kind(tmp_path):
    with pytest.raises(InputError, match="unknown kind 'csv'; available: arviz, netcdf, npy, pyerrors"):
        export(tmp_path / "toy.h5", "csv")


# --- arrays of other codes ---------------------------------------------------------------------------------------


def angles(rng, n=20, chains=3):
    return rng.uniform(-np.pi, np.pi, (n, chains, 2, *SHAPE))


def save(path, array):
    np.save(path, array)
    return path


def imported(paths, out, **options):
    import_npy(paths, THEORY, out, QUIET, StopRequest(), **options)
    with Ensemble.open(out) as ensemble:
        return ensemble.configs(0, ensemble.n_configs)


def test_round_trip_of_a_run(tmp_path, card):
    """What we export and import again is the same to the last bit, and so is its analysis."""
    sample_stage(card(CLASSICAL), tmp_path / "run", ["ensemble.hmc.n_configs=200"], ["hmc"], QUIET)
    made, again = tmp_path / "run" / "ensembles" / "hmc.h5", tmp_path / "hmc.h5"
    folder = export(made, "npy", tmp_path / "arrays")
    import_npy([folder / "fields.npy"], THEORY, again, QUIET, StopRequest())
    with Ensemble.open(made) as one, Ensemble.open(again) as other:
        np.testing.assert_array_equal(one.configs(0, 200), other.configs(0, 200))
        shared = set(one.series_names) & set(other.series_names)
        assert shared >= {"action", "plaquette", "topological_charge"}
        for name in shared:
            np.testing.assert_array_equal(one.series(name), other.series(name))
        assert other.seconds == 0
        assert other.verify()
    found = analyse_files([again]).summary["ensembles"]["hmc"]["observables"]
    wanted = analyse_files([made]).summary["ensembles"]["hmc"]["observables"]
    assert len(found) >= 4
    assert {name: row for name, row in wanted.items() if name in found} == found


@pytest.mark.parametrize("exchanged", [False, True])
def test_the_analysis_of_another_code(exchanged, tmp_path, seed):
    """The right layout gives the closed form of the plaquette; directions the wrong way round are far off."""
    theta, _ = sample_u1(1.5, *SHAPE, make_streams(seed, "other code", range(2000)))
    links = theta[:, ::-1] if exchanged else theta
    imported([save(tmp_path / "x.npy", links)], tmp_path / "x.h5")
    observables = analyse_files([tmp_path / "x.h5"]).summary["ensembles"]["x"]["observables"]
    if exchanged:
        assert abs(observables["plaquette"]["pull"]) > 20
    else:
        for name in ("plaquette", "topological_charge_squared"):
            assert abs(observables[name]["pull"]) < 4.5


@pytest.mark.parametrize("mu_axis", ["first", "last"])
def test_one_file_or_one_per_chain(mu_axis, tmp_path, rng):
    links = angles(rng)
    stored = links if mu_axis == "first" else np.moveaxis(links, -3, -1)
    together = [save(tmp_path / "all.npy", stored)]
    apart = [save(tmp_path / f"{k}.npy", stored[:, k]) for k in range(3)]
    for out, paths in ((tmp_path / "one.h5", together), (tmp_path / "many.h5", apart)):
        np.testing.assert_array_equal(imported(paths, out, mu_axis=mu_axis), links)
    assert_same_ensemble(tmp_path / "one.h5", tmp_path / "many.h5")
    with Ensemble.open(tmp_path / "many.h5") as ensemble:
        files = json.loads(ensemble.attributes["imported_from"])
        assert [file["name"] for file in files] == ["0.npy", "1.npy", "2.npy"]
        assert json.loads(ensemble.attributes["theory"])["shape"] == list(SHAPE)
    assert not list(tmp_path.glob(".*"))


def test_several_blocks(tmp_path, rng):
    """However it is cut into blocks and segments."""
    file = save(tmp_path / "x.npy", angles(rng))
    imported([file], tmp_path / "one.h5")
    imported([file], tmp_path / "many.h5", portions=Portions(block_bytes=3 * 8 * 3 * 48, pending_bytes=8 * 3 * 48 * 5))
    with Ensemble.open(tmp_path / "one.h5") as one, Ensemble.open(tmp_path / "many.h5") as many:
        np.testing.assert_array_equal(one.configs(0, 20), many.configs(0, 20))
        for name in one.series_names:
            np.testing.assert_array_equal(one.series(name), many.series(name))


def test_angles_outside_are_wrapped_and_others_untouched(tmp_path, rng, capsys):
    links = angles(rng)
    shifted = links.copy()
    shifted[3:5] += 2 * np.pi * rng.integers(1, 3, shifted[3:5].shape)
    shifted[0, 0, 0, 0, 0], links[0, 0, 0, 0, 0] = np.pi, -np.pi
    links[0, 0, 0, 0, 1] = shifted[0, 0, 0, 0, 1] = np.nextafter(np.pi, 0)
    file = save(tmp_path / "x.npy", shifted)
    import_npy([file], THEORY, tmp_path / "x.h5", Console(width=120), StopRequest())
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        found = ensemble.configs(0, 20)
    assert ((found >= -np.pi) & (found < np.pi)).all()
    untouched = np.delete(np.arange(20), [3, 4])
    np.testing.assert_array_equal(found[untouched], links[untouched])
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * links), atol=1e-14)
    assert f"{2 * 3 * 48 + 1} angles (10 %) lay outside" in capsys.readouterr().out


def test_complex_links_and_single_precision(tmp_path, rng):
    links = angles(rng)
    found = imported([save(tmp_path / "u.npy", np.exp(1j * links))], tmp_path / "u.h5")
    np.testing.assert_allclose(found, links, atol=1e-15)
    found = imported([save(tmp_path / "s.npy", links.astype(np.float32))], tmp_path / "s.h5")
    np.testing.assert_allclose(found, links, atol=3e-7)
    assert found.dtype == np.float64


def with_value(rng, value):
    array = angles(rng)
    array[7, 2, 1, 0, 3] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (lambda rng: with_value(rng, np.nan), "configuration 7, chain 2 holds an angle that is not a"),
        (lambda rng: with_value(rng, np.inf), "configuration 7, chain 2 holds an angle that is not a"),
        (lambda rng: with_value(rng, 1e7), "configuration 7, chain 2 holds an angle that is not a"),
        (lambda rng: 1.00001 * np.exp(1j * angles(rng)), "configuration 0, chain 0 holds a link whose modulus"),
        (lambda rng: np.where(with_value(rng, 4) == 4, np.nan, 1j), "configuration 7, chain 2 holds a link whose mod"),
        (lambda rng: angles(rng).astype(np.int64), "holds int64"),
        (lambda rng: np.moveaxis(angles(rng), -3, -1), "try mu_axis = last"),
        (lambda rng: angles(rng)[:, 0, 0], "has the shape"),
        (lambda rng: angles(rng)[:3], "at least 4"),
        (lambda rng: angles(rng)[..., :1], "shape"),
        (lambda rng: angles(rng)[:0], "at least 4"),
        (lambda rng: np.zeros(20, dtype=[("a", "f8")]), "holds"),
    ],
)
def test_refused_arrays(array, message, tmp_path, rng):
    file = save(tmp_path / "x.npy", array(rng))
    with pytest.raises(InputError, match=message) as caught:
        imported([file], tmp_path / "x.h5")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


class Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("form", ["object array", "bare pickle", "npz"])
def test_a_pickle_is_refused_and_runs_nothing(form, tmp_path):
    victim, file = tmp_path / "victim", tmp_path / "x.npy"
    hostile = np.array([Payload(victim)], dtype=object)
    if form == "object array":
        np.save(file, hostile, allow_pickle=True)
    elif form == "bare pickle":
        file.write_bytes(pickle.dumps(hostile))
    else:
        with file.open("wb") as stream:
            np.savez(stream, x=hostile)
    with pytest.raises(InputError, match=r"not an \.npy file of numbers"):
        imported([file], tmp_path / "x.h5")
    assert not victim.exists()
    if form != "npz":  # and the payload is a live one
        np.load(file, allow_pickle=True)
        assert victim.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff" + 70_000 * b"(", 100 * b"text"])
def test_no_array_at_all(content, tmp_path):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"not an \.npy file of numbers"):
        imported([tmp_path / "x.npy"], tmp_path / "x.h5")


def test_truncated_file(tmp_path, rng):
    file = save(tmp_path / "x.npy", angles(rng))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"not an \.npy file of numbers"):
        imported([file], tmp_path / "x.h5")


def test_files_that_do_not_go_together(tmp_path, rng):
    first = save(tmp_path / "a.npy", angles(rng))
    cases = {
        "configurations 19": angles(rng)[1:],
        "lattice 6 x 4": np.swapaxes(angles(rng), -1, -2),
        "count twice": np.load(first),
    }
    for message, array in cases.items():
        with pytest.raises(InputError, match=message):
            imported([first, save(tmp_path / "b.npy", array)], tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("theory", "message"),
    [
        ({"name": "u1"}, "'beta' is missing"),
        ({"name": "u1", "beta": 1.0, "betta": 2.0}, "did you mean 'beta'"),
        ({"name": "phi4", "m2": 1.0, "lam": 1.0}, "phi4 lives in 1 to 4 dimensions; give the dimension"),
        ({"name": "nonsense"}, "unknown name 'nonsense'"),
        ({"name": "u1", "beta": 2.0, "shape": [4, 6]}, "leave it out"),
    ],
)
def test_refused_theories(theory, message, tmp_path, rng):
    file = save(tmp_path / "x.npy", angles(rng))
    with pytest.raises(InputError, match=message):
        import_npy([file], theory, tmp_path / "x.h5", QUIET, StopRequest())


def test_a_scalar_field_of_another_code(tmp_path, rng):
    """Its dimension says which axis counts the chains."""
    theory, phi = {"name": "phi4", "m2": 1.0, "lam": 1.0}, rng.normal(size=(20, 4, 3, 5))
    for dimension, shape in ((2, (20, 4, 3, 5)), (3, (20, 1, 4, 3, 5))):
        out = tmp_path / f"{dimension}.h5"
        import_npy([save(tmp_path / "x.npy", phi)], theory, out, QUIET, StopRequest(), dimension=dimension)
        with Ensemble.open(out) as ensemble:
            np.testing.assert_array_equal(ensemble.configs(0, 20), phi.reshape(shape))
    for bad, message in (
        (phi.astype(int), "give real numbers as real floats"),
        (np.where(phi > 2, np.inf, phi), "finite"),
    ):
        file = save(tmp_path / "bad.npy", bad)
        with pytest.raises(InputError, match=message):
            import_npy([file], theory, tmp_path / "bad.h5", QUIET, StopRequest(), dimension=2)


def test_nothing_is_overwritten(tmp_path, rng):
    file = save(tmp_path / "x.npy", angles(rng))
    imported([file], tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(InputError, match="exists"):
        imported([file], tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_bytes() == before


def test_a_stopped_import_leaves_nothing(tmp_path, rng):
    class AfterSomeLooks(StopRequest):
        looks = 0

        def raise_if_set(self):
            self.looks += 1
            if self.looks > 2:
                raise Stopped("TEST")

    file = save(tmp_path / "x.npy", angles(rng))
    with pytest.raises(Stopped):
        import_npy([file, save(tmp_path / "y.npy", angles(rng))], THEORY, tmp_path / "x.h5", QUIET, AfterSomeLooks())
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.npy", "y.npy"}


def test_pyerrors_knows_ensembles_of_one_name_apart(tmp_path, rng):
    """One card name at two couplings, or with two seeds, is no common Monte Carlo history."""
    labels = set()
    for k, change in enumerate(({}, {"seed": 8}, {"theory": json.dumps({"name": "u1", "shape": [4, 4], "beta": 9.0})})):
        path = tmp_path / f"{k}.h5"
        toy(path, rng, header={**HEADER, **change})
        with Ensemble.open(path) as ensemble:
            labels.add(ensemble_label(ensemble))
    assert len(labels) == 3


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_beside_the_target_is_touched(kind, tmp_path, rng):
    """Not even what is called as a temporary file could be."""
    toy(tmp_path / "toy.h5", rng)
    kept = tmp_path / "kept.tmp"
    kept.mkdir()
    (kept / "thesis.txt").write_text("years of work")
    export(tmp_path / "toy.h5", kind, tmp_path / "kept")
    assert (kept / "thesis.txt").read_text() == "years of work"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept", "kept.tmp", "toy.h5"]
