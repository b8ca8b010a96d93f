"""Series of other codes: columns of text."""

import numpy as np
import pytest
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.interchange.export import export
from lattice_flows.interchange.import_series import import_series, parse_series
from lattice_flows.kernels.random import make_streams
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import Plaquette, TopologicalCharge, sample_u1

QUIET = Console(quiet=True)
THEORY, SHAPE = {"name": "u1", "beta": 2.0}, (4, 4)
NAMES = ["_", "plaquette", "topological_charge", "polyakov"]


@pytest.fixture
def columns(seed):
    """Number, plaquette, charge and a series that is not known here, of two chains, (2, 400, 4)."""
    theta, _ = sample_u1(2.0, *SHAPE, make_streams(seed, "series", range(800)))
    numbers = np.arange(800) % 400
    table = np.stack([numbers, Plaquette()(theta), np.rint(TopologicalCharge()(theta)), np.cos(numbers)], axis=1)
    return table.reshape(2, 400, 4)


def written(path, table, form):
    delimiter, header = {
        "blanks": (" ", ""),
        "commas": (",", "n,plaquette,charge,polyakov\n"),
        "comments": ("\t", "# n\n\n"),
    }[form]
    path.write_text(header + "\n".join(delimiter.join(f"{x:.12g}" for x in row) for row in table) + "\n")
    return path


def imported(paths, out, names=NAMES, console=QUIET, **options):
    import_series(paths, THEORY, SHAPE, names, out, console, StopRequest(), **options)


@pytest.mark.parametrize("form", ["blanks", "commas", "comments"])
def test_columns_become_series(form, columns, tmp_path):
    paths = [written(tmp_path / f"{k}.dat", columns[k], form) for k in range(2)]
    imported(paths, tmp_path / "x.h5")
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        assert (ensemble.n_configs, ensemble.n_chains, ensemble.has_fields) == (400, 2, False)
        assert sorted(ensemble.series_names) == ["plaquette", "polyakov", "topological_charge"]
        for column, name in enumerate(NAMES[1:], 1):
            np.testing.assert_allclose(ensemble.series(name), columns[..., column].T, rtol=1e-11, atol=1e-12)
        assert ensemble.verify()
    rows = analyse_files([tmp_path / "x.h5"]).summary["ensembles"]["x"]["observables"]
    assert abs(rows["plaquette"]["pull"]) < 4.5
    assert abs(rows["topological_charge_squared"]["pull"]) < 4.5
    assert rows["polyakov"]["exact"] is None
    assert export(tmp_path / "x.h5", "npy").is_dir()


def test_what_is_far_off_is_told(columns, tmp_path, capsys):
    path = written(tmp_path / "x.dat", columns[0] * [1, 16, 1, 1], "blanks")  # a sum in place of a mean
    imported([path], tmp_path / "x.h5", console=Console(width=120))
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert "plaquette (+" in line
    assert "another normalisation" in line
    imported([written(tmp_path / "y.dat", columns[0], "blanks")], tmp_path / "y.h5", console=Console(width=120))
    assert "warning" not in capsys.readouterr().out


def test_what_does_not_fit_is_refused(columns, tmp_path):
    path = written(tmp_path / "x.dat", columns[0], "blanks")
    bad = {
        "text": "a b c d\ne f g h\n",
        "torn": "1 2 3 4\n1 2 3\n" * 9,
        "nan": "1 2 3 4\n1 nan 3 4\n" * 9,
        "few": "1 2 3 4\n" * 3,
        "narrow": "1 2 3\n" * 9,
        "empty": "# nothing\n",
    }
    messages = {
        "text": "no columns of numbers",
        "torn": "no columns of numbers",
        "nan": "configuration 1: plaquette is not finite",
        "few": "3 configurations; at least 4",
        "narrow": "has 3 columns, but --series names 4",
        "empty": "no columns of numbers",
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=messages[name]) as caught:
            imported([tmp_path / name], tmp_path / "x.h5")
        assert "\n" not in str(caught.value)
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 99)
    for paths, names, message in (
        ([tmp_path / "bytes"], NAMES, "no columns of numbers"),
        ([tmp_path / "nothing"], NAMES, "No such file"),
        ([tmp_path], NAMES, "Is a directory"),
        ([path, path], NAMES, "is the same as"),
        ([path], ["a", "b", "a", "_"], "names a series twice"),
        ([path], ["_", "_"], "names no series"),
        ([path], ["_", "a b", "c", "d"], "letters, digits"),
    ):
        with pytest.raises(InputError, match=message):
            imported(paths, tmp_path / "x.h5", names)
    assert not (tmp_path / "x.h5").exists()


def test_unequal_series(columns, tmp_path):
    paths = [written(tmp_path / "a.dat", columns[0], "blanks"), written(tmp_path / "b.dat", columns[1, :300], "commas")]
    with pytest.raises(InputError, match=r"b\.dat: configurations 300, but .*a\.dat has 400"):
        imported(paths, tmp_path / "x.h5")
    imported(paths, tmp_path / "x.h5", shorten=True)
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        assert ensemble.series("plaquette").shape == (300, 2)


@pytest.mark.parametrize(
    ("series", "shape", "axes", "message"),
    [
        ("", "4,4", "", "the shape is taken from the arrays"),
        ("plaquette", "4,4", "config,chain", "is for arrays of fields"),
        ("plaquette", "4xy", "", "must be the sides of the lattice"),
    ],
)
def test_options_that_do_not_go_together(series, shape, axes, message):
    with pytest.raises(InputError, match=message):
        parse_series(series, shape, axes)
