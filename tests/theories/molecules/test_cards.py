"""Molecules on cards: what is refused, ladders of temperatures, and an OpenMM that stays away if nobody asks."""

import json
import shutil
import subprocess
import sys

import pytest
from cases import MOLECULE

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.theories.molecules.engine import molecule

pytestmark = pytest.mark.quick

PRMTOP, CRD = MOLECULE

LADDER = """
[theory]
name = "alanine_dipeptide"

[[ensemble]]
name = "ladder"
sampler = "tempering"
coupling = "temperature"
values = [300.0, 330.0, 365.0]
replica = {sampler = "hmc", trajectory_length = 0.02, n_md_steps = 16}
start = "START"
n_chains = 2
n_configs = 6
n_thermalisation = 2

[[observable]]
name = "dihedral"
atoms = [4, 6, 8, 14]
"""


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('name = "alanine_dipeptide"\ntemperature = 0', "temperature must be > 0, got 0.0"),
        ('name = "alanine_dipeptide"\nshape = [4]', "has no lattice"),
        (f'name = "openmm_system"\ntopology = "{PRMTOP}"', "positions is missing"),
        ('name = "openmm_system"\ntopology = "a.prmtop"\npositions = "a.crd"', "a.prmtop: No such file"),
        (f'name = "openmm_system"\ntopology = "{PRMTOP}"\npositions = "none.crd"', "none.crd: No such file"),
        (f'name = "openmm_system"\ntopology = "{PRMTOP}"\npositions = "{PRMTOP}"', "alanine-dipeptide.prmtop: "),
        ('name = "openmm_system"\ntopology = "a.gro"', "must be a file .prmtop, .parm7 or .pdb, got 'a.gro'"),
        ('name = "openmm_system"\ntopology = "a.pdb"', "force_field must name one file or more"),
        (
            'name = "openmm_system"\ntopology = "FOLDER/bad.pdb"\nforce_field = ["amber14-all.xml"]',
            "bad.pdb: ",
        ),
        (
            f'name = "openmm_system"\ntopology = "{PRMTOP}"\npositions = "{CRD}"\nimplicit_solvent = "water"',
            "implicit_solvent must be one of HCT",
        ),
        ('name = "peptide"\nsequence = "AXA"', "sequence must be made of ACDEFGHIKLMNPQRSTVWY, got 'X'"),
        ('name = "peptide"\nsequence = ""', "sequence must have 1 to 100 letters, got 0"),
        ('name = "peptide"\nsequence = "A"\nforce_field = ["none.xml"]', "none.xml"),
        ('name = "peptide"\nsequence = "A"\nforce_field = ["implicit/obc2.xml"]', "by implicit_solvent"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(keys, told, tmp_path):
    (tmp_path / "bad.pdb").write_text("ATOM  nothing of the kind\n")
    with pytest.raises(InputError) as raised:
        parse_card("[theory]\n" + keys.replace("FOLDER", str(tmp_path)))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(InputError, match=r"needs the package openmm: pip install -e '.\[molecules\]'"):
        parse_card('[theory]\nname = "peptide"\nsequence = "AC"')


def test_openmm_is_not_imported_before_a_molecule_is_asked_for():
    code = (
        "import sys; from lattice_flows.card.card import parse_card\n"
        "parse_card('[theory]\\nname = \"double_well\"')\n"
        "import lattice_flows.theories.molecules.action\n"
        "sys.exit('openmm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("start", ["hot", "cold"])
def test_a_ladder_of_temperatures_runs_from_its_card(start, tmp_path, without_figures):
    from rich.console import Console

    from lattice_flows.stages import run

    card = tmp_path / "card.toml"
    card.write_text(LADDER.replace("START", start))
    run(card, tmp_path / "run", [], Console(quiet=True))
    with Ensemble.open(tmp_path / "run" / "ensembles" / "ladder.h5") as ensemble:
        assert {"potential_energy", "phi", "psi", "dihedral_4_6_8_14"} <= set(ensemble.series_names)
        assert (ensemble.series("phi") == ensemble.series("dihedral_4_6_8_14")).all()
        assert ensemble.field.shape == (22, 3)
    found = json.loads((tmp_path / "run" / "report" / "summary.json").read_text())["ensembles"]["ladder"]
    assert {"phi_positive", "phi_cos", "psi_sin", "potential_energy"} <= found["observables"].keys()


def test_files_of_a_molecule_that_is_not_here_are_analysed(tmp_path, lattice_flows, without_figures):
    for kind, path in (("prmtop", PRMTOP), ("crd", CRD)):
        shutil.copy(path, tmp_path / f"a.{kind}")
    (tmp_path / "card.toml").write_text(
        '[theory]\nname = "openmm_system"\ntopology = "a.prmtop"\npositions = "a.crd"\n'
        '[[ensemble]]\nname = "hmc"\nsampler = "hmc"\ntrajectory_length = 0.02\nn_md_steps = 16\n'
        "n_chains = 2\nn_configs = 5\nn_thermalisation = 2\n"
    )
    assert lattice_flows("run", "card.toml", "--out", "run")[0] == 0
    (tmp_path / "a.crd").unlink()
    molecule.cache_clear()
    status, told, _ = lattice_flows("analyse", "run/ensembles/hmc.h5")
    assert status == 0
    assert "which needs what is not here: a.crd: No such file or directory" in " ".join(told.split())
    assert "phi_cos" in told
