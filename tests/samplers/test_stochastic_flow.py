"""Stochastic flows: exact weights, and exact chains on the space of paths."""

import numpy as np
import pytest
from stochastic_cases import FLOWS, LINKS, SHAPE, built, drawn

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowMetropolis, HeatBath, Mixture, Part
from lattice_flows.samplers.path_layers import Deterministic, Langevin, Step
from lattice_flows.statistics import bennett, effective_sample_size, log_partition
from lattice_flows.training import evaluate, evaluate_on

each_flow = pytest.mark.parametrize(("action", "initial", "layers", "n_steps"), FLOWS.values(), ids=FLOWS)


def pull_of_z(flow, action, generator, n=5000):
    log_w = evaluate(flow, action, n, generator)
    assert effective_sample_size(log_w).value > 0.05, "or the test tells nothing"
    value, error = log_partition(log_w)
    return (value - action.closed_forms(SHAPE).log_z) / error


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
