"""Fresh runs of the golden cards: the bits of older code, or its values where another machine computes."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from golden.command import done
from golden.files import (
    GOLDEN,
    NAMES,
    copied,
    described,
    ensemble_paths,
    require_same_maker,
    rows,
    table_of,
    with_former_defaults,
)

SAMPLED = [name for name in NAMES if table_of(name)["ensembles"]]
TRAINED = [name for name in NAMES if table_of(name).get("flow_sha256") and name != "interrupted"]

# Of the first values. Networks compute in single precision.
_RTOL, _RTOL_WITH_FLOW = 1e-7, 1e-4


@pytest.fixture(scope="module", params=SAMPLED)
def fresh(request, tmp_path_factory):
    """The card's name, and a new run of it, with the flow of the golden one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param))
        patch.setenv("OMP_NUM_THREADS", "1")
        for path in GOLDEN.glob("*.h5"):
            Path(path.name).write_bytes(path.read_bytes())
        folder = copied(request.param, "ensembles", "evaluation.h5").resolve()
        with_former_defaults(folder / "card.toml")
        (folder / "ensembles").mkdir(exist_ok=True)
        done("sample", folder)
    return request.param, folder


def test_the_bits_are_those_of_older_code(fresh):
    name, folder = fresh
    table = table_of(name)
    require_same_maker(table)
    found = {path.stem: described(path) for path in ensemble_paths(folder)}
    assert _different(table["ensembles"], found) == []


def _different(wanted, found):
    """ENSEMBLE: GROUP/DATASET of what is not equal or not there. There may be more: series that came later."""
    assert wanted.keys() <= found.keys()
    return [
        f"{name}: {path}"
        for name, datasets in wanted.items()
        for path in datasets
        if datasets[path] != found[name].get(path)
    ]


def test_the_first_values_are_those_of_older_code(fresh):
    """What can be said on any machine."""
    name, folder = fresh
    for ensemble, datasets in table_of(name)["ensembles"].items():
        path = folder / "ensembles" / f"{ensemble}.h5"
        with h5py.File(path) as file:
            rtol = _RTOL_WITH_FLOW if file.attrs["flow_sha256"] else _RTOL
        found = rows(path)
        for where, wanted in datasets.items():
            if where == "state":
                continue
            values = found[where]
            assert (values.dtype.name, list(values.shape)) == (wanted["dtype"], wanted["shape"]), (ensemble, where)
            first = values.ravel()[: len(wanted["first"])]
            np.testing.assert_allclose(first, wanted["first"], rtol, 0.1 * rtol, err_msg=f"{ensemble}: {where}")


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_is_that_of_older_code(name):
    golden = GOLDEN / "runs" / name
    card = copied(name, "flow", "ensembles") / "card.toml"
    with_former_defaults(card)
    done("train", card, "--out", "fresh")
    if (golden / "flow" / "history.csv").exists():
        first, wanted = _first_look(Path("fresh")), _first_look(golden)
        assert first.keys() >= wanted.keys()
        for key in ("step", "loss", "ess", "log_z_bound"):
            assert float(first[key]) == pytest.approx(float(wanted[key]), rel=1e-3), key
    table = table_of(name)
    require_same_maker(table)
    assert table["flow_sha256"] in done("info", Path("fresh", "flow", "checkpoint.pt"))


def _first_look(folder):
    with (folder / "flow" / "history.csv").open() as file:
        return next(csv.DictReader(file))
