"""Populations through a stochastic flow: Z whatever the flow, faults in their bookkeeping, and bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stochastic_cases import FLOWS, LINKS, SHAPE, built, resampling_faults

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import PlaquetteMapFlow, plaquette_coupling
from lattice_flows.kernels.random import make_streams, split_streams
from lattice_flows.samplers import (
    HMC,
    SMC,
    FlowSamples,
    FlowSMC,
    HeatBath,
    MarkovLayer,
    StochasticFlowPlan,
    TransformLayer,
    flow_smc,
    populations,
)
from lattice_flows.samplers.path_layers import Deterministic, Step
from lattice_flows.samplers.populations import resampled
from lattice_flows.statistics import effective_sample_size, log_partition, population_log_w, reweighted
from lattice_flows.theories import WilsonU1

N = 16  # particles
N_POPULATIONS = 150
MAPS = TransformLayer(lambda action: PlaquetteMapFlow(SHAPE, n_bins=4))
HOT = {"beta": 0.3}


def agitated(action, initial, layers, n_steps, size):
    """A flow with random weights of this size."""
    flow = StochasticFlowPlan(SHAPE, action, layers=layers, initial=initial, n_steps=n_steps).build().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return flow.requires_grad_(False)


def of_maps(size=0.1, n_steps=4, kernel=HeatBath):
    return agitated(LINKS, HOT, (MAPS, MarkovLayer(kernel)), n_steps, size)


def drawn(sampler, n, seed, name="test"):
    """The particles of n populations, and their log w."""
    streams = make_streams(seed, name, range(n * sampler.n_particles))
    return sampler.samples(streams, sampler.action.event_shape(SHAPE))


def estimates(sampler, seed, n=N_POPULATIONS):
    """log of the mean weight of each of n populations."""
    return population_log_w(drawn(sampler, n, seed)[1][None], sampler.n_particles)[0]


def pull_of_z(sampler, seed, n=N_POPULATIONS):
    """How far the mean over populations of their mean weight is from Z, in errors, by the spread of populations."""
    log_w = estimates(sampler, seed, n)
    assert effective_sample_size(log_w).value > 0.15, "or the test tells nothing"
    value, error = log_partition(log_w)
    return (value - sampler.action.closed_forms(SHAPE).log_z) / error


CASES = {
    "never": (lambda: FlowSMC(LINKS, of_maps(), N, 0.0), (0.0, 0.0)),
    "below half": (lambda: FlowSMC(LINKS, of_maps(), N), (0.05, 0.95)),
    "always": (lambda: FlowSMC(LINKS, of_maps(), N, 1.0), (1.0, 1.0)),
    "far from trained": (lambda: FlowSMC(LINKS, of_maps(0.15), N, 0.7), (0.05, 1.0)),
    "untrained": (lambda: FlowSMC(LINKS, of_maps(0.0), N, 0.7), (0.05, 0.95)),
    "couplings": (lambda: FlowSMC(LINKS, built(*FLOWS["couplings and heat bath"]), N, 0.9), (0.05, 1.0)),
    "langevin": (lambda: FlowSMC(LINKS, built(*FLOWS["langevin on links"]), N, 0.9), (0.05, 1.0)),
    "phi4": (
        lambda: FlowSMC(FLOWS["phi4 with everything"][0], built(*FLOWS["phi4 with everything"]), N, 0.9),
        (0.05, 1),
    ),
}


@pytest.mark.parametrize(("sampler", "shares"), CASES.values(), ids=CASES)
def test_the_mean_weight_of_populations_is_z(sampler, shares, seed, monkeypatch):
    sampler, times = sampler(), []
    monkeypatch.setattr(populations, "resampled", lambda *given: times.append(1) or resampled(*given))
    assert abs(pull_of_z(sampler, seed)) < 4.5
    n_random = sum(not isinstance(layer, Deterministic) for layer in sampler.flow.layers)
    assert shares[0] <= len(times) / (N_POPULATIONS * n_random) <= shares[1]


@resampling_faults
def test_weights_that_are_wrong_after_resampling_are_caught(fault, seed, monkeypatch):
    monkeypatch.setattr(populations, "resampled", fault)
    log_w = estimates(FlowSMC(LINKS, of_maps(0.0), N, 0.8), seed)
    value, error = log_partition(log_w)
    assert abs(value - LINKS.closed_forms(SHAPE).log_z) > 4.5 * error


def test_log_dets_that_are_left_out_are_caught(seed, monkeypatch):
    def without(self, x, streams):
        return Step(self.transform.forward(x)[0], x.new_zeros(len(x)))

    sampler = FlowSMC(LINKS, of_maps(), N)
    assert abs(pull_of_z(sampler, seed)) < 4.5
    monkeypatch.setattr(Deterministic, "forward", without)
    assert abs(pull_of_z(sampler, seed)) > 4.5


def test_a_flow_that_ends_at_another_action_is_corrected_or_caught(seed):
    """Weights are those for the sampler's target, which need not be where the flow was led to."""
    target = WilsonU1(1.3)
    sampler = FlowSMC(target, of_maps(0.0), N)
    assert abs(pull_of_z(sampler, seed)) < 4.5
    value, error = log_partition(estimates(sampler, seed))
    assert abs(value - LINKS.closed_forms(SHAPE).log_z) > 4.5 * error


def test_without_resampling_it_is_the_flow(seed):
    """To the bit: the same latents and noise, through the same layers."""
    flow, streams = built(*FLOWS["couplings and heat bath"]), make_streams(seed, "test", range(N))
    x, log_w = FlowSMC(LINKS, flow, N, 0.0).samples(streams, LINKS.event_shape(SHAPE))
    z, keys = flow.prior.drawn(split_streams(streams, 0)), split_streams(streams, 1)[:, 0]
    with torch.no_grad():
        found = flow.image(z, torch.from_numpy(keys.astype(np.int64)))
    np.testing.assert_array_equal(found.x.numpy(), x)
    np.testing.assert_array_equal(-LINKS.evaluate(x) - found.log_q.numpy(), log_w)


def test_without_resampling_its_weights_are_distributed_as_those_of_flow_samples(seed):
    flow, n = of_maps(), 2000
    _, own = drawn(FlowSMC(LINKS, flow, N, 0.0), n // N, seed)
    others = FlowSamples(LINKS, flow)
    state = others.init(np.zeros((n, 2, *SHAPE)), make_streams(seed, "others", range(n)))
    _, told = others.step(state)
    for power in (1, 2):
        one, other = own**power, told.log_w**power
        assert abs(one.mean() - other.mean()) < 4.5 * np.hypot(one.std(), other.std()) / n**0.5


def test_without_transforms_it_is_smc(seed):
    """Effective numbers, resampled alike: log Z of populations fluctuates as that of `SMC` with the same path."""
    flow = agitated(LINKS, HOT, (MarkovLayer(HeatBath),), 6, 0.0)
    one, n = estimates(FlowSMC(LINKS, flow, N), seed, 300), 300
    path = SMC(LINKS, HeatBath, HOT, N, 6, (0.0, 1.0))
    other = population_log_w(drawn(path, n, seed, "smc")[1][None], N)[0]
    assert abs(one.mean() - other.mean()) < 4.5 * np.hypot(one.std(), other.std()) / n**0.5
    assert abs(np.log(one.std() / other.std())) < 4.5 / n**0.5  # of normal ones known to (2 n)^(-1/2) each


def test_errors_are_those_of_populations(seed):
    """Pulls of the plaquette over repeated runs of 40 populations, and too large ones by errors of particles: those
    with an ancestor in common are almost the same, as the updates hardly move them."""
    flow = agitated(LINKS, {"beta": 1.0}, (MarkovLayer(lambda action: HMC(action, 0.05, 1)),), 3, 0.0)
    n_runs, n_configs, n_sets = 40, 20, 2
    x, log_w = drawn(FlowSMC(LINKS, flow, N, 1.0), n_runs * n_configs * n_sets, seed)
    values = np.cos(x[:, 0] + np.roll(x[:, 1], -1, 1) - np.roll(x[:, 0], -1, 2) - x[:, 1]).mean((1, 2))
    truth, pulls = LINKS.closed_forms(SHAPE).plaquette, {}
    for n_particles in (N, 1):
        runs = zip(*(a.reshape(n_runs, n_configs, -1) for a in (log_w, values)), strict=True)
        found = [reweighted(plaquette, w, n_particles=n_particles) for w, plaquette in runs]
        pulls[n_particles] = float(np.sqrt(np.mean([((one.value - truth) / one.error) ** 2 for one in found])))
    assert abs(pulls[N] - 1.0) < 0.5  # of 40 pulls, known to 11 %
    assert pulls[1] > 1.5


@pytest.mark.parametrize("name", ["couplings and heat bath", "phi4 with everything"])
def test_the_bits_do_not_depend_on_how_populations_are_grouped(name, seed):
    """Into jobs of whole populations, and into updates; also through networks."""
    action, *rest = FLOWS[name]
    sampler = FlowSMC(action, built(action, *rest), N, 0.9)
    start, streams = np.zeros((3 * N, *action.event_shape(SHAPE))), make_streams(seed, "test", range(3 * N))
    state, info = sampler.step(sampler.init(start, streams), 2)
    for k in range(3):
        ours = slice(k * N, (k + 1) * N)
        one = sampler.init(start[ours], streams[ours])
        for update in range(2):
            one, told = sampler.step(one)
            np.testing.assert_array_equal(told.proposal_log_w[0], info.proposal_log_w[update, ours])
        np.testing.assert_array_equal(one.x, state.x[ours])


def test_large_populations_go_through_the_layers_in_parts(seed, monkeypatch):
    """With the same numbers, but for the rounding of networks."""
    sampler, streams = FlowSMC(LINKS, of_maps(), N, 0.9), make_streams(seed, "test", range(N))
    x, log_w = sampler.samples(streams, LINKS.event_shape(SHAPE))
    monkeypatch.setattr("lattice_flows.samplers.proposals._ON_CPU", 5 * x[0].size)
    in_parts = sampler.samples(streams, LINKS.event_shape(SHAPE))
    np.testing.assert_allclose(in_parts[0], x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(in_parts[1], log_w, rtol=0, atol=1e-9)


@pytest.mark.quick
def test_start_layers_and_chance_have_streams_of_their_own(seed, monkeypatch):
    """No key of a random stream is used twice in a population."""
    flow, keys = of_maps(n_steps=2), []

    def told(call):
        return lambda *given: keys.extend(given[-1][:, 0].tolist()) or call(*given)

    monkeypatch.setattr(flow_smc, "redrawn", told(flow_smc.redrawn))
    monkeypatch.setattr(flow.prior, "drawn", told(flow.prior.drawn))
    for layer in flow.layers:
        monkeypatch.setattr(layer, "forward", told(layer.forward))
    FlowSMC(LINKS, flow, N, 1.0).samples(make_streams(seed, "test", range(N)), LINKS.event_shape(SHAPE))
    assert len(keys) == len(set(keys)) == N * (1 + 4 + 2)


CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0
[flow]
name = "stochastic_flow"
initial = {{beta = 1.0}}
layers = [{{sampler = "heatbath"}}]
[[ensemble]]
name = "a"
sampler = "flow_smc"
n_chains = 128
{keys}
"""
REFUSED = {
    "a particle": ("n_particles = 1", "n_particles must be between 2 and 100000, got 1"),
    "half a population": ("n_particles = 100", "n_chains = 128: must be a multiple of 100"),
    "beyond always": ("resample_below = 1.5", "resample_below must be between 0 and 1, got 1.5"),
    "not a number": ("resample_below = nan", "resample_below must be between 0 and 1, got nan"),
}


@pytest.mark.quick
@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_population_is_refused_in_one_line(keys, message):
    with pytest.raises(InputError, match=message) as told:
        parse_card(CARD.format(keys=keys))
    assert "\n" not in str(told.value)


@pytest.mark.quick
def test_other_flows_and_other_lattices_are_refused(seed):
    streams = make_streams(seed, "test", range(2))
    with pytest.raises(ValueError, match="flow_smc is for stochastic flows"):
        FlowSMC(LINKS, plaquette_coupling(SHAPE)).init(np.zeros((2, 2, 4, 4)), streams)
    with pytest.raises(ValueError, match=r"configurations of \[2, 4, 4\], got some of \[2, 4, 8\]"):
        FlowSMC(LINKS, of_maps()).init(np.zeros((2, 2, 4, 8)), streams)


@pytest.mark.quick
def test_memory_is_told_before_it_is_taken():
    one, many = FlowSMC(LINKS, of_maps(), 2), FlowSMC(LINKS, of_maps(), 1000)
    assert one.least_bytes(1000, (2, 4, 4), 1) == 8 * (1000 * 32 + 2 * 32 + 1000)
    assert many.least_bytes(1000, (2, 4, 4), 1) == 8 * (1000 * 32 + 1000 * 32 + 1000)
    assert replace(many, resample_below=0.0).tuned
