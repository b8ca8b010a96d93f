"""Free energy profiles of ensemble files, by the command."""

import itertools
import json

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss

from lattice_flows.ensembles import Ensemble

CARD = """
seed = 11
[theory]
name = "double_well"
scale = 0.3

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 4
n_configs = 6000
n_updates = 2
n_thermalisation = 50
store_fields = false
"""
JOINED = """
seed = 12
[theory]
name = "phi4"
shape = [2, 2]
m2 = -2.0
lam = 1.0

[[ensemble]]
name = "windows"
sampler = "umbrella"
q_max = 1.0
n_windows = 4
spring = 20.0
n_chains = 4
n_configs = 2500
n_thermalisation = 50
store_fields = false

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 8
n_configs = 1500
n_thermalisation = 50
store_fields = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from rich.console import Console

    from lattice_flows.stages import sample_stage

    folder = tmp_path_factory.mktemp("profiles")
    for name, text in (("well", CARD), ("windows", JOINED)):
        (folder / f"{name}.toml").write_text(text)
        sample_stage(folder / f"{name}.toml", folder / name, [], [], Console(quiet=True))
    return folder


def exact(edges, scale):
    """F of x in the double well, by quadrature."""
    nodes, weights = leggauss(40)

    def integral(a, b):
        x = 0.5 * (a + b) + 0.5 * (b - a) * nodes
        return 0.5 * (b - a) * weights @ np.exp(-scale * (x**4 - 6 * x**2 - 0.5 * x))

    parts = np.array([integral(a, b) for a, b in itertools.pairwise(edges)])
    whole = sum(integral(0.25 * k, 0.25 * (k + 1)) for k in range(-20, 20))
    return -np.log(parts / whole / np.diff(edges))


def test_the_double_well_has_its_profile(folder, lattice_flows, tmp_path):
    file, target, figure = folder / "well" / "ensembles" / "hmc.h5", tmp_path / "p.json", tmp_path / "p.svg"
    arguments = "--series", "coordinate_0", "--bins", "12", "--range", "-3", "3"
    status, out, errors = lattice_flows("profile", file, *arguments, "--json", target, "--svg", figure)
    assert (status, errors) == (0, "")
    assert "F = -log p of coordinate_0" in out
    assert b"atplotlib" in figure.read_bytes()
    held = json.loads(target.read_text())
    edges, found = np.array(held["edges"]), held["profiles"]["hmc"]
    assert held["theory"] == {"name": "double_well", "scale": 0.3}
    values, errors = (np.array(found[key], dtype=float) for key in ("free_energy", "error"))
    pulls = ((values - exact(edges, 0.3)) / errors)[1:-1]  # the outer ones are hardly visited
    assert np.abs(pulls).max() < 4.5
    assert np.abs((values - exact(edges, 0.35)) / errors)[1:-1].max() > 5
    assert lattice_flows("profile", file, *arguments, "--json", target, "--svg", figure)[0] == 0


def test_all_that_was_visited_is_the_range(folder, lattice_flows, tmp_path):
    file, target = folder / "well" / "ensembles" / "hmc.h5", tmp_path / "p.json"
    status, *_ = lattice_flows("profile", file, "--series", "potential", "--every", "3", "--json", target)
    held = json.loads(target.read_text())
    with Ensemble.open(file) as ensemble:
        values = ensemble.series("potential")[::3]
    assert status == 0
    assert len(held["edges"]) == 41
    assert held["edges"][0] == values.min()
    weights = np.exp([-np.inf if f is None else -f for f in held["profiles"]["hmc"]["free_energy"]])
    assert weights @ np.diff(held["edges"]) == pytest.approx(1.0, abs=1e-9)


def test_windows_are_joined(folder, lattice_flows, tmp_path):
    """Beside the plain chain of the same theory, in units of both errors."""
    files, target = (
        [folder / "windows" / "ensembles" / f"{name}.h5" for name in ("windows", "hmc")],
        tmp_path / "p.json",
    )
    arguments = "--series", "magnetisation", "--bins", "8", "--range", "-1", "1", "--json", target
    status, _, errors = lattice_flows("profile", *files, *arguments)
    assert (status, errors) == (0, "")
    one, other = json.loads(target.read_text())["profiles"].values()
    difference = np.subtract(one["free_energy"], other["free_energy"])
    assert np.abs(difference / np.hypot(one["error"], other["error"])).max() < 4.5
    with Ensemble.open(files[0]) as ensemble:  # the chains as they are have another distribution
        counts = np.histogram(ensemble.series("magnetisation"), np.linspace(-1, 1, 9))[0]
    biased = -np.log(counts / counts.sum() / 0.25)
    assert np.abs((biased - other["free_energy"]) / np.hypot(one["error"], other["error"])).max() > 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--series", "nothing"], "--series nothing: not measured in hmc; available: "),
        (["--series", "potential", "--bins", "0"], "--bins 0: must be between 1 and 10000"),
        (["--series", "potential", "--range", "2", "1"], "--range 2 1: must be two finite ascending numbers"),
        (["--series", "potential", "--range", "-1e308", "1e308"], "must be two finite ascending numbers"),
        (["--series", "potential", "--range", "1", "1.0000000000000002"], "40 bins do not fit between 1 and 1"),
        (["--series", "potential", "--svg", "x.png"], "must be the name of an SVG file"),
        (["--series", "potential", "--json", "x.h5"], "x.h5: is the name of an ensemble"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, text, folder, lattice_flows):
    status, _, errors = lattice_flows("profile", folder / "well" / "ensembles" / "hmc.h5", *arguments)
    assert status == 2
    assert text in errors
    assert errors.count("\n") == 1
