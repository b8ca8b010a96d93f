"""A flow judged by configurations that it did not make."""

import math

import pytest
import torch
from cards import WITH_FLOW
from torch import nn

from lattice_flows.workflows.card import read_card
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.stages import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forward")
    card = folder / "card.toml"
    card.write_text(WITH_FLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return run(card, folder / "run"), RunFolder(folder / "run"), read_card(card)


def test_both_views_of_a_sound_flow_agree(finished):
    summary, _, _ = finished
    flow = summary["flow"]
    assert list(flow["forward"]) == ["hmc"]  # the ensembles of the flow itself say nothing new
    figures = flow["forward"]["hmc"]
    assert not figures["collapsed"]
    assert 500 < figures["n_samples"] <= 2048
    difference = figures["ess"] - flow["ess"]
    assert abs(difference) < 4.5 * math.hypot(figures["ess_error"], flow["ess_error"])


class Narrow(nn.Module):
    """A density about the trivial configuration alone, as of a flow that knows one sector."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def log_prob(self, x):
        return (8.0 * torch.cos(x)).flatten(1).sum(1)


def test_a_flow_that_misses_most_of_the_target_is_told(finished, monkeypatch):
    summary, folder, card = finished
    from lattice_flows.workflows import analyse, forward

    monkeypatch.setattr(forward, "load_flow", lambda *arguments: (Narrow(), ""))
    flow = analyse.analyse_run(folder, card)["flow"]
    assert flow["ess"] == summary["flow"]["ess"]  # from its own samples, which know nothing of it
    assert flow["forward"]["hmc"]["collapsed"]
    assert any("mode collapse" in text for text in flow["warnings"])
