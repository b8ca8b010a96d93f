"""A run builds its flow once, and what only looks at a run not at all."""

import json
from io import StringIO

import pytest
import torch
from rich.console import Console

from lattice_flows.card.card import read_card
from lattice_flows.cluster import status
from lattice_flows.flows import FLOWS, PlaquetteCouplingFlow
from lattice_flows.monitor.info import describe
from lattice_flows.monitor.watch import watch
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.training import CHECKPOINT_NAME

CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [4]
[training]
max_steps = 5
batch_size = 16
[[ensemble]]
name = "metropolis"
sampler = "flow_metropolis"
n_configs = 20
[[ensemble]]
name = "latent"
sampler = "flow_hmc"
n_configs = 10
n_thermalisation = 2
n_md_steps = 2
[[ensemble]]
name = "samples"
sampler = "flow_samples"
n_configs = 20
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 100
n_md_steps = 4
"""


class Builds:
    """How often a flow was built since it was last asked."""

    def __init__(self):
        self.n = 0

    def since(self):
        n, self.n = self.n, 0
        return n


@pytest.fixture
def builds(monkeypatch):
    counted = Builds()

    class Counting(PlaquetteCouplingFlow):
        def assemble(self):
            counted.n += torch.get_default_device().type != "meta"  # where it is only counted
            return super().assemble()

    monkeypatch.setitem(FLOWS, "plaquette_coupling", Counting)
    return counted


def test_a_run_builds_its_flow_once_and_readers_build_none(builds, lattice_flows, tmp_path):
    (tmp_path / "card.toml").write_text(CARD)
    read_card(tmp_path / "card.toml")
    assert builds.since() == 0
    folder, console = RunFolder(tmp_path / "run"), Console(file=StringIO())
    summary = run(tmp_path / "card.toml", folder.path, console=console)
    assert list(summary["flow"]["forward"]) == ["hmc"], "the flow was asked for the weights of the ensemble of hmc too"
    assert builds.since() == 1

    watch(folder.path, console, 2.0, once=True)
    folder.cluster.mkdir()
    (folder.cluster / "profile.toml").write_text('scheduler = "slurm"\n')
    status(folder.path, console)
    describe(folder.flow / CHECKPOINT_NAME)
    describe(folder.ensemble("latent"))
    assert builds.since() == 0

    assert lattice_flows("analyse", str(folder.path))[0] == 0
    assert builds.since() == 1, "for the ensemble of hmc"
    folder.ensemble("hmc").unlink()
    assert lattice_flows("analyse", str(folder.path))[0] == 0
    assert json.loads((folder.report / "summary.json").read_text())["flow"]["forward"] == {}
    assert builds.since() == 0


def test_what_only_building_finds_ends_a_run_before_it_trains(monkeypatch, lattice_flows, tmp_path):
    class Impossible(PlaquetteCouplingFlow):
        def assemble(self):
            raise ValueError("there is no such flow after all")

    monkeypatch.setitem(FLOWS, "plaquette_coupling", Impossible)
    (tmp_path / "card.toml").write_text(CARD)
    exit_status, _, errors = lattice_flows("run", str(tmp_path / "card.toml"), "--out", str(tmp_path / "run"))
    assert exit_status == 2
    assert errors.strip().endswith("[flow]: there is no such flow after all")
    assert len(errors.strip().splitlines()) == 1
    assert not (RunFolder(tmp_path / "run").flow / CHECKPOINT_NAME).exists()
