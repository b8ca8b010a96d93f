"""xarray opens a file as it is: the root, each group, the whole as a tree, joined or segment, with named axes."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from ensembles.toy_chain import CHAINS, HEADER, run, start, write

pytestmark = pytest.mark.quick

CONFIG_AXES = {
    "series/action": ("config", "chain"),
    "series/topological_charge": ("config", "chain"),
    "series/wilson_loop": ("config_every_3", "chain"),
    "fields/theta": ("config", "chain", "mu", "x0", "x1"),
    "proposals/log_w": ("proposal", "chain"),
    "state/links": ("length_3", "length_2", "length_4", "length_4_2"),
    "state/generator/spare": ("length_2",),
    "state/generator/counter": (),
}


@pytest.fixture(scope="module", params=["joined", "segment"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xarray") / "e.h5"
    joined = request.param == "joined"
    write(path, (12,), finish=joined)
    return path if joined else path.with_suffix(".segments") / "000000.h5"


def test_every_axis_has_a_scale(path: Path) -> None:
    with h5py.File(path) as file:
        for name, axes in CONFIG_AXES.items():
            assert tuple(dim[0].name.rpartition("/")[2] for dim in file[name].dims) == axes


def test_root(path: Path) -> None:
    with xarray.open_dataset(path, engine="h5netcdf") as root:
        assert not root.data_vars
        assert {name: root.attrs[name] for name in HEADER} == HEADER
        np.testing.assert_array_equal(root["config"], np.arange(12))
        np.testing.assert_array_equal(root["chain"], CHAINS)
        np.testing.assert_array_equal(root["config_every_3"], [0, 3, 6, 9])
        np.testing.assert_array_equal(root["proposal"], np.arange(12))
        np.testing.assert_array_equal(root["x1"], np.arange(4))


def test_each_group(path: Path) -> None:
    for name, axes in CONFIG_AXES.items():
        group, _, variable = name.rpartition("/")
        with xarray.open_dataset(path, engine="h5netcdf", group=group) as dataset:
            assert dataset[variable].load().dims == axes


def test_tree(path: Path) -> None:
    block, state = run(start(), 0, 12)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        for name, axes in CONFIG_AXES.items():
            assert tree[name].load().dims == axes
        theta = tree["fields/theta"]
        np.testing.assert_array_equal(theta.sel(chain=3, config=7, mu=1), block.fields[7, 1, 1])
        np.testing.assert_array_equal(tree["series/wilson_loop"].sel(config_every_3=6), block.series["wilson_loop"][2])
        assert tree["state/generator/counter"].dtype == np.uint64
        assert tree["state/generator/spare"].dtype == bool
        np.testing.assert_array_equal(tree["state/links"], state["links"])


def test_empty_series(tmp_path: Path) -> None:
    write(tmp_path / "e.h5", (0, 1))
    with xarray.open_datatree(tmp_path / "e.h5", engine="h5netcdf") as tree:
        assert tree["series/wilson_loop"].shape == (1, 3)
        assert tree["proposals/log_w"].shape == (0, 3)
