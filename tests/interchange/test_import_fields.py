"""Fields that another code made, in files of ours."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from cards import CLASSICAL, assert_same_ensemble
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.interchange.export import export
from lattice_flows.interchange.import_fields import import_fields
from lattice_flows.interchange.imported import Portions
from lattice_flows.kernels.random import make_streams
from lattice_flows.stages import sample_stage
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories import sample_u1

THEORY = {"name": "u1", "beta": 1.5}
QUIET = Console(quiet=True)
SHAPE = (4, 6)


def angles(rng, n=20, chains=3):
    return rng.uniform(-np.pi, np.pi, (n, chains, 2, *SHAPE))


def save(path, array):
    np.save(path, array)
    return path


def imported(paths, out, **options):
    import_fields(paths, THEORY, out, QUIET, StopRequest(), **options)
    with Ensemble.open(out) as ensemble:
        return ensemble.configs(0, ensemble.n_configs)


def test_round_trip_of_a_run(tmp_path, card):
    """What we export and import again is the same to the last bit, and so is its analysis."""
    sample_stage(card(CLASSICAL), tmp_path / "run", ["ensemble.hmc.n_configs=200"], ["hmc"], QUIET)
    made, again = tmp_path / "run" / "ensembles" / "hmc.h5", tmp_path / "hmc.h5"
    folder = export(made, "npy", tmp_path / "arrays")
    import_fields([folder / "fields.npy"], THEORY, again, QUIET, StopRequest())
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


@pytest.mark.parametrize(
    "axes", ["", "config,chain,x0,x1,mu", "chain,config,mu,x0,x1", "mu,x1,chain,x0,config", "x0,config,x1,chain,mu"]
)
def test_one_file_or_one_per_chain_in_any_order_of_axes(axes, tmp_path, rng):
    links, own = angles(rng), ("config", "chain", "mu", "x0", "x1")
    order = axes.split(",") if axes else own
    stored = links.transpose([own.index(axis) for axis in order])
    together = [save(tmp_path / "all.npy", stored)]
    apart = [save(tmp_path / f"{k}.npy", np.take(stored, k, axis=order.index("chain"))) for k in range(3)]
    without_chain = ",".join(axis for axis in order if axis != "chain") if axes else ""
    for out, paths, given in ((tmp_path / "one.h5", together, axes), (tmp_path / "many.h5", apart, without_chain)):
        np.testing.assert_array_equal(imported(paths, out, axes=given), links)
    assert_same_ensemble(tmp_path / "one.h5", tmp_path / "many.h5")
    with Ensemble.open(tmp_path / "many.h5") as ensemble:
        files = json.loads(ensemble.attributes["imported_from"])
        assert [file["name"] for file in files] == ["0.npy", "1.npy", "2.npy"]
        assert json.loads(ensemble.attributes["imported_axes"]) == [[axis for axis in order if axis != "chain"]]
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
    import_fields([file], THEORY, tmp_path / "x.h5", Console(width=120), StopRequest())
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
        (lambda rng: np.moveaxis(angles(rng), -3, -1), "try --axes config,chain,x0,x1,mu"),
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
    with pytest.raises(InputError, match=r"not an \.npy file of numbers|cannot be read"):
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


def test_second_array_in_the_file(tmp_path, rng):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        for _ in range(2):
            np.save(file, angles(rng, 20, 3))
    n_more = path.stat().st_size // 2
    with pytest.raises(InputError, match=rf"x\.npy: {n_more} bytes follow its array; give files of one array each"):
        imported([path], tmp_path / "x.h5")


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
        ({"name": "u1"}, "give --coupling beta=X"),
        ({"name": "u1", "beta": 1.0, "betta": 2.0}, "did you mean 'beta'"),
        (
            {"name": "phi4", "m2": 1.0, "lam": 1.0},
            "phi4 lives in 1 to 4 dimensions; say in how many by the axes",
        ),
        ({"name": "nonsense"}, "unknown name 'nonsense'"),
        ({"name": "u1", "beta": 2.0, "shape": [4, 6]}, "leave it out"),
    ],
)
def test_refused_theories(theory, message, tmp_path, rng):
    file = save(tmp_path / "x.npy", angles(rng))
    with pytest.raises(InputError, match=message):
        import_fields([file], theory, tmp_path / "x.h5", QUIET, StopRequest())


def test_a_scalar_field_of_another_code(tmp_path, rng):
    """Its dimension says which axis counts the chains."""
    theory, phi = {"name": "phi4", "m2": 1.0, "lam": 1.0}, rng.normal(size=(20, 4, 3, 5))
    for axes, shape in (("config,chain,x0,x1", (20, 4, 3, 5)), ("config,x0,x1,x2", (20, 1, 4, 3, 5))):
        out = tmp_path / f"{len(shape)}.h5"
        import_fields([save(tmp_path / "x.npy", phi)], theory, out, QUIET, StopRequest(), axes)
        with Ensemble.open(out) as ensemble:
            np.testing.assert_array_equal(ensemble.configs(0, 20), phi.reshape(shape))
    for bad, message in (
        (phi.astype(int), "give real numbers as real floats"),
        (np.where(phi > 2, np.inf, phi), "finite"),
    ):
        file = save(tmp_path / "bad.npy", bad)
        with pytest.raises(InputError, match=message):
            import_fields([file], theory, tmp_path / "bad.h5", QUIET, StopRequest(), "config,chain,x0,x1")


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
        import_fields([file, save(tmp_path / "y.npy", angles(rng))], THEORY, tmp_path / "x.h5", QUIET, AfterSomeLooks())
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.npy", "y.npy"}
