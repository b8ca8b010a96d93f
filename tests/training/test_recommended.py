"""Settings that suit a flow, and how they give way to a card's."""

from pathlib import Path

from lattice_flows.flows import multiscale
from lattice_flows.theories import WilsonU1
from lattice_flows.training import FORMERLY, TrainingSettings, recommended, recommended_then, train


def test_what_a_card_gives_is_not_contradicted() -> None:
    assert TrainingSettings(**recommended("multiscale", {"conditioner": "mlp"})).objective == "reinforce"
    large = {"batch_size": 1024}
    settings = TrainingSettings(**{**recommended("multiscale", {}, large), **large})
    assert (settings.batch_size, settings.final_batch_size) == (1024, None)
    norm = {"clip_norm": 1.0}
    assert TrainingSettings(**{**recommended("multiscale", {}, norm), **norm}).clip is None
    assert recommended("vector_coupling", {})["anneal"] > 0
    learning = {"objective": "mixture", "data": "x.h5"}
    assert TrainingSettings(**{**recommended("vector_coupling", {}, learning), **learning}).anneal == 0
    assert recommended("hybrid", {"conditioner": "structured"})["learning_rate"] == 0.005
    assert recommended("plaquette_coupling", {}) == {}


def test_a_training_of_before_keeps_its_recommendations() -> None:
    held = {**FORMERLY["hybrid"], "batch_size": 64}
    assert recommended_then("hybrid", {"batch_size": 64}, held) == FORMERLY["hybrid"]
    assert "adam_beta2" not in recommended_then("hybrid", {"adam_beta2": 0.999}, held)
    assert recommended_then("hybrid", {}, {**held, **recommended("hybrid", {})}) == {}
    assert recommended_then("multiscale", {}, held) == {}


def test_annealing_may_lead_away_from_a_good_start(tmp_path: Path) -> None:
    """A structured tree begins close to the target; the annealed one is far from it. That is no divergence."""
    flow, action = multiscale((4, 4), WilsonU1(6.0), conditioner="structured", n_bins=16), WilsonU1(6.0)
    given = {"max_steps": 60, "anneal": 0.7, "monitor_every": 10, "monitor_samples": 64, "batch_size": 16}
    settings = TrainingSettings(**{**recommended("multiscale", {"conditioner": "structured"}, given), **given})
    assert train(flow, action, settings, tmp_path, seed=1, header={}).reason == "max_steps"
