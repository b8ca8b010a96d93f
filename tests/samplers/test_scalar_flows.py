"""Chains and weights made with flows of scalar fields: exact whatever the flow's quality."""

import numpy as np
import pytest
import torch
from phi4_chain import Phi4Chain
from phi4_moments import differences, exact_moments, hot_start, moments, pulls
from scalar_cases import trained_scalar_flow

from lattice_flows.samplers import HMC, FlowHMC, FlowMetropolis
from lattice_flows.statistics import effective_sample_size, gamma_method, log_partition, reliability, weighted_mean
from lattice_flows.theories import Phi4
from lattice_flows.training import evaluate

RING = (8,)
RING_ACTION = Phi4(-2.0, 1.5)  # no quadratic term at a site: 1.5 phi^4, and neighbours that agree
SQUARE, SQUARE_ACTION = (4, 4), Phi4(-4.0, 8.0)
TRANSFORMS = pytest.mark.parametrize("transform", ["affine", "spline"])


def _thermalised(action, shape, n_chains, seed):
    """Chains after HMC: a flow knows little of a hot start, and a chain of its proposals would be held there."""
    noise, streams = hot_start(shape, n_chains, seed)
    state, _ = HMC(action, 1.0, 12).step(HMC(action, 1.0, 12).init(0.3 * noise, streams), 100)
    return state.x, state.streams


def _weighted(flow, action, n, generator):
    """Samples (n, *shape) of the flow, and their log weights."""
    with torch.no_grad():
        x, log_q = flow.sample(n, generator)
        return x.numpy(), (-action(x) - log_q).numpy()


@TRANSFORMS
def test_reweighted_samples_have_the_exact_moments_and_log_z(transform, generator):
    """A ring by its transfer matrix."""
    couplings = RING_ACTION.couplings(1)
    x, log_w = _weighted(trained_scalar_flow(RING, RING_ACTION, transform), RING_ACTION, 20_000, generator)
    assert effective_sample_size(log_w).value > 0.2
    assert reliability(log_w).log_z
    estimates = [weighted_mean(values, log_w) for values in moments(x)] + [log_partition(log_w)]
    exact = [*exact_moments(RING, *couplings), Phi4Chain(*couplings, RING[0]).log_z]
    assert abs(pulls(estimates, exact)).max() < 4.5
    other = Phi4(-2.0, 1.03 * 1.5).couplings(1)  # a planted error
    wrong = [*exact_moments(RING, *other), Phi4Chain(*other, RING[0]).log_z]
    assert abs(pulls(estimates, wrong)).max() > 4.5


@TRANSFORMS
def test_reweighted_samples_agree_with_hmc(transform, generator, seed):
    """At 4 x 4: <|M|>, <M^2> and the link energy."""
    action = SQUARE_ACTION
    x, log_w = _weighted(trained_scalar_flow(SQUARE, action, transform), action, 20_000, generator)
    assert reliability(log_w).log_z
    hmc = HMC(action, 1.0, 10)
    state = hmc.init(*_thermalised(action, SQUARE, 200, seed))

    def measured(phi):
        m = phi.mean(axis=(1, 2))
        link = np.mean([phi * np.roll(phi, -1, mu) for mu in (1, 2)], axis=0).mean(axis=(1, 2))
        return np.stack([abs(m), m**2, link])

    series = []
    for _ in range(300):
        state, _ = hmc.step(state)
        series.append(measured(state.x))
    chains = [gamma_method(values) for values in np.stack(series, axis=1)]
    assert min(one.n_eff for one in chains) > 5_000
    flow = [weighted_mean(values, log_w) for values in measured(x)]
    assert abs(differences(flow, chains)).max() < 4.5
    other = -Phi4(-4.0, 8.8)(torch.from_numpy(x)).numpy() + action(torch.from_numpy(x)).numpy()  # a planted error
    assert abs(differences([weighted_mean(values, log_w + other) for values in measured(x)], chains)).max() > 4.5


@TRANSFORMS
def test_flow_metropolis_is_exact_and_a_wrong_accept_step_is_caught(transform, seed):
    flow = trained_scalar_flow(RING, RING_ACTION, transform)

    def estimates(action):
        sampler = FlowMetropolis(action, flow, batch_size=400)
        state = sampler.init(*_thermalised(RING_ACTION, RING, 100, seed))
        series = []
        for _ in range(400):
            state, _ = sampler.step(state, 2)
            series.append(moments(state.x))
        return [gamma_method(values) for values in np.stack(series, axis=1)]

    exact = exact_moments(RING, *RING_ACTION.couplings(1))
    assert abs(pulls(estimates(RING_ACTION), exact)).max() < 4.5
    assert abs(pulls(estimates(Phi4(-2.0, 1.05 * 1.5)), exact)).max() > 4.5


@TRANSFORMS
def test_delta_h_in_latent_space_scales_with_the_smoothness_of_the_map(transform, seed):
    """As step_size^2 where the map is smooth; a spline is C^1 only, so its force jumps at the knots."""
    flow = trained_scalar_flow(SQUARE, SQUARE_ACTION, transform)
    sampler = FlowHMC(SQUARE_ACTION, flow, 1.0, 8)
    state = sampler.init(*_thermalised(SQUARE_ACTION, SQUARE, 64, seed))

    def size(n):
        # the median is not moved by the few chains whose forces are extreme
        _, info = FlowHMC(SQUARE_ACTION, flow, 0.5, n).step(state)
        return float(np.median(abs(info.delta_h)))

    per_halving = (size(32) / size(128)) ** 0.5
    assert 3.6 < per_halving < 4.4 if transform == "affine" else 1.5 < per_halving < 3.4


@TRANSFORMS
def test_latent_hmc_is_exact(transform, seed):
    sampler = FlowHMC(RING_ACTION, trained_scalar_flow(RING, RING_ACTION, transform), 1.0, 5)
    state = sampler.init(*_thermalised(RING_ACTION, RING, 100, seed))
    series, exponentials = [], []
    for _ in range(50):
        state, info = sampler.step(state)
        series.append(moments(state.x))
        exponentials.append(np.exp(-info.delta_h))
    estimates = [gamma_method(values) for values in np.stack(series, axis=1)]
    assert abs(pulls(estimates, exact_moments(RING, *RING_ACTION.couplings(1)))).max() < 4.5
    one = gamma_method(np.stack(exponentials))
    assert abs(one.value - 1.0) < 4.5 * one.error


def test_training_brings_the_weights_together(generator):
    """The default flow begins at the free field, and a few seconds of training bring the ESS from there up."""
    flow = trained_scalar_flow(SQUARE, SQUARE_ACTION, "spline")
    assert effective_sample_size(evaluate(flow, SQUARE_ACTION, 4096, generator)).value > 0.8
