"""Arrays of other codes in any kind of file, read in pieces."""

import hashlib
import json
import os
import zipfile
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.interchange.arrays import open_array
from lattice_flows.interchange.import_fields import import_fields
from lattice_flows.terminal.interrupt import StopRequest

QUIET = Console(quiet=True)
SHAPE = (4, 6)


@pytest.fixture
def links(rng):
    """(config, chain, mu, x0, x1)"""
    return rng.uniform(-np.pi, np.pi, (20, 3, 2, *SHAPE))


def imported(paths, out, axes="", **options):
    import_fields(
        [Path(path) for path in paths], {"name": "u1", "beta": 0.5}, out, QUIET, StopRequest(), axes, **options
    )
    with Ensemble.open(out) as ensemble:
        return ensemble.configs(0, ensemble.n_configs)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(save, order, links, tmp_path):
    held = np.asarray(links, order=order)
    save(tmp_path / "one.npz", theta=held)
    save(tmp_path / "two.npz", theta=held, plaquette=np.ones(20))
    for k, source in enumerate((tmp_path / "one.npz", f"{tmp_path}/one.npz:theta", f"{tmp_path}/two.npz:theta")):
        np.testing.assert_array_equal(imported([source], tmp_path / f"{k}.h5"), links)
    with pytest.raises(InputError, match=r"two\.npz: holds theta, plaquette; say which, as .*two\.npz:theta"):
        imported([tmp_path / "two.npz"], tmp_path / "x.h5")
    with pytest.raises(InputError, match=r"two\.npz: holds no array 'phi'; it holds theta, plaquette"):
        imported([f"{tmp_path}/two.npz:phi"], tmp_path / "x.h5")
    assert {entry.suffix for entry in tmp_path.iterdir()} == {".h5", ".npz"}


@pytest.mark.parametrize("options", [{}, {"chunks": (3, 1, 2, 4, 6), "compression": "gzip"}])
def test_hdf5(options, links, tmp_path):
    file = tmp_path / "run.hdf5"
    with h5py.File(file, "w") as held:
        held.create_dataset("gauge/links", data=links, **options)
    np.testing.assert_array_equal(imported([file], tmp_path / "a.h5"), links)
    np.testing.assert_array_equal(imported([f"{file}:/gauge/links"], tmp_path / "b.h5"), links)
    with Ensemble.open(tmp_path / "b.h5") as ensemble:
        assert json.loads(ensemble.attributes["imported_from"])[0]["name"] == "run.hdf5:/gauge/links"
    with h5py.File(file, "a") as held:
        held["plaquette"] = np.ones(20)
        held["complex"] = np.exp(1j * np.moveaxis(links[:, 0], 1, -1))
    with pytest.raises(InputError, match=r"holds /complex, /gauge/links, /plaquette; say which, as .*:/complex"):
        imported([file], tmp_path / "x.h5")
    for name in ("/gauge", "/nothing"):
        with pytest.raises(InputError, match=f"holds no dataset '{name}'"):
            imported([f"{file}:{name}"], tmp_path / "x.h5")
    found = imported([f"{file}:/complex"], tmp_path / "c.h5", "config,x0,x1,mu")
    np.testing.assert_allclose(found[:, 0], links[:, 0], atol=1e-14)


def test_fields_of_an_ensemble_file(links, tmp_path):
    np.save(tmp_path / "x.npy", links)
    imported([tmp_path / "x.npy"], tmp_path / "x.h5")
    np.testing.assert_array_equal(imported([f"{tmp_path}/x.h5:/fields/theta"], tmp_path / "y.h5"), links)


@pytest.mark.parametrize("as_pattern", [True, False])
def test_one_configuration_per_file(as_pattern, links, tmp_path):
    """In natural order: conf.9 comes before conf.10."""
    for k, configuration in enumerate(links[:, 0]):
        np.save(tmp_path / f"conf.{k}.npy", np.moveaxis(configuration, 0, -1))
    paths = [tmp_path / "conf.*.npy"] if as_pattern else sorted(tmp_path.glob("conf.*.npy"))
    np.testing.assert_array_equal(imported(paths, tmp_path / "x.h5", "x0,x1,mu")[:, 0], links[:, 0])
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        [origin] = json.loads(ensemble.attributes["imported_from"])
    whole = b"".join((tmp_path / f"conf.{k}.npy").read_bytes() for k in range(len(links)))
    assert origin == {"name": "conf.0.npy ... conf.19.npy", "sha256": hashlib.sha256(whole).hexdigest()}
    with pytest.raises(InputError, match=r"; it should be \(config, \[chain,\] 2, L0, L1\)"):
        imported(paths, tmp_path / "y.h5")
    np.save(tmp_path / "conf.7.npy", np.full((4, 6, 2), np.nan))
    with pytest.raises(InputError, match=r"conf\.7\.npy: holds an angle that is not a number"):
        imported(paths, tmp_path / "y.h5", "x0,x1,mu")
    np.save(tmp_path / "conf.7.npy", np.zeros((4, 5, 2)))
    with pytest.raises(InputError, match=r"conf\.7\.npy: holds float64 of the shape \(4, 5, 2\), but .*all configur"):
        imported(paths, tmp_path / "y.h5", "x0,x1,mu")


def test_one_configuration_of_all_chains_per_file(links, tmp_path):
    for k, configuration in enumerate(links):
        np.savez(tmp_path / f"{k}.npz", configuration)
    np.testing.assert_array_equal(imported([tmp_path / "*.npz"], tmp_path / "x.h5", "chain,mu,x0,x1"), links)


def test_the_usual_axes_are_named_where_a_file_is_one_configuration(links, tmp_path):
    np.save(tmp_path / "x.npy", links[0, 0])
    with pytest.raises(InputError, match=r"for files of one configuration each give --axes mu,x0,x1$"):
        imported([tmp_path / "x.npy"], tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("config,chain,mu,x0", "should name mu, x0, x1 in the order of the array.*wrong or missing: x1"),
        ("config,chain,mu,x0,x1,x2", "wrong or missing: x2"),
        ("config,chain,nu,x0,x1", "wrong or missing: mu, nu"),
        ("config,mu,mu,x0,x1", "names mu twice"),
        ("config,chain,,mu,x0,x1", "wrong or missing"),
        ("config,mu,x0,x1", r"has the shape \(20, 3, 2, 4, 6\); it should be \(config, 2, L0, L1\)"),
        ("config,chain,x0,x1,mu", r"it should be \(config, chain, L0, L1, 2\)"),
    ],
)
def test_refused_axes(axes, message, links, tmp_path):
    np.save(tmp_path / "x.npy", links)
    with pytest.raises(InputError, match=message) as caught:
        imported([tmp_path / "x.npy"], tmp_path / "x.h5", axes)
    assert "\n" not in str(caught.value)


def broken(path, links):
    """Files that hold no array, and what is said of them."""
    np.savez(path / "torn.npz", links)
    whole = (path / "torn.npz").read_bytes()
    (path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (path / "flipped.npz").write_bytes(flipped)
    with zipfile.ZipFile(path / "text.npz", "w") as archive:
        archive.writestr("a.txt", "text")
    with zipfile.ZipFile(path / "no.npz", "w") as archive:
        archive.writestr("a.npy", "text")
    with h5py.File(path / "torn.h5", "w") as held:
        held["x"] = links
    content = (path / "torn.h5").read_bytes()
    (path / "torn.h5").write_bytes(content[: len(content) // 2])
    with h5py.File(path / "empty.h5", "w") as held:
        held.create_group("a")
    with h5py.File(path / "words.h5", "w") as held:
        held["x"] = ["a", "b"]
    (path / "text.dat").write_text("0.1 0.2\n")
    os.mkfifo(path / "fifo.npy")
    (path / "folder.npy").mkdir()
    return {
        "torn.npz": "cannot be read",
        "flipped.npz": "cannot be read .*CRC",
        "text.npz": "holds no array",
        "no.npz": "cannot be read",
        "torn.h5": "cannot be read",
        "empty.h5": "holds no array",
        "words.h5": "holds object",
        "text.dat": "not an .npy file",
        "fifo.npy": "is a pipe, not a file",
        "folder.npy": "Is a directory",
        "nothing.npy": "No such file",
        "*.nothing": "no file matches",
        "text.dat:/a": "is neither an HDF5 file nor an .npz archive",
    }


def test_broken_files(links, tmp_path):
    (tmp_path / "files").mkdir()
    for name, message in broken(tmp_path / "files", links).items():
        with pytest.raises(InputError, match=message) as caught:
            imported([tmp_path / "files" / name], tmp_path / "x.h5")
        assert "\n" not in str(caught.value)
        assert name.partition(":")[0] in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["files"]


def test_slices_are_read_and_not_the_whole(tmp_path):
    """A file that claims 80 GB opens at once, and gives a piece of it."""
    with h5py.File(tmp_path / "big.h5", "w") as held:
        held.create_dataset("x", (10**6, 100, 100), "f8", chunks=(1, 100, 100))
    with ExitStack() as stack:
        array = open_array(tmp_path / "big.h5", stack)
        assert array[slice(7, 9), slice(None), slice(None)].shape == (2, 100, 100)


def test_the_command(links, tmp_path, lattice_flows):
    np.savez(tmp_path / "x.npz", links=links.swapaxes(0, 1))
    options = "--axes", "chain,config,mu,x0,x1", "--coupling", "beta=0.5"
    status, out, errors = lattice_flows("import", "x.npz:links", "--out", "x.h5", *options)
    assert (status, errors) == (0, "")
    assert "20 configurations x 3 chains" in out
    (tmp_path / "run.dat").write_text("".join(f"{k} {0.2 + 0.1 * np.sin(k)}\n" for k in range(50)))
    options = "--series", "_,plaquette", "--shape", "4,6", "--coupling", "beta=0.5"
    status, out, errors = lattice_flows("import", "run.dat", "--out", "A/run.h5", *options)
    assert (status, errors) == (0, "")
    assert "50 configurations x 1 chains of plaquette; no fields" in out
    (tmp_path / "more.dat").write_text("".join(f"{k} {0.2 + 0.1 * np.cos(k)}\n" for k in range(40)))
    assert lattice_flows("import", "more.dat", "--out", "B/run.h5", *options)[0] == 0
    status, out, errors = lattice_flows("analyse", "A/run.h5", "B/run.h5")
    assert (status, errors) == (0, "")
    assert "run: 2 files, their chains together: A/run.h5, B/run.h5" in out
    status, _, errors = lattice_flows("import", "run.dat", "--out", "c.h5", "--coupling", "beta=0.5")
    assert (status, errors.count("\n")) == (2, 1)
