"""Every script of runs/ and analysis/ begins, and the campaigns run from end to end on small lattices."""

import importlib.util
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from lattice_flows.exit_status import EXIT_INPUT, EXIT_STOPPED, run_as_command
from lattice_flows.stages import sample_stage, train_stage
from lattice_flows.theories import ExactU1, ImprovedU1, Peptide

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("runs/*/*.py"), *ROOT.glob("analysis/*.py")])
QUICKSTART = ROOT / "runs" / "quickstart" / "card.toml"
SMALL = [
    "theory.shape=[4, 4]",
    "flow.n_layers=4",
    "flow.hidden=[8]",
    "training.max_seconds=1",
    "ensemble.flow.n_configs=60",
    "ensemble.flow_hmc.n_configs=10",
    "ensemble.flow_hmc.n_chains=4",
    "ensemble.flow_hmc.n_thermalisation=1",
    "ensemble.hmc.n_configs=500",
    "ensemble.direct.n_configs=100",
]


def loaded(path: Path) -> ModuleType:
    """The script as a module; a test may change its constants."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch):
    """Run a script's main function with these arguments, as its last lines do; its status."""

    def run(path: Path, *arguments: object, **constants: object) -> int:
        monkeypatch.syspath_prepend(str(path.parent))
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        module = loaded(path)
        for name, value in constants.items():
            assert hasattr(module, name)
            monkeypatch.setattr(module, name, value)
        with pytest.raises(SystemExit) as ended:
            run_as_command(module.main)
        return int(ended.value.code or 0)

    return run


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_script_tells_its_usage(path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")


def test_scan_of_freezing_and_its_figure(script, tmp_path, capsys):
    out, figure = tmp_path / "out", tmp_path / "figure.svg"
    assert script(ROOT / "runs/freezing/scan.py", out, "--seconds", "0.001", AT_16=[], AT_64=[(1.0, 8)]) == 0
    assert script(ROOT / "analysis/topological_freezing.py", out, figure) == 0
    assert figure.read_bytes().startswith(b"<?xml")
    table = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["winding_hmc", "8^2", "1"] in table


def test_campaign_of_maps_and_its_figure(script, tmp_path, capsys):
    out, figure = tmp_path / "out", tmp_path / "figure.svg"
    small = {"THEORIES": ["u1"], "POINTS": [(8, 2.0)], "VOLUMES": [8, 16], "HMC": [], "HEATBATH": ["heatbath_hop_1"]}
    small["TRAINED_ON_8"] = {"coupling": ("u1", ["theory.beta=2.0", "flow={name='plaquette_coupling', n_layers=4}"])}
    small |= {"FLOWS": ["flow_metropolis"], "NAMES": ["flow_metropolis"]}
    times = ("--seconds", "0.01", "--training", "0.5")
    assert script(ROOT / "runs/trivializing/campaign.py", out, *times, **small) == 0
    capsys.readouterr()
    assert script(ROOT / "analysis/trivializing.py", out, figure) == 0
    assert figure.read_bytes().startswith(b"<?xml")
    assert figure.with_suffix(".csv").exists()
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert ["u1, exact map", "8x8", "2", "heatbath_hop_1"] in rows
    assert ["u1, couplings of 8x8", "16x16", "2", "flow_metropolis"] in rows
    assert len(rows) == 3 + 1 + 1


def test_campaign_of_paths_and_its_figure(script, tmp_path, capsys):
    out, figure = tmp_path / "out", tmp_path / "figure.svg"
    small = {"SYSTEMS": {"u1_16x16": ("u1", ["theory.shape=[4, 4]", "theory.beta=2.0"])}, "UPDATES": (8,)}
    small |= {"FROM_FLOWS": (8,), "VOLUMES": {"u1": {4: 8}}, "STEPS": {"u1": {4: 2}}}
    times = ("--seconds", "0.1", "--training", "0.5", "--alone", "0.5")
    assert script(ROOT / "runs/annealed/annealing.py", out, *times, **small) == 0
    capsys.readouterr()
    assert script(ROOT / "analysis/annealed.py", out, figure) == 0
    assert figure.read_bytes().startswith(b"<?xml")
    said = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in said]
    for method in (["annealing", "8"], ["populations", "8"], ["stochastic flow", "8"], ["flow alone", "-"]):
        assert ["u1, 16x16", *method] in rows
    assert ["u1", "4x4", "8"] in rows
    assert figure.with_suffix(".csv").read_text().count("u1_16x16") == 4


def test_windows_of_the_dimer(script, tmp_path, capsys):
    small = ["n_configs=30", "n_updates=4", "n_thermalisation=40", "n_windows=4", "q_max=0.1"]
    changes = {"SMALL": [f"ensemble.windows.{change}" for change in small], "N_THERMALISATION": 40}
    assert script(ROOT / "runs/boltzmann/dimer.py", tmp_path, "--seeds", "3", **changes) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["swaps, seed 3", "no swaps, from closed", "no swaps, from open"]
    assert all("+-" in row[1] for row in rows)


def test_switching_of_the_dimer(script, tmp_path, capsys):
    """It goes on where it was stopped, and ends with the same bits as without a stop."""
    changes = {"N_CHAINS": 2, "N_THERMALISATION": 40, "N_BETWEEN": 2}
    path, settings = ROOT / "runs/boltzmann/dimer_switching.py", ("--seeds", "3", "--centres", "200")
    assert script(path, tmp_path / "parts", *settings, "--paths", "20", **changes) == 0
    assert script(path, tmp_path / "parts", *settings, "--paths", "22", **changes) == 0
    assert "+-" in capsys.readouterr().out.splitlines()[-1]
    assert script(path, tmp_path / "whole", *settings, "--paths", "22", **changes) == 0
    parts, whole = (np.load(tmp_path / name / "seed_3_centres_200.npz") for name in ("parts", "whole"))
    for key in set(whole) - {"seconds"}:
        np.testing.assert_array_equal(parts[key], whole[key])
    assert script(path, tmp_path, *settings, "--paths", "3") == EXIT_INPUT
    assert "--paths must be 20 or more, got 3" in capsys.readouterr().err
    file = tmp_path / "parts/seed_3_centres_200.npz"
    file.write_bytes(file.read_bytes()[:1000])
    assert script(path, tmp_path / "parts", *settings, "--paths", "22") == EXIT_INPUT
    assert f"{file}: does not hold what this script keeps" in capsys.readouterr().err


def test_boltzmann_generators_of_wells(script, tmp_path, capsys):
    """Hardly trained: the flow is poor, and log Z agrees with quadrature all the same."""
    small = ["training.max_steps=60", "training.buffer_size=256", "ensemble.samples.n_configs=400"]
    small += ["ensemble.flow.n_configs=200", "ensemble.tempering.n_configs=400"]
    arguments = (tmp_path, tmp_path / "pictures", "--systems", "mueller_brown")
    assert script(ROOT / "runs/boltzmann/wells.py", *arguments, SMALL=small) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in capsys.readouterr().out.splitlines()]
    (found,) = [row for row in rows if row[:2] == ["log Z", "both sides (BAR)"]]
    assert found[3] == "11.729590"
    assert abs(float(found[4])) < 5.0
    assert [row[:1] for row in rows].count(["Delta F"]) == 4
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["mueller_brown.png"]


def test_figure_of_no_run_is_refused(script, tmp_path, capsys):
    for name in ("topological_freezing", "quickstart", "trivializing", "annealed"):
        assert script(ROOT / f"analysis/{name}.py", tmp_path, tmp_path / "figure.svg") == EXIT_INPUT
        message = capsys.readouterr().err
        assert message.startswith(f"{name}.py: {tmp_path}")
        assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_reference_of_u1_improved(script, tmp_path):
    made = tmp_path / "made.json"
    options, at = ("--json", made, "--n-configs", "200"), {"POINTS": [(2.0, 0.05)], "SIDES": [4]}
    assert script(ROOT / "runs/u1_improved/reference.py", tmp_path / "out", *options, **at) == 0
    (point,) = json.loads(made.read_text())["points"]
    row = point["observables"]["plaquette"]
    assert abs(row["value"] - ImprovedU1(2.0, 0.05).closed_forms((4, 4)).plaquette) < 4.5 * row["error"]
    assert abs(row["value"] - ExactU1(2.0, 16).plaquette) > 4.5 * row["error"]  # c1 counts


def test_training_of_a_row(tmp_path):
    train = loaded(ROOT / "runs/ess_table/train.py")
    assert "s of compilation" in train.run((tmp_path, "exact_6x10_beta2", 1))
    assert (tmp_path / "exact_6x10_beta2/seed1/flow/evaluation.h5").exists()


def test_figure_of_the_quickstart(script, lattice_flows, tmp_path):
    overrides = [word for change in SMALL for word in ("--set", change)]
    assert lattice_flows("run", QUICKSTART, "--out", tmp_path / "run", *overrides)[0] == 0
    assert script(ROOT / "analysis/quickstart.py", tmp_path / "run", tmp_path / "figure.svg") == 0
    assert (tmp_path / "figure.svg").read_bytes().startswith(b"<?xml")


def test_signal_ends_a_campaign_with_one_line(tmp_path):
    command = [sys.executable, ROOT / "runs/freezing/scan.py", tmp_path, "--seconds", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    for line in process.stdout:
        if "configurations" in line:
            break
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == EXIT_STOPPED, said
    assert said == "scan.py: stopped by SIGTERM; everything is saved, run again to go on\n"


def test_study_of_the_catalogue(script, tmp_path, capsys):
    """A construction with an inverse and one without; the table keeps what it held of others."""
    folder, out, figures = ROOT / "runs/flow_catalogue", tmp_path / "out", tmp_path / "figures"
    for name in ("planar", "iaf"):
        plane = ("--seconds", "0.1", "--densities", "ring", "--constructions", name)
        assert script(folder / "plane.py", out, figures, *plane, N_SAMPLES=100) == 0
        assert (figures / f"{name}.png").stat().st_size > 10_000
    rows = (figures / "plane.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["construction", "planar", "iaf"]
    assert rows[1].split(",")[6] != ""
    assert rows[2].split(",")[6] == ""
    lattice = ("--seconds", "0.1", "--system", "6", "--constructions", "elementwise")
    assert script(folder / "lattice.py", out, *lattice, N_SAMPLES=300, N_UPDATES=50) == 0
    assert "clusters and heat bath" in capsys.readouterr().out
    lines = (out / "6.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["construction", "elementwise", "clusters and heat bath"]
    family = (folder / "family.py", out, "--side", "4", "--seconds")
    assert script(*family, "0.2", N_SAMPLES=64) == 0
    assert script(*family, "0.3", N_SAMPLES=64) == 0  # goes on
    assert len((out / "family.csv").read_text().splitlines()) == 8
    assert script(folder / "diagrams.py", figures) == 0
    assert (figures / "masks.png").exists()


def test_alanine_dipeptide_beside_replica_exchange(script, tmp_path, monkeypatch, capsys):
    """Short chains, and a flow that has hardly been trained."""
    monkeypatch.chdir(tmp_path)
    small = {
        "exchange": ["values=[300.0, 600.0]", "n_chains=4", "n_configs=200", "n_thermalisation=2"],
        "samples": ["n_chains=2", "n_configs=100"],
    }
    small["exchange"] += ["replica={sampler='hmc', trajectory_length=0.02, n_md_steps=20}"]
    changes = {name: [f"ensemble.{name}.{change}" for change in own] for name, own in small.items()}
    folder, console, exchange = ROOT / "runs/boltzmann", Console(), tmp_path / "output/alanine_exchange"
    sample_stage(folder / "alanine_exchange.toml", exchange, changes["exchange"], [], console)
    overrides = ["training.max_steps=3", "training.max_seconds=100", "training.batch_size=8"]
    overrides += ["training.final_batch_size=8", "training.monitor_samples=32", *changes["samples"]]
    train_stage(folder / "alanine_dipeptide.toml", tmp_path / "run", overrides, console)
    sample_stage(tmp_path / "run", None, [], ["samples"], console)
    assert script(folder / "alanine.py", tmp_path / "run", exchange, "--out", tmp_path / "figures") == 0
    told = capsys.readouterr().out
    assert re.search(r"\| total variation of phi and psi \| [01]\.\d+, of which noise makes 0\.\d+ \|", told)
    assert (tmp_path / "figures/ramachandran.png").stat().st_size > 10_000
    assert (tmp_path / "figures/profile.svg").exists()


def test_distance_of_histograms(monkeypatch):
    """Its floor is what equal distributions have on average, and a tenth of the weight elsewhere is seen above it."""
    monkeypatch.syspath_prepend(ROOT / "runs/boltzmann")
    from molecules.torsions import of_chains, of_weights, total_variation

    rng = np.random.default_rng(5)

    def angles(*shape):
        return np.arctan2(*rng.normal(size=(2, *shape)) + 1.0)

    distances = []
    for _ in range(10):
        chains = of_chains(angles(4000, 10), angles(4000, 10))
        phi, psi, log_w = angles(60_000), angles(60_000), rng.normal(0.0, 0.7, 60_000)
        distances.append(total_variation(of_weights(phi, psi, log_w), chains))
        shifted = of_weights(np.where(np.arange(60_000) < 6000, -2.0, phi), psi, log_w)
        assert total_variation(shifted, chains).value > 1.5 * distances[-1].floor
    values, floors = np.array(distances).T
    assert abs(values.mean() / floors.mean() - 1.0) < 0.1


def test_protein_as_a_target(script, tmp_path, capsys):
    from openmm.app import PDBFile

    built = Peptide("CG").source.build()
    with (tmp_path / "small.pdb").open("w") as file:
        PDBFile.writeFile(built.topology, built.positions * 10, file)
    assert script(ROOT / "runs/boltzmann/protein.py", tmp_path / "small.pdb") == 0
    told = capsys.readouterr().out
    assert "4 residues, 30 atoms, 15 of them hydrogens" in told
    assert "disulfide bonds: 0; chiral centres: 1" in told
    assert float(re.search(r"relative error (\S+);", told)[1]) < 1e-6
    assert float(re.search(r"torsions, (\S+) nm", told)[1]) < 1e-6
    assert script(ROOT / "runs/boltzmann/protein.py", tmp_path / "none.pdb") == EXIT_INPUT
    assert "none.pdb: No such file" in capsys.readouterr().err
