"""Classes of other packages: entry points need no permission, names MODULE:CLASS do, and in files import nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.card.plugins import plugins
from lattice_flows.errors import InputError
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories import THEORIES

MODULE = '''
"""A theory, an observable and a sampler of somebody else."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import REAL
from lattice_flows.samplers import RandomWalk
from lattice_flows.theories import Action, Observable, Quantity, Term


@dataclass(frozen=True)
class Square(Observable):
    """The mean of x^2."""

    kind: ClassVar[str] = "square"
    action: Action
    name = "square"

    def __call__(self, x):
        return self.action.stiffness * (x**2).mean(axis=1)

    def quantities(self, lattice_shape):
        return (Quantity("square", (Term("square"),), exact=lambda oracle: 1.0),)


@dataclass(frozen=True)
class Oscillators(Action):
    """S = stiffness / 2 sum x^2."""

    stiffness: float
    space = REAL
    dimensions: ClassVar[range] = range(1, 2)

    def field(self, lattice_shape):
        return FieldSpec("x", ("x0",), lattice_shape)

    def observables(self, lattice_shape):
        return (Square(self),)

    named_observables: ClassVar[dict] = {"square": Square}

    def closed_forms(self, lattice_shape):
        return object()

    def __call__(self, x):
        return 0.5 * self.stiffness * (x * x).sum(1)


class Walk(RandomWalk):
    """A random walk of somebody else."""
'''
CARD = """
[theory]
name = "{theory}"
shape = [4]
stiffness = 2.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 4
n_configs = 200
[[ensemble]]
name = "walk"
sampler = "{sampler}"
width = 0.5
n_configs = 200
n_updates = 20
"""
NAMED = CARD.format(theory="elsewhere:Oscillators", sampler="elsewhere:Walk")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The module in the current folder; nothing of it is left in the catalogues."""
    (tmp_path / "elsewhere.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("elsewhere", None)
    for catalogue in (THEORIES, SAMPLERS):
        for name in [name for name in catalogue if name.startswith("elsewhere:")]:
            del catalogue[name]


def test_a_name_of_other_code_is_refused_without_permission(elsewhere):
    with pytest.raises(InputError, match=r"^card: \[theory\]: name = 'elsewhere:Oscillators': .*--allow-plugins$"):
        parse_card(NAMED)
    assert "elsewhere" not in sys.modules


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere:X", "'nowhere:X' cannot be loaded: ModuleNotFoundError"),
        ("elsewhere:Nothing", "'elsewhere:Nothing' cannot be loaded: AttributeError"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(elsewhere, name, told):
    with plugins(allowed=True), pytest.raises(InputError, match=told):
        parse_card(NAMED.replace("elsewhere:Oscillators", name))


def test_a_run_with_other_code_from_card_to_report(elsewhere, lattice_flows, monkeypatch):
    Path("card.toml").write_text(NAMED)
    status, _, said = lattice_flows("run", "card.toml", "--out", "run")
    assert (status, Path("run").exists()) == (2, False), said
    status, out, said = lattice_flows("run", "card.toml", "--out", "run", "--allow-plugins")
    assert status == 0, said
    summary = json.loads(Path("run/report/summary.json").read_text())
    for ensemble in summary["ensembles"].values():
        assert abs(ensemble["observables"]["square"]["pull"]) < 4.5
    status, out, _ = lattice_flows("info", "run/ensembles/walk.h5")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("plugins")]
    assert json.loads(line.split(maxsplit=1)[1]).keys() == {"elsewhere:Oscillators", "elsewhere:Walk"}
    assert "elsewhere sha256 " in line


def test_files_are_read_without_the_code(elsewhere, lattice_flows):
    Path("card.toml").write_text(NAMED)
    assert lattice_flows("run", "card.toml", "--out", "run", "--allow-plugins")[0] == 0
    (elsewhere / "elsewhere.py").write_text("raise RuntimeError('imported')")
    program = [sys.executable, "-m", "lattice_flows.cli"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), "."]))}

    def ended(*arguments):
        return subprocess.run([*program, *arguments], capture_output=True, text=True, env=environment)

    for command in (["info"], ["verify"], ["analyse", "--json", "found.json"]):
        done = ended(*command, "run/ensembles/walk.h5")
        assert done.returncode == 0, done.stderr
    own = json.loads(Path("run/report/summary.json").read_text())["ensembles"]["walk"]["observables"]["square"]
    found = json.loads(Path("found.json").read_text())["ensembles"]["walk"]["observables"]["square"]
    assert (found["value"], found["error"]) == (own["value"], own["error"])
    assert found["exact"] is None
    for refused in (["run", "--from", "run/ensembles/walk.h5"], ["analyse", "run"]):
        done = ended(*refused)
        assert done.returncode == 2, done.stderr
        assert "--allow-plugins" in done.stderr
        assert "imported" not in done.stderr


def test_installed_packages_need_no_permission(elsewhere):
    """Their entry points are in the catalogues, and are imported when they are asked for."""
    site = elsewhere / "site"
    site.mkdir()
    (elsewhere / "elsewhere.py").rename(site / "elsewhere.py")
    info = site / "elsewhere_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-package\nVersion: 1.2\n")
    (info / "RECORD").write_text("elsewhere.py,,\n")
    (info / "top_level.txt").write_text("elsewhere\n")
    (info / "entry_points.txt").write_text(
        "[lattice_flows.theories]\noscillators = elsewhere:Oscillators\nu1 = elsewhere:Oscillators\n"
        "[lattice_flows.samplers]\nwalk = elsewhere:Walk\nbroken = elsewhere:Nothing\n"
    )
    Path("card.toml").write_text(CARD.format(theory="oscillators", sampler="walk"))
    script = """
import sys
from lattice_flows.card.card import read_card
from lattice_flows.theories import THEORIES, WilsonU1
from lattice_flows.samplers import SAMPLERS
from pathlib import Path
assert "oscillators" in THEORIES and "walk" in SAMPLERS and "elsewhere" not in sys.modules
assert THEORIES["u1"] is WilsonU1  # the package's own names are its own
card = read_card(Path("card.toml"))
print(card.plugins)
try:
    read_card(Path("card.toml"), ["ensemble.walk.sampler=broken"])
except Exception as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    loaded, broken = done.stdout.splitlines()
    assert loaded == "{'oscillators': 'elsewhere-package 1.2', 'walk': 'elsewhere-package 1.2'}"
    assert "'broken' of elsewhere-package 1.2 cannot be loaded: AttributeError" in broken


def test_a_program_adds_its_own(elsewhere, tmp_path):
    """As a script does: THEORIES[name] = Class, and then lf.run."""
    script = """
import lattice_flows as lf
from elsewhere import Oscillators
from lattice_flows.theories import THEORIES
THEORIES["mine"] = Oscillators
summary = lf.run("card.toml", out="run")
print(abs(summary["ensembles"]["hmc"]["observables"]["square"]["pull"]) < 4.5)
"""
    Path("card.toml").write_text(CARD.format(theory="mine", sampler="random_walk"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def test_job_scripts_carry_the_permission(elsewhere, lattice_flows):
    Path("card.toml").write_text(NAMED)
    Path("profile.toml").write_text('scheduler = "local"\n')
    status, out, said = lattice_flows(
        "submit", "card.toml", "--out", "run", "--cluster", "profile.toml", "--dry-run", "--allow-plugins"
    )
    assert status == 0, said
    assert "--allow-plugins --ensemble walk" in out
    assert "analyse" in out
