"""Training of stochastic flows: what its gradients are, and that it learns and goes on to the bit."""

import numpy as np
import pytest
import torch
from stochastic_cases import COUPLINGS, FLOWS, HEAT, SCALARS, SHAPE, SITES, built, drawn

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers import StochasticFlowPlan
from lattice_flows.statistics import effective_sample_size
from lattice_flows.theories import Phi4, WilsonU1
from lattice_flows.training import Drawn, TrainingSettings, evaluate, path_gradient, reverse_kl, train


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
