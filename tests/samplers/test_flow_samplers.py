"""Chains and weights made with a flow: exact whatever its quality."""

import numpy as np
import pytest
import torch
from cases import trained_flow

from lattice_flows.flows import plaquette_coupling
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, FlowHMC, FlowMetropolis, FlowSamples, Mixture, Part
from lattice_flows.statistics import effective_sample_size, gamma_method, log_partition, reliability, weighted_mean
from lattice_flows.theories import ExactU1, WilsonU1, sample_u1

SHAPE, BETA = (4, 4), 1.0


def begin(sampler, shape, beta, n_chains, seed):
    x, streams = sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains)))
    return sampler.init(x, streams)


def test_weights_of_the_states_are_those_of_their_proposals(seed):
    sampler = FlowMetropolis(WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection"), batch_size=64)
    state, _ = sampler.step(begin(sampler, SHAPE, BETA, 4, seed), 20)
    x = torch.from_numpy(state.x)
    expected = -WilsonU1(BETA)(x) - sampler.flow.log_prob(x)
    np.testing.assert_allclose(state.log_w, expected.numpy(), rtol=0, atol=1e-9)


def test_proposals_are_all_reported_once(seed):
    sampler = FlowMetropolis(WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection"), batch_size=30)
    state = begin(sampler, SHAPE, BETA, 3, seed)
    _, together = sampler.step(state, 25)  # three batches of ten rows
    parts = []
    for _ in range(25):
        state, info = sampler.step(state)
        parts.append(info)
    np.testing.assert_array_equal(together.proposal_log_w, np.concatenate([part.proposal_log_w for part in parts]))
    np.testing.assert_allclose(together.accepted, np.mean([part.accepted for part in parts], axis=0))
    np.testing.assert_array_equal(together.rejection_run, np.max([part.rejection_run for part in parts], axis=0))


def test_a_mixture_reports_the_proposals_of_all_its_parts_in_their_order(seed):
    """In a file they are one table of numbers, whatever chain they come from."""
    action, flow = WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection")
    proposing = FlowMetropolis(action, flow, batch_size=30)
    inner = Mixture(action, (Part(HMC(action, 1.0, 4)), Part(proposing)))
    sampler = Mixture(action, (Part(proposing, 2), Part(inner)))
    _, info = sampler.step(begin(sampler, SHAPE, BETA, 3, seed), 4)
    assert info.proposal_log_w.shape == (4 * (2 + 1), 3)
    assert [name for name in info._fields if "proposal" in name] == ["proposal_log_w"]
    twice = sampler.init(*sample_u1(BETA, *SHAPE, make_streams(seed, "test", range(3))))
    twice, first = sampler.step(twice, 1)
    np.testing.assert_array_equal(info.proposal_log_w[:3], first.proposal_log_w)
    np.testing.assert_array_equal(info.proposal_log_w[3:6], sampler.step(twice, 1)[1].proposal_log_w)


def test_an_accept_step_one_per_cent_off_is_caught(pulls, seed):
    flow = trained_flow((8, 4), BETA, "projection")
    size = {"shape": (8, 4), "n_chains": 40, "n_configs": 1500, "n_updates": 1, "seed": seed}
    wrong = pulls(FlowMetropolis(WilsonU1(1.01 * BETA), flow), action=WilsonU1(BETA), **size)
    assert max(map(abs, wrong.values())) > 4.5, wrong


def test_forced_rejection_repeats_the_state_and_counts(seed):
    """A state of enormous weight is never left."""
    sampler = FlowMetropolis(WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection"), batch_size=40)
    state, _ = sampler.step(begin(sampler, SHAPE, BETA, 2, seed), 20)  # all of a batch: a heavy start would be left
    state = state._replace(log_w=np.array([1e6, 1e6]), rejections=np.zeros(2, np.int64))
    later, info = sampler.step(state, 50)
    np.testing.assert_array_equal(later.x, state.x)
    np.testing.assert_array_equal(info.rejection_run, [50, 50])
    np.testing.assert_array_equal(sampler.step(later)[1].rejection_run, [51, 51])


@pytest.mark.parametrize("transform", ["projection", "spline"])
def test_latent_hmc_is_reversible_and_its_delta_h_scales_with_the_smoothness_of_the_map(transform, seed):
    """delta_h falls as step_size^2 on the smooth map; a spline is C^1 only, so its force jumps at the knots."""
    sampler = FlowHMC(WilsonU1(BETA), trained_flow(SHAPE, BETA, transform), 1.0, 8)
    state = begin(sampler, SHAPE, BETA, 64, seed)

    def size(n):
        # the median is not moved by the few chains whose forces are extreme
        _, info = FlowHMC(WilsonU1(BETA), sampler.flow, 0.5, n).step(state)
        return float(np.median(abs(info.delta_h)))

    per_halving = (size(32) / size(128)) ** 0.5
    assert 3.6 < per_halving < 4.4 if transform == "projection" else 1.5 < per_halving < 2.7

    from lattice_flows.samplers.integrators import INTEGRATORS, integrate

    z = torch.from_numpy(state.latent.x)
    momenta = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    end, p = integrate(sampler.pullback, z, momenta, INTEGRATORS["leapfrog"], 0.05, 6)
    back, _ = integrate(sampler.pullback, end, -p, INTEGRATORS["leapfrog"], 0.05, 6)
    torch.testing.assert_close(back, z, atol=1e-9, rtol=0)


def test_latent_mean_of_exp_minus_delta_h_is_one(seed):
    sampler = FlowHMC(WilsonU1(BETA), trained_flow(SHAPE, BETA, "spline"), 1.0, 16)
    state = begin(sampler, SHAPE, BETA, 300, seed)
    values = []
    for _ in range(8):
        state, info = sampler.step(state)
        values.append(np.exp(-info.delta_h))
    estimate = gamma_method(np.stack(values))
    assert abs(estimate.value - 1.0) < 4.5 * estimate.error


def test_configurations_of_flow_hmc_are_images_of_their_latents(seed):
    sampler = FlowHMC(WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection"), 1.0, 4)
    state, _ = sampler.step(begin(sampler, SHAPE, BETA, 3, seed), 2)
    again = sampler.init(state.x, state.latent.streams)
    np.testing.assert_allclose(np.exp(1j * again.latent.x), np.exp(1j * state.latent.x), rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.latent.action, state.latent.action, rtol=0, atol=1e-9)


def fresh_weights(action, flow, n, seed):
    sampler = FlowSamples(action, flow)
    state = sampler.init(np.zeros((8, *flow.prior.shape)), make_streams(seed, "test", range(8)))
    plaquettes, log_w = [], []
    from lattice_flows.theories.u1.kernels.fields import mean_plaquette

    for _ in range(n // 8):
        state, info = sampler.step(state)
        plaquettes.append(mean_plaquette(state.x))
        log_w.append(info.log_w)
    return np.concatenate(plaquettes), np.concatenate(log_w)


def test_an_untrained_flow_reweights_well_where_it_can_and_is_flagged_where_it_cannot(seed):
    near = plaquette_coupling((4, 4), n_layers=2).double().requires_grad_(False)
    for weight in near.parameters():
        weight.mul_(0.1)  # close to the identity
    plaquettes, log_w = fresh_weights(WilsonU1(0.3), near, 4096, seed)
    exact = ExactU1(0.3, 16)
    assert reliability(log_w).log_z
    assert effective_sample_size(log_w).value * log_w.size >= 200
    for estimate, truth in ((weighted_mean(plaquettes, log_w), exact.plaquette), (log_partition(log_w), exact.log_z)):
        assert abs(estimate.value - truth) < 4.5 * estimate.error
    wrong = ExactU1(0.36, 16)  # a planted error
    assert abs(weighted_mean(plaquettes, log_w).value - wrong.plaquette) > 4.5 * weighted_mean(plaquettes, log_w).error

    far = plaquette_coupling((16, 16), n_layers=2).double().requires_grad_(False)
    _, log_w = fresh_weights(WilsonU1(6.0), far, 1024, seed)
    assert not reliability(log_w).log_z


@pytest.mark.parametrize("sampler", [FlowMetropolis, FlowSamples])
def test_impossible_batches_are_refused(sampler):
    with pytest.raises(ValueError, match="batch_size"):
        sampler(WilsonU1(1.0), trained_flow(SHAPE, BETA, "projection"), 0)
