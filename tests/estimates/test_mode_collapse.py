"""A flow judged by configurations that it did not make."""

import math

import pytest
import torch
from cards import WITH_FLOW
from torch import nn

from lattice_flows.card.card import read_card
from lattice_flows.estimates import mode_collapse
from lattice_flows.estimates.analysis import analyse_run
from lattice_flows.estimates.mode_collapse import _figures
from lattice_flows.estimates.weights import weights_summary
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run


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


def test_the_flow_tells_its_weights_by_sector(finished):
    summary, folder, _ = finished
    weights = {row["charge"]: row for row in summary["flow"]["topology"]["weights"]}
    assert sum(row["share"] for row in weights.values()) == pytest.approx(1.0)
    zero = weights[0]
    assert abs(zero["share"] - zero["exact"]) < 4.5 * zero["share_error"]
    assert 0.0 < zero["ess"] <= 1.0
    assert "fresh flow samples: weights per sector" in (folder.report / "index.html").read_text()


class Narrow(nn.Module):
    """A density about the trivial configuration alone, as of a flow that knows one sector."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def noise(self, n, generator):
        return ()

    def path_log_q(self, x):
        return (8.0 * torch.cos(x)).flatten(1).sum(1)


def test_a_flow_that_misses_most_of_the_target_is_told(finished, monkeypatch):
    before, folder, card = finished
    monkeypatch.setattr(mode_collapse, "load_flow", lambda *arguments: (Narrow(), ""))
    flow = analyse_run(folder, card).summary["flow"]
    assert flow["ess"] == before["flow"]["ess"]  # from its own samples, which know nothing of it
    assert flow["forward"]["hmc"]["collapsed"]
    assert any("mode collapse" in text for text in flow["warnings"])


def gaussian_log_w(rng, variance, n, of_target):
    """log w of a flow whose weights are log-normal; drawn from the flow, or from the target (weighted by w)."""
    return rng.normal(0.5 * variance if of_target else -0.5 * variance, math.sqrt(variance), n)


@pytest.mark.parametrize(
    ("variance", "mostly"), [(0.5, "passed"), (2.0, "passed"), (5.0, ""), (9.0, "weights too uneven to tell")]
)
def test_a_poor_flow_is_not_called_collapsed(variance, mostly, rng):
    """It misses nothing: its weights are log-normal. The ESS of its own samples is too large where it is unreliable."""
    verdicts = []
    for _ in range(40):
        flow = weights_summary(gaussian_log_w(rng, variance, 16_384, of_target=False))
        log_w = gaussian_log_w(rng, variance, 2048, of_target=True).reshape(512, 4)
        verdicts.append(_figures(log_w, flow, moves=True)["verdict"])
    assert verdicts.count("mode collapse") <= 4
    assert not mostly or verdicts.count(mostly) >= 20


def test_a_missed_mode_is_found(rng):
    flow = weights_summary(gaussian_log_w(rng, 0.5, 16_384, of_target=False))
    log_w = gaussian_log_w(rng, 0.5, 2048, of_target=True)
    log_w[rng.random(2048) < 0.02] += 10.0  # 2 % of the target lie where the flow hardly goes
    assert _figures(log_w.reshape(512, 4), flow, moves=True)["verdict"] == "mode collapse"


def test_an_ensemble_that_does_not_move_vouches_for_nothing(rng):
    flow = weights_summary(gaussian_log_w(rng, 0.5, 16_384, of_target=False))
    log_w = gaussian_log_w(rng, 0.5, 2048, of_target=True).reshape(512, 4)
    assert _figures(log_w, flow, moves=True)["verdict"] == "passed"
    assert "tells nothing" in _figures(log_w, flow, moves=False)["verdict"]
