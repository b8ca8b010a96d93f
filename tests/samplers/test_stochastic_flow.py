"""Stochastic flows: exact weights and chains on the space of paths, training, and what cards say of them."""

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import CheckerboardFlow, PlaquetteCouplingFlow
from lattice_flows.kernels.random import make_streams, split_streams
from lattice_flows.samplers import (
    HMC,
    FlowMetropolis,
    HeatBath,
    LangevinLayer,
    MarkovLayer,
    Mixture,
    Part,
    StochasticFlowPlan,
    TransformLayer,
)
from lattice_flows.samplers.path_layers import Deterministic, Langevin, Step
from lattice_flows.stages import run
from lattice_flows.statistics import bennett, effective_sample_size, log_partition
from lattice_flows.theories import Phi4, WilsonU1
from lattice_flows.training import Drawn, TrainingSettings, evaluate, evaluate_on, path_gradient, reverse_kl, train

SHAPE = (4, 4)
LINKS, SCALARS = WilsonU1(1.6), Phi4(0.3, 0.0)
COUPLINGS = TransformLayer(lambda action: PlaquetteCouplingFlow(SHAPE, n_layers=8, hidden=(4,), n_components=2))
SITES = TransformLayer(
    lambda action: CheckerboardFlow(SHAPE, action, n_layers=2, transform="affine", hidden=(4,), kernel=3)
)
HEAT, BLOCK = MarkovLayer(HeatBath, 2), MarkovLayer(lambda action: HMC(action, 0.7, 4), 3)

FLOWS = {
    "couplings and heat bath": (LINKS, {"beta": 1.0}, (COUPLINGS, HEAT), 3),
    "couplings and one block of hmc": (LINKS, {"beta": 1.2}, (COUPLINGS, BLOCK), 1),
    "langevin on links": (LINKS, {"beta": 1.0}, (LangevinLayer(0.02, 3),), 4),
    "phi4 with everything": (SCALARS, {"m2": 0.5}, (SITES, LangevinLayer(0.01, 2), HEAT), 3),
}
each_flow = pytest.mark.parametrize(("action", "initial", "layers", "n_steps"), FLOWS.values(), ids=FLOWS)


def built(action, initial, layers, n_steps):
    """The flow with small random weights, in double precision: all of them zero is the identity."""
    flow = StochasticFlowPlan(SHAPE, action, layers=layers, initial=initial, n_steps=n_steps).build().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.2).add_(0.02 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return flow.requires_grad_(False)


def pull_of_z(flow, action, generator, n=5000):
    log_w = evaluate(flow, action, n, generator)
    assert effective_sample_size(log_w).value > 0.05, "or the test tells nothing"
    value, error = log_partition(log_w)
    return (value - action.closed_forms(SHAPE).log_z) / error


def drawn(action, n, seed):
    x, _ = action.direct_sampler().draw(action.event_shape(SHAPE), make_streams(seed, "target", range(n)))
    return torch.from_numpy(x)


@each_flow
def test_mean_weights_forth_and_back_are_z(action, initial, layers, n_steps, generator, seed):
    flow = built(action, initial, layers, n_steps)
    assert abs(pull_of_z(flow, action, generator)) < 4.5
    back = evaluate_on(flow, action, drawn(action, 5000, seed), generator)
    exact = action.closed_forms(SHAPE).log_z
    value, error = log_partition(-back)
    assert abs(value + exact) < 4.5 * error
    joined = bennett(evaluate(flow, action, 5000, generator), back)
    assert abs(joined.value - exact) < 4.5 * joined.error


def test_a_log_det_that_is_left_out_is_caught(generator, monkeypatch):
    flow = built(*FLOWS["couplings and heat bath"])
    first = next(layer for layer in flow.layers if isinstance(layer, Deterministic))

    def without(x, streams):
        return Step(first.transform.forward(x)[0], x.new_zeros(len(x)))

    monkeypatch.setattr(first, "forward", without)
    assert abs(pull_of_z(flow, LINKS, generator)) > 4.5


def test_langevin_steps_without_the_ratio_of_their_densities_are_caught(generator, monkeypatch):
    """As if they kept exp(-S) exactly, which steps of this size do not."""
    flow = built(*FLOWS["langevin on links"])
    walk = Langevin._walk

    def kept(self, x, streams):
        after, _ = walk(self, x, streams)
        return Step(after, self.action(after) - self.action(x))

    monkeypatch.setattr(Langevin, "_walk", kept)
    assert abs(pull_of_z(flow, LINKS, generator, 20_000)) > 4.5


@pytest.mark.parametrize("name", ["couplings and heat bath", "phi4 with everything"])
def test_metropolis_on_the_space_of_paths_keeps_the_target(name, pulls, seed):
    action, *rest = FLOWS[name]
    sampler = FlowMetropolis(action, built(action, *rest), batch_size=200)
    found = pulls(sampler, SHAPE, 100, 40, 1, seed)
    assert max(map(abs, found.values())) < 4.5, found


def test_as_a_part_of_a_mixture_it_draws_a_path_back_after_every_move(pulls, seed):
    action, *rest = FLOWS["couplings and heat bath"]
    chain = FlowMetropolis(action, built(action, *rest), batch_size=200)
    found = pulls(Mixture(action, (Part(HeatBath(action)), Part(chain))), SHAPE, 100, 20, 1, seed)
    assert max(map(abs, found.values())) < 4.5, found
    state = chain.init(drawn(action, 4, seed).numpy(), make_streams(seed, "test", range(4)))
    once = chain.moved(state, state.x)
    again = chain.moved(once, state.x)
    assert not np.array_equal(once.log_w, again.log_w)


def test_gradients_are_those_of_each_transform_at_the_configurations_before_it(generator):
    """d/dw of the mean of S_k(T(x)) - log det T over the transforms, each at x as they come to it."""
    action, initial, layers, n_steps = FLOWS["phi4 with everything"]
    flow = built(action, initial, (layers[0], layers[2]), n_steps).requires_grad_(True)
    z, keys = batch = reverse_kl.draw(flow, action, 8, generator)
    reverse_kl.loss(flow, action, batch).loss.backward()
    streams = np.stack([keys.numpy().astype(np.uint64), np.zeros(8, np.uint64)], 1)
    x, wanted = z, []
    for k, (coupling, markov) in enumerate(zip(flow.layers[::2], flow.layers[1::2])):
        y, log_det = coupling.transform.forward(x)
        loss = (markov.kernel.action(y) - log_det).mean()
        wanted += torch.autograd.grad(loss, list(coupling.parameters()))
        x = markov.forward(y.detach(), split_streams(streams, 2 * k + 1)).x
    for weight, gradient in zip(flow.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-8, atol=1e-10)


def gradients(objective, flow, action, generator):
    """Of 200 batches, (200, n_weights)."""
    rows = []
    for _ in range(200):
        flow.zero_grad()
        objective(flow, action, 32, generator).loss.backward()
        rows.append(torch.cat([weight.grad.flatten() for weight in flow.parameters()]).numpy())
    return np.array(rows)


def test_the_path_gradient_is_that_of_the_mean_work_with_less_noise(generator):
    """Of the first transform, whose configurations are exactly those of S_0: later ones only take them for those."""
    action, initial, layers, _ = FLOWS["phi4 with everything"]
    flow = built(action, initial, (layers[0], layers[2]), 1).requires_grad_(True)
    total, path = (gradients(objective, flow, action, generator) for objective in (reverse_kl, path_gradient))
    flow.first = Phi4(0.8, 0.0)  # a score of other configurations than those that come
    wrong = gradients(path_gradient, flow, action, generator)

    def worst(other):
        error = np.sqrt((total.var(0) + other.var(0)) / len(total))
        return np.abs((total.mean(0) - other.mean(0))[error > 0] / error[error > 0]).max()

    assert worst(path) < 4.5
    assert worst(wrong) > 4.5
    moves = total.std(0) > 0
    assert np.median(path.std(0)[moves] / total.std(0)[moves]) < 0.8


def test_the_path_gradient_of_perfect_transforms_has_no_noise(generator):
    """The identity from S to S itself, with random steps between."""
    layers = (SITES, HEAT)
    flow = StochasticFlowPlan(SHAPE, SCALARS, layers=layers, initial={}, n_steps=2).build().double()
    path_gradient(flow, SCALARS, 8, generator).loss.backward()
    assert max(float(weight.grad.abs().max()) for weight in flow.parameters() if weight.grad is not None) < 1e-12
    reverse_kl(flow, SCALARS, 8, generator).loss.backward()
    assert max(float(weight.grad.abs().max()) for weight in flow.parameters() if weight.grad is not None) > 1e-3


CARD = """
seed = 1
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0
[flow]
name = "stochastic_flow"
n_steps = 2
initial = {{beta = 1.0}}
layers = [{layers}]
[training]
objective = "{objective}"
max_steps = 6
{more}
"""
GOOD = '{flow = "plaquette_coupling", n_layers = 4, hidden = [2]}, {sampler = "heatbath", n_updates = 2}'


def text(layers=GOOD, objective="reverse_kl", more=""):
    return CARD.format(layers=layers, objective=objective, more=more)


REFUSED = {
    "nothing": (text(layers=""), "must be an array of tables"),
    "two kinds": (text('{flow = "hybrid", sampler = "hmc"}'), "must have one of the keys flow, sampler, langevin"),
    "unknown flow": (text('{flow = "plaquette"}'), r"layers\[0\]: flow: unknown name 'plaquette'"),
    "unknown key": (text('{sampler = "heatbath", n_update = 2}'), "did you mean 'n_updates'"),
    "untuned": (text('{sampler = "hmc"}'), "give trajectory_length, n_md_steps: nothing is tuned inside a flow"),
    "of weights": (text('{sampler = "metadynamics", q_max = 2.0, n_md_steps = 2}'), "keeps no target in a single"),
    "of a flow": (text('{sampler = "flow_hmc", n_md_steps = 2}'), "needs a flow of its own"),
    "in steps": (text('{flow = "gradient_flow"}'), "is integrated, and its steps are not refined inside a flow"),
    "of sites": (text('{flow = "vector_coupling"}'), "layers"),
    "itself": (text('{flow = "stochastic_flow"}'), "is no transform; list its layers here"),
    "too many": (text('{sampler = "heatbath", n_updates = 60000}'), "layers make 120000 updates in 2 steps"),
    "infinite": (text("{langevin = inf}"), r"\[flow\]: layers\[0\]: langevin must be a step size"),
    "of integers": (
        text("{langevin = 0.1}").replace('name = "u1"', 'name = "ising"').replace("= 1.0}", "= 0.0}"),
        "Langevin steps move angles and real numbers, not the integers -1, 1",
    ),
    "groups": (text(objective="dreg"), "needs the inverse of the flow"),
    "negative": (text("{langevin = -0.1}"), "langevin = -0.1"),
    "inverse": (text(objective="reinforce"), "needs the inverse of the flow, which stochastic_flow does not have"),
    "no way back": (
        text('{sampler = "winding_hmc", n_md_steps = 2, n_windings = 1}', "forward_kl", 'data = "direct"'),
        "needs the paths of the flow",
    ),
    "latent": (
        text() + '[[ensemble]]\nname = "e"\nsampler = "flow_hmc"\n',
        "FlowHMC needs the inverse of the flow, which stochastic_flow does not have",
    ),
}


@pytest.mark.parametrize(("card", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_flow_is_refused_in_one_line(card, message):
    with pytest.raises(InputError, match=message) as told:
        parse_card(card)
    assert "\n" not in str(told.value)


class After:
    """Asks to stop at this call."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self):
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("objective", ["path_gradient", "reverse_kl", "forward_kl"])
def test_training_raises_the_ess_and_goes_on_to_the_same_bits(objective, tmp_path, generator, seed):
    action = WilsonU1(4.0)
    plan = StochasticFlowPlan(SHAPE, action, layers=(COUPLINGS, HEAT), initial={"beta": 1.0}, n_steps=2)

    def configurations(n, generator):
        return drawn(action, n, int(torch.randint(10**6, (1,), generator=generator)))

    data = None if objective != "forward_kl" else Drawn(configurations)
    settings = TrainingSettings(
        objective=objective, data=data and "direct", max_steps=60, monitor_samples=64, learning_rate=0.02
    )

    def trained(folder, *stops):
        for stop in (*stops, 10**9):
            flow = plan.build()
            train(flow, action, settings, folder, seed=1, header={}, data=data, should_stop=After(stop))
        return flow

    flow, again = trained(tmp_path / "whole"), trained(tmp_path / "stopped", 7, 20)
    for one, other in zip(flow.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    before, after = (effective_sample_size(evaluate(f, action, 4000, generator)).value for f in (plan.build(), flow))
    assert after > 1.3 * before


def test_a_card_trains_it_and_makes_chains_and_annealed_samples_of_the_same_path(tmp_path):
    card = (
        text()
        + """
[[ensemble]]
name = "metropolis"
sampler = "flow_metropolis"
n_chains = 2
n_configs = 50
[[ensemble]]
name = "annealed"
sampler = "annealed"
initial = {beta = 1.0}
n_steps = 4
kernel = {sampler = "heatbath"}
n_chains = 2
n_configs = 50
"""
    )
    (tmp_path / "card.toml").write_text(card)
    run(tmp_path / "card.toml", tmp_path / "run", (), Console(quiet=True))
    summary = json.loads((tmp_path / "run" / "report" / "summary.json").read_text())
    assert 0 < summary["flow"]["ess"] <= 1
    assert set(summary["ensembles"]) == {"metropolis", "annealed"}
