"""A flow of vectors from its card to the report: trained, sampled in all ways, its modes held against exact ones."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from lattice_flows.card.build import load_flow
from lattice_flows.card.card import read_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.statistics import effective_sample_size, log_partition, weighted_mean
from lattice_flows.theories import DoubleWell
from lattice_flows.training import CHECKPOINT_NAME

CARD = """
seed = 3
[theory]
name = "double_well"

[flow]
name = "vector_coupling"
n_layers = 2
transform = {name = "spline", n_bins = 6}
hidden = [16]

[training]
max_steps = 600
batch_size = 256
learning_rate = 0.01
monitor_every = 100

[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_configs = 1500
batch_size = 1000

[[ensemble]]
name = "latent"
sampler = "flow_hmc"
n_chains = 20
n_configs = 60
n_md_steps = 4
n_thermalisation = 5

[[ensemble]]
name = "samples"
sampler = "flow_samples"
n_configs = 1500
n_thermalisation = 0

[[ensemble]]
name = "mixed"
sampler = "mixture"
parts = [{sampler = "flow_metropolis", batch_size = 500}, {sampler = "hmc", n_md_steps = 8}]
n_configs = 200
n_thermalisation = 5
"""


SCRIPT = Path(__file__).parents[2] / "analysis" / "ess_vs_volume.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "card.toml").write_text(CARD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder / "run", run(folder / "card.toml", folder / "run", [], Console(quiet=True))


def test_every_number_agrees_with_the_closed_form(finished):
    _, summary = finished
    flow = summary["flow"]
    assert flow["ess"] > 0.8
    assert flow["log_z_exact"] == DoubleWell().closed_forms(()).log_z
    assert abs(flow["log_z"] - flow["log_z_exact"]) < 4.5 * flow["log_z_error"]
    tables = [flow["observables"], *(ensemble["observables"] for ensemble in summary["ensembles"].values())]
    for table in tables:
        assert set(table) == {"mean_x", "mean_y", "potential", "basin_probability"}
        for name, row in table.items():
            assert abs(row["pull"]) < 4.5, (name, row)


def test_a_mixture_keeps_its_proposals(finished):
    with Ensemble.open(finished[0] / "ensembles" / "mixed.h5") as ensemble:
        assert ensemble.proposals("log_w").shape == (200, 4)
        assert ensemble.verify()


def test_the_checkpoint_is_that_of_the_card_and_holds_the_same_flow(finished):
    folder = RunFolder(finished[0])
    flow, _ = load_flow(read_card(folder.path / "card.toml"), folder.flow / CHECKPOINT_NAME, torch.device("cpu"))
    assert flow.space == DoubleWell().space
    (found,) = analyse_files([folder.evaluation]).summary["ensembles"].values()
    assert abs(found["observables"]["basin_probability"]["pull"]) < 4.5


def test_the_figure_of_volumes_is_refused_in_one_line(finished, monkeypatch, capsys):
    evaluation = RunFolder(finished[0]).evaluation
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(evaluation), "--out", str(finished[0] / "ess.pdf")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "double_well has no lattice; this figure is of volumes" in line


def test_a_dropped_well_shows_in_the_probability_and_not_in_the_ess(finished):
    """The trained flow restricted to x > 0, with the density q / q(x > 0): its ESS is as good, log Z and P are not."""
    folder, action = RunFolder(finished[0]), DoubleWell()
    flow, _ = load_flow(read_card(folder.path / "card.toml"), folder.flow / CHECKPOINT_NAME, torch.device("cpu"))
    exact, generator = action.closed_forms(()), torch.Generator().manual_seed(1)
    with torch.no_grad():
        x, log_q = flow.sample(20_000, generator)
        kept = x[:, 0] > 0
        share = float(kept.double().mean())
        dropped = (-action(x) - log_q)[kept].numpy() + np.log(share)
    assert effective_sample_size(dropped).value > 0.9
    log_z, p = log_partition(dropped), weighted_mean(action.basin.holds(x[kept].numpy()), dropped)
    assert p.value == 0.0
    assert abs(log_z.value - exact.log_z) > 10 * log_z.error
    assert log_z.value == pytest.approx(exact.log_z + np.log1p(-exact.basin_probability), abs=5 * log_z.error + 0.01)
