"""What kicks flow-HMC: any force, a clipped one, or none; and the part of a Gaussian prior, rotated exactly."""

import math

import numpy as np
import pytest
import torch
from cases import trained_flow

from lattice_flows.flows import Chain, Flow, FreeFieldPrior, GaussianPrior, HaarU1, LatentAction
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, FlowHMC
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import Phi4, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels.fields import mean_plaquette

PRIORS = [GaussianPrior((6,), 0.7), FreeFieldPrior((4, 6), 0.3), FreeFieldPrior((6,), 0.2, 0.4)]


@pytest.mark.parametrize("prior", PRIORS, ids=["sites", "free field", "free field, hop"])
def test_white_noise_stands_for_a_gaussian_prior(prior, seed):
    noise = torch.randn((5, *prior.shape), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    z = prior.coloured(noise)
    torch.testing.assert_close(prior.whitened(z), noise, atol=1e-12, rtol=0)
    rest = prior.log_prob(z) + 0.5 * noise.square().flatten(1).sum(1)
    torch.testing.assert_close(rest, rest[:1].expand(5), atol=1e-11, rtol=0)
    torch.testing.assert_close(prior.sample(5, torch.Generator().manual_seed(seed)), z, atol=1e-13, rtol=0)


def begun(sampler, shape, n_chains, seed):
    x, streams = sampler.action.hot(make_streams(seed, "test", range(n_chains)), shape)
    return sampler.init(x, streams)


@pytest.mark.parametrize("force", ["none", "clipped", "full"])
def test_of_a_perfect_flow_every_trajectory_is_accepted(force, seed):
    """The free field as its own flow: rotations are exact, whatever their length, and nothing is left to kick."""
    action, flow = Phi4(0.3, 0.0), Flow(FreeFieldPrior((4, 6), 0.3), Chain())
    steps = {} if force == "none" else {"n_md_steps": 3, "clip": 0.2}
    sampler = FlowHMC(action, flow, 3.0, force=force, **steps)
    state = begun(sampler, (4, 6), 20, seed)
    moved, info = sampler.step(state, 3)
    np.testing.assert_allclose(info.delta_h, 0.0, atol=1e-9)
    np.testing.assert_array_equal(info.accepted, 1.0)
    assert abs(np.corrcoef(moved.x.ravel(), state.x.ravel())[0, 1]) < 0.5
    plain = FlowHMC(action, flow, 3.0, 3, force="total")  # straight drifts with the whole force: not exact
    assert np.abs(plain.step(begun(plain, (4, 6), 20, seed))[1].delta_h).max() > 0.01


def test_a_clip_is_of_every_component_and_of_the_residual_force_only(seed):
    flow = Flow(GaussianPrior((6,), 0.7), Chain())
    y = torch.randn((4, 6), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    action = Phi4(0.5, 0.2)
    total = Phi4.force(action, 0.7 * y) * 0.7
    residual = total + y
    torch.testing.assert_close(LatentAction(action, flow, math.inf).force(y), residual, atol=1e-11, rtol=0)
    torch.testing.assert_close(LatentAction(action, flow, 0.3).force(y), residual.clamp(-0.3, 0.3), atol=1e-11, rtol=0)
    assert not LatentAction(action, flow, 0.0).force(y).any()


def test_without_a_force_a_long_drift_is_an_independent_proposal(seed):
    """It accepts as the flow's own samples do, in expectation, and forgets where it was."""
    flow = trained_flow((4, 4), 1.0, "projection")
    sampler = FlowHMC(WilsonU1(1.0), flow, 16.0, force="none")
    x, streams = sample_u1(1.0, 4, 4, make_streams(seed, "test", range(200)))
    state, rows, accepted = sampler.init(x, streams), [], []
    for _ in range(60):
        state, info = sampler.step(state)
        rows.append(mean_plaquette(state.x))
        accepted.append(info.accepted.mean())
    rate = gamma_method(np.array(accepted))
    with torch.no_grad():
        drawn = flow.sample(20000, torch.Generator().manual_seed(seed))
        log_w = (-WilsonU1(1.0)(drawn.x) - drawn.log_q).numpy()
    rng = np.random.default_rng(seed)
    start = rng.choice(log_w, 200_000, p=np.exp(log_w - log_w.max()) / np.exp(log_w - log_w.max()).sum())
    pairs = np.exp(np.minimum(0.0, rng.choice(log_w, 200_000) - start))
    error = math.hypot(rate.error, pairs.std() / math.sqrt(20_000))
    assert abs(rate.value - pairs.mean()) < 4.5 * error
    assert gamma_method(np.array(rows)).tau_int < 1.0 / rate.value + 0.5


def test_tuning_takes_no_force_where_it_is_cheapest_and_one_where_the_flow_is_poor(seed):
    good = FlowHMC(WilsonU1(1.0), trained_flow((4, 4), 1.0, "projection"))
    found = good.tune(begun(good, (2, 4, 4), 8, seed), 80)
    assert found.force == "none"
    assert found.tuned
    assert found.findings() == {"force": "none", "trajectory_length": found.trajectory_length, "n_md_steps": 1}
    assert good.with_findings({"clip": None, **found.findings()}) == found
    poor = FlowHMC(WilsonU1(2.0), Flow(HaarU1((2, 6, 6)), Chain()))  # the identity: no drift is ever accepted
    found = poor.tune(begun(poor, (2, 6, 6), 8, seed), 80)
    assert found.force in ("clipped", "full")
    assert found.n_md_steps > 1


def test_on_angles_the_whole_force_is_the_full_one(seed):
    flow = trained_flow((4, 4), 1.0, "projection")
    x, streams = sample_u1(1.0, 4, 4, make_streams(seed, "test", range(5)))
    ends = []
    for force in ("full", "total"):
        sampler = FlowHMC(WilsonU1(1.0), flow, 1.0, 3, force=force)
        ends.append(sampler.step(sampler.init(x, streams), 2)[0].x)
    np.testing.assert_allclose(np.exp(1j * ends[0]), np.exp(1j * ends[1]), atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"force": "some"}, "force must be none, clipped, full or total"),
        ({"force": "none", "n_md_steps": 3}, "without a force a trajectory is one drift"),
        ({"force": "clipped", "clip": -1.0}, "clip must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FlowHMC(WilsonU1(1.0), Flow(HaarU1((2, 4, 4)), Chain()), **options)


def test_plain_hmc_is_not_touched(seed):
    """Its trajectories in torch are those of before: drawn lengths, momenta, test, in this order."""
    flow = Flow(HaarU1((2, 4, 4)), Chain())
    x, streams = sample_u1(1.0, 4, 4, make_streams(seed, "test", range(5)))
    latent = FlowHMC(WilsonU1(1.0), flow, 1.0, 4)
    plain = HMC(WilsonU1(1.0), 1.0, 4)
    one, _ = latent.step(latent.init(x, streams))
    other, _ = plain.step(plain.init(x, streams))
    np.testing.assert_allclose(np.exp(1j * one.x), np.exp(1j * other.x), atol=1e-10)
