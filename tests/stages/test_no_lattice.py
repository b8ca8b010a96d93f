"""A theory without a lattice from its card to the report, and back from what others make of its files."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from cards import assert_same_ensemble

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.report.figure_script import lattice
from lattice_flows.report.page_tables import title
from lattice_flows.theories import DoubleWell, MuellerBrown

CARD = """
seed = 4
[theory]
name = "double_well"
scale = 0.5

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 2000
n_updates = 8

[[ensemble]]
name = "ladder"
sampler = "tempering"
coupling = "scale"
last = 0.1
n_replicas = 3
replica = {sampler = "hmc"}
n_configs = 1000

[[observable]]
name = "basin"
every = 2
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was made longer after its end."""
    from rich.console import Console

    from lattice_flows.stages import run

    folder = tmp_path_factory.mktemp("flat")
    card = folder / "card.toml"
    card.write_text(CARD)
    quiet = Console(quiet=True)
    run(card, folder / "run", ["ensemble.hmc.n_configs=300"], quiet)
    return folder / "run", run(card, folder / "run", [], quiet)


def test_every_number_agrees_with_the_closed_form(finished):
    folder, summary = finished
    assert summary["theory"] == {"name": "double_well", "scale": 0.5}
    for ensemble in summary["ensembles"].values():
        rows = ensemble["observables"]
        assert set(rows) == {"mean_x", "mean_y", "potential", "basin_probability"}
        assert max(abs(row["pull"]) for row in rows.values()) < 4.5
    page = (folder / "report" / "index.html").read_text()
    assert "<h1>double well, scale = 0.5</h1>" in page
    assert json.loads((folder / "report" / "summary.json").read_text()) == summary


def test_a_run_in_two_parts_has_the_bits_of_one(finished, tmp_path, card, lattice_flows):
    assert lattice_flows("sample", card(CARD), "--ensemble", "hmc", "--out", "whole")[0] == 0
    assert_same_ensemble(tmp_path / "whole" / "ensembles" / "hmc.h5", finished[0] / "ensembles" / "hmc.h5")


def test_the_file_has_no_shape_of_a_lattice(finished, lattice_flows):
    path = finished[0] / "ensembles" / "hmc.h5"
    with Ensemble.open(path) as ensemble:
        assert ensemble.attributes["shape"] == ()
        assert json.loads(ensemble.attributes["theory"]) == {"name": "double_well", "scale": 0.5}
        assert (ensemble.field.name, ensemble.field.dims, ensemble.field.shape) == ("x", ("coordinate",), (2,))
        assert ensemble.every("basin") == 2
    assert "shape                ()" in lattice_flows("info", path)[1]
    assert lattice_flows("verify", path)[0] == 0
    assert "/run: double_well, scale = 0.5" in lattice_flows("watch", finished[0], "--once")[1]
    status, out, _ = lattice_flows("analyse", path, "--reweight", "scale=0.6", "--report", "again")
    assert status == 0
    assert "reweighted from scale = 0.5 to 0.6" in out


def test_job_scripts_of_a_theory_without_a_lattice(card, lattice_flows):
    card('scheduler = "slurm"\n', "profile.toml")
    status, out, errors = lattice_flows("submit", card(CARD), "--cluster", "profile.toml", "--dry-run", "--out", "jobs")
    assert status == 0, errors
    assert "sample-ladder.jobs" in out


@pytest.mark.filterwarnings("ignore:`scipy.odr` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:\\s*ArviZ is undergoing a major refactor:FutureWarning")
def test_exported_and_imported_again(finished, tmp_path, lattice_flows):
    path = finished[0] / "ensembles" / "hmc.h5"
    for kind in ("netcdf", "pyerrors", "arviz"):
        assert lattice_flows("export", path, "--to", kind, "--out", f"of_{kind}")[0] == 0
    assert lattice_flows("export", path, "--to", "npy", "--out", "arrays")[0] == 0
    import xarray

    with xarray.open_dataset(tmp_path / "of_netcdf", engine="h5netcdf") as dataset:
        assert dataset["x"].dims == ("config", "chain", "coordinate")
        assert dataset.attrs["shape"].size == 0
    again = "import", "arrays/fields.npy", "--out", "again.h5", "--theory", "double_well", "--coupling", "scale=0.5"
    status, _, errors = lattice_flows(*again)
    assert status == 0, errors
    with Ensemble.open(path) as one, Ensemble.open(tmp_path / "again.h5") as other:
        np.testing.assert_array_equal(one.configs(0, 2000), other.configs(0, 2000))
        for name in ("action", "coordinate_0", "potential"):
            np.testing.assert_array_equal(one.series(name), other.series(name))
        assert json.loads(other.attributes["imported_axes"]) == [["config", "chain", "coordinate"]]


def points(rng):
    return rng.uniform(-0.5, 0.5, (10, 3, 2))


def outside(rng):
    x = points(rng)
    x[4, 1, 0] = 1.5
    return x


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (lambda rng: points(rng)[..., :1], "has the shape (10, 3, 1); it should be (config, [chain,] 2)"),
        (lambda rng: points(rng)[0, 0], "has the shape (2,)"),
        (lambda rng: points(rng) + 0j, "holds complex128; give numbers in [-1.8, 1.4] and numbers in [-0.8, 2.4] as"),
        (lambda rng: np.where(points(rng) > 0.4, np.nan, 0.0), "holds a number that is not finite"),
        (outside, "configuration 4, chain 1: 1.5 is outside [-1.8, 1.4]"),
    ],
)
def test_arrays_that_are_no_points_are_refused(array, message, tmp_path, rng, lattice_flows):
    np.save(tmp_path / "x.npy", array(rng))
    status, _, errors = lattice_flows("import", "x.npy", "--out", "x.h5", "--theory", "mueller_brown")
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_points_in_single_precision_stay_between_the_walls(tmp_path, rng, lattice_flows):
    x = points(rng).astype(np.float32)
    x[0, 0], x[1, 0] = (1.4, 2.4), (-1.8, -0.8)  # of which two are rounded to the outside
    np.save(tmp_path / "x.npy", x)
    assert lattice_flows("import", "x.npy", "--out", "x.h5", "--theory", "mueller_brown")[0] == 0
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        assert np.isfinite(ensemble.series("action")).all()
        np.testing.assert_allclose(ensemble.configs(0, 10), x, atol=1e-6)


@pytest.mark.parametrize(("name", "action"), [("double_well", DoubleWell()), ("mueller_brown", MuellerBrown())])
def test_exact_prints_the_numbers_of_any_theory(name, action, lattice_flows):
    exact = action.closed_forms(())
    status, out, _ = lattice_flows("exact", name, "--json")
    assert status == 0
    assert json.loads(out) == vars(exact)
    assert f"log_z                          {exact.log_z:.12g}" in lattice_flows("exact", name)[1]
    other = lattice_flows("exact", name, "--coupling", "scale=0.3", "--json")[1]
    assert json.loads(other)["log_z"] != exact.log_z


def test_a_coupling_may_be_an_integer(lattice_flows):
    _, out, _ = lattice_flows("exact", "many_well", "--coupling", "n_wells=3", "--json")
    assert json.loads(out)["log_z"] == pytest.approx(3.0 * DoubleWell().closed_forms(()).log_z, rel=1e-12)
    status, _, errors = lattice_flows("exact", "many_well", "--coupling", "n_wells=3.0")
    assert (status, errors.count("\n")) == (2, 1)
    assert "n_wells = 3.0: input should be a valid integer" in errors


def test_exact_of_a_free_field_on_its_lattice(lattice_flows):
    out = lattice_flows("exact", "phi4", "--shape", "4", "4", "--coupling", "m2=1", "--coupling", "lam=0", "--json")[1]
    values = json.loads(out)
    assert (values["susceptibility"], values["action"]) == (0.5, 8.0)
    assert "propagator" not in values
    for shape in ([6], [2, 3, 4], [2, 2, 2, 2]):
        arguments = [*map(str, shape), "--coupling", "m2=1", "--coupling", "lam=0", "--json"]
        values = json.loads(lattice_flows("exact", "phi4", "--shape", *arguments)[1])
        assert (values["susceptibility"], values["action"]) == (0.5, math.prod(shape) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("double_well --shape 4 4", "--shape: double_well has no lattice; leave it out"),
        ("double_well --beta 1", "exact: unknown key 'beta'; available: scale"),
        ("double_well --coupling scale=-1", "exact: scale must be above 0 and at most 10, got -1.0"),
        ("u1 --beta 1", "exact: u1 needs a lattice, such as --shape 16 16"),
        ("u1 --beta 1 --shape 4 4 4", "--shape 4 4 4: u1 is defined in 2 dimensions"),
        ("phi4 --coupling m2=1 --coupling lam=0", "phi4 needs a lattice, such as --shape 16"),
        ("phi4 --shape 4 4 4 x", "Invalid value"),
        ("u1 --shape 4 4", "exact: u1 needs --beta X"),
        ("phi4 --shape 4 4 --coupling m2=1 --coupling lam=1", "no closed forms for 'phi4' at these couplings"),
    ],
)
def test_what_has_no_closed_form_is_told_in_one_line(arguments, message, lattice_flows):
    status, _, errors = lattice_flows("exact", *arguments.split())
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


BAD = [
    ('[theory]\nname = "double_well"\nshape = [4, 4]', "[theory]: shape: double_well has no lattice; leave it out"),
    (
        '[theory]\nname = "mueller_brown"\nboundary = "periodic"',
        "[theory]: boundary: mueller_brown has no lattice; leave it out",
    ),
    ('[theory]\nname = "double_well"\nscal = 1.0', "[theory]: unknown key 'scal'; did you mean 'scale'?"),
    ('[theory]\nname = "double_well"\nscale = 0.0', "[theory]: scale must be above 0 and at most 10, got 0.0"),
    (CARD.replace('coupling = "scale"', 'coupling = "m2"'), "coupling must be one of scale, got 'm2'"),
    (CARD.replace('sampler = "hmc"\nn_configs', 'sampler = "metropolis"\nn_configs'), "no local updates of DoubleWell"),
    (CARD.replace('sampler = "hmc"\nn_configs', 'sampler = "instanton"\nn_configs'), "[[ensemble]] hmc: "),
    (CARD.replace('name = "basin"', 'name = "plaquette"'), "is not an observable of double_well; available: basin, "),
    (CARD.replace('name = "basin"', 'name = "coordinate"\naxis = 2'), "axis must be 0 or 1, got 2"),
    (CARD.replace("every = 2", "flow_time = 1.0"), "flow_time: the gradient flow is for gauge fields"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_cards_that_want_a_lattice_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_titles_without_a_lattice():
    theory = {"name": "mueller_brown", "scale": 0.1}
    assert title(theory) == "Müller–Brown potential, scale = 0.1"
    assert lattice(SimpleNamespace(lattice_shape=())) == ""
