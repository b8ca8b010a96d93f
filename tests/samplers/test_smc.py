"""Sequential Monte Carlo: Z of populations, weights forgotten or counted twice, and errors that know of ancestors."""

from dataclasses import replace

import numpy as np
import pytest
from stochastic_cases import resampling_faults

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, SMC, HeatBath, Tempering, populations
from lattice_flows.samplers.annealing_path import AnnealingPath
from lattice_flows.samplers.populations import n_effective, redrawn, resampled, uneven
from lattice_flows.statistics import effective_sample_size, log_partition, population_log_w, reweighted
from lattice_flows.theories import XY, Phi4, WilsonU1

N = 16  # particles
SMALL = SMC(WilsonU1(2.0), HeatBath, {"beta": 0.3}, N, 6, (0.0, 1.0))
CASES = {
    "u1 4x4": (SMALL, (4, 4)),
    "u1 4x4, never resampled": (replace(SMALL, resample_below=0.0), (4, 4)),
    "u1 4x4, always resampled": (replace(SMALL, resample_below=1.0), (4, 4)),
    "u1 8x8, another protocol": (SMC(WilsonU1(1.5), HeatBath, {"beta": 0.7}, N, 6, (0.0, 0.7, 0.8, 1.0)), (8, 8)),
    "u1 8x8, always": (SMC(WilsonU1(1.5), lambda a: HMC(a, 1.0, 3), {"beta": 0.7}, N, 6, (0.0, 1.0), 1.0), (8, 8)),
    "phi4 8x8": (SMC(Phi4(0.3, 0.0), HeatBath, {"m2": 0.5}, N, 6, (0.0, 0.5, 1.0), 0.9), (8, 8)),
}
N_POPULATIONS = 400


def particles(sampler, shape, n, seed, name="test"):
    """The particles of n populations, and their log w."""
    streams = make_streams(seed, name, range(n * sampler.n_particles))
    return sampler.samples(streams, sampler.action.event_shape(shape))


def pull_of_z(sampler, shape, seed, n=N_POPULATIONS):
    """How far the mean over populations of their mean weight is from Z, in errors, by the spread of populations."""
    _, log_w = particles(sampler, shape, n, seed)
    value, error = log_partition(population_log_w(log_w[None], sampler.n_particles)[0])
    return (value - sampler.action.closed_forms(shape).log_z) / error


@pytest.mark.parametrize(("sampler", "shape"), CASES.values(), ids=CASES)
def test_the_mean_weight_of_populations_is_z(sampler, shape, seed, monkeypatch):
    times = []
    monkeypatch.setattr(populations, "resampled", lambda *given: times.append(1) or resampled(*given))
    assert abs(pull_of_z(sampler, shape, seed)) < 4.5
    log_z = population_log_w(particles(sampler, shape, N_POPULATIONS, seed)[1][None], N)[0]
    assert effective_sample_size(log_z).value > 0.2, "or the test tells nothing"
    share = 0.5 * len(times) / (N_POPULATIONS * sampler.n_steps)
    assert share == sampler.resample_below if sampler.resample_below in (0, 1) else 0.05 < share < 0.95


@resampling_faults
def test_weights_that_are_wrong_after_resampling_are_caught(fault, seed, monkeypatch):
    monkeypatch.setattr(populations, "resampled", fault)
    assert abs(pull_of_z(SMALL, (4, 4), seed)) > 4.5


def test_work_taken_after_the_update_is_caught(seed, monkeypatch):
    work, update = AnnealingPath.work, AnnealingPath.update
    pending = {}

    def moved_first(self, k, x):
        pending[k] = update(self, k, x, pending["streams"])
        return work(self, k, pending[k])

    step = SMC._step

    def told(self, path, k, x, log_w, streams, chance):
        pending["streams"] = streams
        return step(self, path, k, x, log_w, streams, chance)

    never = replace(SMALL, resample_below=0.0)
    assert abs(pull_of_z(never, (4, 4), seed)) < 4.5
    monkeypatch.setattr(SMC, "_step", told)
    monkeypatch.setattr(AnnealingPath, "work", moved_first)
    monkeypatch.setattr(AnnealingPath, "update", lambda self, k, x, streams: pending[k])
    assert abs(pull_of_z(never, (4, 4), seed)) > 4.5


@pytest.mark.quick
def test_systematic_resampling(rng):
    """Each is drawn n w times, rounded up or down; on average over u exactly so, and none of weight zero."""
    log_w = np.append(rng.normal(size=9), [-np.inf, -np.inf])
    w = np.exp(log_w) / np.exp(log_w).sum()
    counts = np.array([np.bincount(resampled(log_w, u)[0], minlength=11) for u in (np.arange(1000) + 0.5) / 1000])
    assert np.abs(counts - 11 * w).max() < 1.0
    np.testing.assert_allclose(counts.mean(0), 11 * w, atol=0.01)
    assert not counts[:, 9:].any()
    np.testing.assert_allclose(resampled(log_w, 0.5)[1], np.log(np.exp(log_w).mean()))
    assert resampled(np.array([0.0, -np.inf, -np.inf]), 1.0 - 2**-53)[0].tolist() == [0, 0, 0]
    assert n_effective(np.full(7, -800.0)) == pytest.approx(7.0)


@pytest.mark.parametrize(("n_particles", "caught"), [(32, False), (1, True)])
def test_errors_are_those_of_populations(n_particles, caught, seed):
    """Pulls of the plaquette over repeated runs of 40 populations have unit variance, and a larger one with the errors
    of independent particles: those with an ancestor in common are almost the same, as the updates hardly move them."""
    sampler = SMC(WilsonU1(1.4), lambda a: HMC(a, 0.05, 1), {"beta": 1.0}, 32, 4, (0.0, 1.0), 1.0)
    n_runs, n_configs, n_sets = 150, 20, 2
    x, log_w = particles(sampler, (4, 4), n_runs * n_configs * n_sets, seed)
    values = np.cos(x[:, 0] + np.roll(x[:, 1], -1, 1) - np.roll(x[:, 0], -1, 2) - x[:, 1]).mean((1, 2))
    truth = sampler.action.closed_forms((4, 4)).plaquette
    pulls = []
    for w, plaquette in zip(*(a.reshape(n_runs, n_configs, -1) for a in (log_w, values)), strict=True):
        found = reweighted(plaquette, w, n_particles=n_particles)
        pulls.append((found.value - truth) / found.error)
    rms = float(np.sqrt(np.mean(np.square(pulls))))
    assert (abs(rms - 1.0) > 0.3) == caught, rms  # of 150 pulls, known to 6 %


def test_the_bits_do_not_depend_on_how_populations_are_grouped(seed):
    """Into jobs of whole populations, and into updates."""
    start, streams = np.zeros((3 * N, 2, 4, 4)), make_streams(seed, "test", range(3 * N))
    state, info = SMALL.step(SMALL.init(start, streams), 2)
    for k in range(3):
        ours = slice(k * N, (k + 1) * N)
        one = SMALL.init(start[ours], streams[ours])
        for update in range(2):
            one, told = SMALL.step(one)
            np.testing.assert_array_equal(told.proposal_log_w[0], info.proposal_log_w[update, ours])
        np.testing.assert_array_equal(one.x, state.x[ours])


def test_tuning_finds_protocol_and_kernel(seed):
    open_ = SMC(WilsonU1(3.0), HMC, {"beta": 0.5}, N, 8)
    tuned = open_.tune(open_.init(np.zeros((8, 2, 4, 4)), make_streams(seed, "tune", range(8))), 64)
    assert not open_.tuned
    assert tuned.tuned
    assert tuned.inner[0].n_md_steps is not None
    assert open_.with_findings(tuned.findings()).findings() == tuned.findings()
    assert abs(pull_of_z(tuned, (4, 4), seed)) < 4.5


CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0
[[ensemble]]
name = "a"
sampler = "smc"
n_chains = 128
{keys}
"""
PATH = 'kernel = {sampler = "heatbath"}\ninitial = {beta = 1.0}\n'
REFUSED = {
    "no initial": ('kernel = {sampler = "heatbath"}', "the key 'initial' is missing"),
    "no kernel": ("initial = {beta = 1.0}", "the key 'kernel' is missing"),
    "no steps": (PATH + "n_steps = 0", "n_steps must be between 1 and"),
    "a particle": (PATH + "n_particles = 1", "n_particles must be between 2 and 100000, got 1"),
    "half a population": (PATH + "n_particles = 100", "n_chains = 128: must be a multiple of 100"),
    "beyond always": (PATH + "resample_below = 1.5", "resample_below must be between 0 and 1, got 1.5"),
    "not a number": (PATH + "resample_below = nan", "resample_below must be between 0 and 1, got nan"),
    "falling": (PATH + "protocol = [0.0, 0.5, 0.4, 1.0]", "protocol must hold"),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_population_is_refused_in_one_line(keys, message):
    with pytest.raises(InputError, match=message) as told:
        parse_card(CARD.format(keys=keys))
    assert "\n" not in str(told.value)


def test_a_ladder_is_no_kernel():
    with pytest.raises(ValueError, match="kernel: Tempering keeps no target in a single update"):
        SMC(XY(1.0), lambda a: Tempering(a, HeatBath, values=(a.beta, 0.5)), {"beta": 0.0})


@pytest.mark.quick
def test_a_particle_without_a_number_for_its_weight_is_one_of_weight_zero():
    """It neither keeps its population from being drawn anew nor is drawn; without any weight nothing can be drawn."""
    for nothing in (np.nan, -np.inf):
        log_w = np.array([0.0, -50.0, -60.0, nothing])
        assert uneven(log_w, 1.0)
        ancestors, new = redrawn(log_w, make_streams(1, "chance", range(4)))
        assert set(ancestors) == {0}
        np.testing.assert_allclose(new, -np.log(4.0))
        assert not uneven(np.full(4, nothing), 1.0)
