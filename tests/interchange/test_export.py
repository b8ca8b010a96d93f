"""Ensembles in the hands of other packages."""

import gc
import json
import resource
import sys
import tracemalloc
from contextlib import contextmanager
from itertools import pairwise

import netCDF4
import numpy as np
import pytest
import xarray

from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec, StorageError
from lattice_flows.errors import InputError
from lattice_flows.interchange.export import KINDS, export
from lattice_flows.interchange.pyerrors import ensemble_label
from lattice_flows.samplers import SAMPLERS, Umbrella
from lattice_flows.statistics import derived_reweighted, gamma_method

# pyerrors imports scipy.odr, which scipy will drop; ArviZ announces its successor when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`scipy.odr` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:\\s*ArviZ is undergoing a major refactor:FutureWarning"),
]

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
    header = {**HEADER, "theory": json.dumps({**json.loads(HEADER["theory"]), "shape": [32, 32]})}
    with Ensemble.create(tmp_path / "x.h5", header=header, chains=range(4), field=field, store_fields=True) as writer:
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
    written = export(tmp_path / "toy.h5", kind, tmp_path / "kept")
    assert (kept / "thesis.txt").read_text() == "years of work"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([written.name, "kept.tmp", "toy.h5"])


@pytest.mark.parametrize(
    ("given", "written"),
    [("x", "x.json.gz"), ("x.json", "x.json.gz"), ("x.gz", "x.gz"), ("x.v1", "x.v1.json.gz"), ("x.json.gz",) * 2],
)
def test_pyerrors_finds_the_name_that_was_given(given, written, tmp_path, rng):
    import pyerrors

    toy(tmp_path / "toy.h5", rng)
    assert export(tmp_path / "toy.h5", "pyerrors", tmp_path / given) == tmp_path / written
    assert pyerrors.input.json.load_json(str(tmp_path / given), verbose=False)
    with pytest.raises(InputError, match="already exists"):
        export(tmp_path / "toy.h5", "pyerrors", tmp_path / given)
