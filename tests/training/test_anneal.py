"""Annealing: from the flow's prior to the target."""

import math
from pathlib import Path

import pytest
import torch
from vector_cases import Chain5

from lattice_flows.flows import (
    Chain,
    Flow,
    FreeFieldPrior,
    GaussianPrior,
    checkerboard_coupling,
    plaquette_coupling,
    prior_action,
    vector_coupling,
)
from lattice_flows.lattice import REAL
from lattice_flows.theories import Action, DoubleWell, MuellerBrown, Phi4, WilsonU1
from lattice_flows.training import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    TrainingSettings,
    evaluate,
    read_checkpoint,
    read_history,
    train,
)
from lattice_flows.training.catalogue import build_objective
from lattice_flows.training.optimise import Optimiser
from lattice_flows.training.ranks import ALONE

PHI4 = Phi4(-4.0, 8.0)
SETTINGS = TrainingSettings(max_steps=100, anneal=0.5)


def _annealed(flow: Flow, action: Action, progress: float, settings: TrainingSettings = SETTINGS) -> Action:
    objective = build_objective(settings, flow, None, torch.float64, torch.device("cpu"))
    return Optimiser(flow, settings, objective, ALONE).annealed(action, progress)


@pytest.mark.parametrize("action", [PHI4, DoubleWell(), MuellerBrown(), Chain5()], ids=lambda each: type(each).__name__)
def test_it_begins_at_the_prior_and_ends_at_the_target(action: Action, generator: torch.Generator) -> None:
    """Where all weights of the bare prior are 1; half way S is the mean of both, and so is its force."""
    torch.set_num_threads(1)
    flow = checkerboard_coupling((4, 4), action) if action is PHI4 else vector_coupling((), action)
    onto = [] if action.space == REAL else flow.transform.sequence()[-1:]
    bare = Flow(flow.prior, Chain(*onto))
    assert abs(evaluate(bare, _annealed(flow, action, 0.0), 200, generator)).max() < 1e-9
    x = bare.sample(20, generator).x.detach()
    half, begin = _annealed(flow, action, 0.25), prior_action(flow)
    assert begin is not None
    torch.testing.assert_close(half(x), 0.5 * (begin(x) + action(x)))
    torch.testing.assert_close(half.force(x), 0.5 * (begin.force(x) + action.force(x)))
    assert _annealed(flow, action, 0.5) is action


def test_the_force_of_a_prior_is_its_derivative(generator: torch.Generator) -> None:
    prior = GaussianPrior((3,), 2.0)
    start = prior_action(Flow(prior, Chain()))
    assert start is not None
    x = prior.sample(5, generator)
    torch.testing.assert_close(start.force(x), -x / 4.0)
    torch.testing.assert_close(start(x), 0.125 * x.square().sum(1) + 1.5 * math.log(8.0 * math.pi))


def test_the_parameters_of_a_prior_are_constants_of_its_action(generator: torch.Generator) -> None:
    prior = FreeFieldPrior((4, 4), 0.5, learnable=True)
    flow = Flow(prior, Chain())
    start = prior_action(flow)
    assert start is not None
    x = prior.sample(3, generator).detach()
    assert not start(x).requires_grad
    with torch.no_grad():
        prior.log_factor.fill_(0.3)
    assert (start(x) - prior_action(flow)(x)).abs().min() > 0.01


def test_angles_begin_flat_in_the_class_of_their_theory() -> None:
    """With the former numbers, and the special forms of objectives."""
    flow = plaquette_coupling((4, 4), n_layers=1, n_components=2, hidden=(4,))
    assert _annealed(flow, WilsonU1(2.0), 0.2) == WilsonU1(2.0).scaled(0.4)


def test_from_hot_the_temperature_falls_as_a_geometric_series() -> None:
    settings = TrainingSettings(max_steps=100, anneal=0.5, anneal_from="hot", hot_temperature=4.0)
    flow = vector_coupling((), DoubleWell(), n_layers=1, hidden=(4,))
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    scales = [float(_annealed(flow, DoubleWell(), t, settings)(x) / DoubleWell()(x)) for t in (0.0, 0.25, 0.5)]
    assert scales == pytest.approx([0.25, 0.5, 1.0], abs=1e-12)


def test_former_trainings_go_on_as_they_began(tmp_path: Path) -> None:
    """A checkpoint without the key means a flat start, whatever the settings say by their silence."""
    torch.set_num_threads(1)

    def run(folder: str, steps: int, **changes: str) -> Path:
        settings = TrainingSettings(max_steps=8, batch_size=16, anneal=0.5, monitor_every=4, **changes)
        flow, calls = checkerboard_coupling((4, 4), PHI4, n_layers=2, hidden=(4,)), iter(range(1, 100))
        train(flow, PHI4, settings, tmp_path / folder, seed=1, header={}, should_stop=lambda: next(calls) >= steps)
        return tmp_path / folder / CHECKPOINT_NAME

    whole = read_checkpoint(run("flat", 99, anneal_from="flat"))
    assert "anneal_from" not in whole.settings
    assert read_checkpoint(run("parts", 2, anneal_from="flat")).step == 2
    again = read_checkpoint(run("parts", 99))
    other = read_checkpoint(run("prior", 99))
    assert other.settings["anneal_from"] == "prior"
    for name, weight in whole.flow.items():
        assert torch.equal(again.flow[name], weight), name
    assert any(not torch.equal(other.flow[name], weight) for name, weight in whole.flow.items())


def test_phi4_learns_with_annealing(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    flow = checkerboard_coupling((4, 4), PHI4, n_layers=4, transform="affine", hidden=(8,))
    settings = TrainingSettings(max_steps=200, batch_size=64, anneal=0.5, monitor_every=50)
    train(flow, PHI4, settings, tmp_path, seed=1, header={})
    rows = read_history(tmp_path / HISTORY_NAME)
    assert [row.action_scale for row in rows] == [0.5, 1.0, 1.0, 1.0]
    assert rows[-1].ess > 0.5
