"""Metadynamics: the bias is built and then kept, reweighting is exact, the charge moves, planted errors are caught."""

import json
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from lattice_flows.estimates.chain_diagnostics import short_build
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, SAMPLERS
from lattice_flows.samplers.metadynamics import Metadynamics
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.statistics import gamma_method, reweighted
from lattice_flows.theories import ExactU1, Phi4, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import biased_hmc as biased_hmc_u1
from lattice_flows.theories.u1.kernels import fields as u1


def begin(sampler, shape, n_chains, seed):
    x, streams = sample_u1(sampler.action.beta, *shape, make_streams(seed, "test", range(n_chains)))
    return sampler.init(x, streams)


def built(sampler, shape, n_chains, n_thermalisation, seed):
    """Chains with a bias from direct starts, in equilibrium under it."""
    state = begin(sampler, shape, n_chains, seed)
    for k in range(n_thermalisation):
        state = sampler.thermalise(state, k / n_thermalisation)
    return sampler.step(state, 100)[0]


def produced(sampler, state, n_configs, n_updates):
    series = {"log_w": [], "plaquette": [], "charge": [], "smooth_charge": []}
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        series["log_w"].append(info.log_w)
        series["plaquette"].append(u1.mean_plaquette(state.x))
        series["charge"].append(np.rint(u1.topological_charge(state.x)))
        series["smooth_charge"].append(info.smooth_charge)
    return state, {name: np.array(values) for name, values in series.items()}


def weighted_mean(values, log_w):
    """<w O> / <w> and its error by the jackknife over the chains, which are independent, each with its own bias.

    The automatic window of the Gamma method ends too early for the charge: weights hide its slowest mode.
    """
    w = np.exp(log_w - log_w.max())
    sums, weights = (w * values).sum(0), w.sum(0)
    without = (sums.sum() - sums) / (weights.sum() - weights)
    return sums.sum() / weights.sum(), float(np.sqrt((without.size - 1) * without.var()))


def pulls(series, exact, log_w=None):
    log_w = series["log_w"] if log_w is None else log_w
    truth = {
        "plaquette": (series["plaquette"], exact.plaquette),
        "charge": (series["charge"], 0.0),
        "charge squared": (series["charge"] ** 2, exact.charge_squared),
    }
    found = {name: (*weighted_mean(values, log_w), value) for name, (values, value) in truth.items()}
    return {name: (mean - value) / error for name, (mean, error, value) in found.items()}


POINTS = [
    ((4, 4), 2.0, 4, 200),
    ((8, 8), 3.0, 6, 200),
    ((6, 5), 1.5, 4, 200),
    ((2, 2), 1.0, 4, 200),
    ((12, 12), 5.0, 9, 600),
    ((16, 16), 6.0, 12, 1500),
]


@pytest.mark.parametrize(("shape", "beta", "n_md_steps", "n_thermalisation"), POINTS, ids=str)
def test_exact_expectation_values(shape, beta, n_md_steps, n_thermalisation, seed):
    """The bias is frozen in production; V of the 2x2 lattice ends in the middle of what the charge can be."""
    sampler = Metadynamics(WilsonU1(beta), 1.0, n_md_steps, q_max=0.4 if shape == (2, 2) else 2.6)
    state = built(sampler, shape, 60, n_thermalisation, seed)
    later, series = produced(sampler, state, 300, 2)
    np.testing.assert_array_equal(later.bias, state.bias)
    assert state.bias.max() > 1.0
    found = pulls(series, ExactU1(beta, shape[0] * shape[1]))
    assert max(map(abs, found.values())) < 4.5, found


def test_wrong_weights_are_caught(seed):
    """No weights, weights of the wrong sign, and a bias that is five per cent off in them."""
    sampler = Metadynamics(WilsonU1(2.0), 1.0, 4, q_max=1.2, n_grid=101)
    state = built(sampler, (4, 4), 400, 300, seed)
    _, series = produced(sampler, state, 400, 5)
    exact, log_w = ExactU1(2.0, 16), series["log_w"]
    right = pulls(series, exact)
    assert max(map(abs, right.values())) < 4.5, right
    for wrong in (0.0 * log_w, -log_w, 1.05 * log_w):
        found = pulls(series, exact, wrong)
        assert max(map(abs, found.values())) > 4.5, found


def test_the_chain_samples_what_target_says(seed):
    """Direct configurations with the weights exp(S - target) agree with the chain, and without them do not."""
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 6, q_max=1.2)
    state = built(sampler, (6, 6), 60, 600, seed)
    state = sampler.step(state._replace(bias=np.repeat(state.bias[:1], 60, axis=0)), 50)[0]
    _, series = produced(sampler, state, 400, 3)
    free, _ = sample_u1(3.0, 6, 6, make_streams(seed, "other", range(20_000)))
    wide = state._replace(bias=np.repeat(state.bias[:1], len(free), axis=0))
    log_w = sampler.action.evaluate(free) - sampler.target(wide, free)
    charge = np.abs(biased_hmc_u1.smooth_charge(free))
    expected, plain = reweighted(charge, log_w), reweighted(charge, 0.0 * log_w)
    found = gamma_method(np.abs(series["smooth_charge"]))
    assert abs(found.value - expected.value) < 4.5 * np.hypot(found.error, expected.error)
    assert abs(found.value - plain.value) > 4.5 * np.hypot(found.error, plain.error)


def test_only_thermalisation_changes_the_bias(seed):
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 6, q_max=2.0)
    state = begin(sampler, (6, 6), 3, seed)
    assert not state.bias.any()
    early, late = sampler.thermalise(state, 0.05), sampler.thermalise(state, 0.5)
    assert not early.bias.any()  # perhaps still hot
    assert (late.bias.max(1) > 0).all()
    assert not state.bias.any()
    np.testing.assert_array_equal(sampler.step(late, 5)[0].bias, late.bias)
    np.testing.assert_allclose(late.bias, late.bias[:, ::-1], rtol=0, atol=1e-14)


def test_a_charge_beyond_the_grid_raises_its_edge(seed):
    """There V is one constant, that of the edge; without deposits a chain would stay there for good."""
    sampler = Metadynamics(WilsonU1(1.0), 1.0, 4, q_max=0.1, n_grid=11, width=0.02)
    later = sampler.thermalise(begin(sampler, (8, 8), 10, seed), 0.5)
    outside = np.abs(later.charge) > 0.1
    assert outside.any()
    np.testing.assert_allclose(later.bias[outside, 0], sampler.height, rtol=1e-12)


def changes(series):
    return int((np.diff(series, axis=0) != 0).sum())


def test_the_charge_moves_where_that_of_hmc_is_frozen(seed):
    """beta = 7 on 16x16, trajectories of equal cost."""
    hmc, sampler = HMC(WilsonU1(7.0), 1.0, 13), Metadynamics(WilsonU1(7.0), 1.0, 13, q_max=3.7)
    state, frozen = begin(hmc, (16, 16), 8, seed), []
    for _ in range(400):
        state, _ = hmc.step(state)
        frozen.append(np.rint(u1.topological_charge(state.x)))
    _, series = produced(sampler, built(sampler, (16, 16), 8, 1500, seed), 400, 1)
    assert changes(series["charge"]) > 10 * max(1, changes(np.array(frozen)))


def test_the_bias_is_minus_the_free_energy(seed):
    """V -> -(1 - 1/g) F + const, and what is rare in the target becomes as likely as the rest."""
    sampler = Metadynamics(WilsonU1(4.0), 1.0, 8, q_max=1.8, n_grid=101)
    state = built(sampler, (8, 8), 24, 2000, seed)
    free, _ = sample_u1(4.0, 8, 8, make_streams(seed, "other", range(50_000)))
    edges = np.linspace(-1.5, 1.5, 16)
    counts, _ = np.histogram(biased_hmc_u1.smooth_charge(free), edges)
    free_energy = -np.log(counts)
    grid = np.linspace(-1.8, 1.8, sampler.n_grid)
    bias = np.interp(0.5 * (edges[1:] + edges[:-1]), grid, state.bias.mean(0))
    rest = bias + (1.0 - 1.0 / sampler.bias_factor) * free_energy
    assert free_energy.std() > 1.5
    assert rest.std() < 0.5
    _, series = produced(sampler, state, 300, 2)
    biased, _ = np.histogram(series["smooth_charge"], edges)
    assert counts.max() / counts.min() > 100.0
    assert biased.max() / biased.min() < 5.0


def test_weights_of_chains_are_of_one_size(seed):
    """The mean weight of a chain would vary as the maxima of the biases do, were nothing taken off."""
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 7, q_max=2.0)
    state = built(sampler, (8, 8), 32, 1000, seed)
    shifted = state._replace(bias=state.bias + np.arange(32.0)[:, None])
    np.testing.assert_allclose(sampler.log_weights(shifted), sampler.log_weights(state), rtol=0, atol=1e-12)
    _, series = produced(sampler, state, 500, 2)
    assert np.log(np.exp(series["log_w"]).mean(0)).std() < 0.7


def test_moved_chains_keep_their_bias(seed):
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 6, q_max=2.0)
    state, other = built(sampler, (6, 6), 4, 100, seed), begin(sampler, (6, 6), 4, seed + 1)
    moved = sampler.moved(state, other.x)
    np.testing.assert_array_equal(moved.bias, state.bias)
    np.testing.assert_array_equal(moved.streams, state.streams)
    for name in ("x", "action", "charge"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(other, name))
    grid = np.linspace(-2.0, 2.0, sampler.n_grid)
    bias = [np.interp(q, grid, own) for q, own in zip(other.charge, state.bias, strict=True)]
    np.testing.assert_allclose(sampler.target(state, other.x), other.action + bias, rtol=0, atol=1e-10)


def test_a_restored_state_goes_on_with_the_same_bits(seed):
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 6, q_max=2.0)
    state = built(sampler, (6, 5), 3, 50, seed)
    stored = {name: array.copy() for name, array in flatten(state).items()}
    other = restore(sampler.init(stored["x"], make_streams(99, "other", range(3))), stored)
    for advance in (lambda s: sampler.step(s, 3)[0], lambda s: sampler.thermalise(s, 0.6)):
        for one, two in zip(advance(state), advance(other), strict=True):
            np.testing.assert_array_equal(one, two)
    for name, array in flatten(state).items():
        np.testing.assert_array_equal(array, stored[name])


def test_bits_do_not_depend_on_threads_or_grouping(seed):
    sampler = Metadynamics(WilsonU1(3.0), 1.0, 6, q_max=2.0)

    def run(chains):
        x, streams = sample_u1(3.0, 6, 5, make_streams(seed, "test", chains))
        state = sampler.init(x, streams)
        for k in range(60):
            state = sampler.thermalise(state, k / 60)
        return sampler.step(state, 10)

    whole, info = run(range(5))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for chains in (range(5), range(3, 5)):
        part, part_info = run(chains)
        for one, two in zip((*part, *part_info), (*whole, *info), strict=True):
            np.testing.assert_array_equal(one, two[chains.start :])


def test_tuning_finds_the_steps_and_the_range(seed):
    sampler = Metadynamics(WilsonU1(6.0))
    state = begin(sampler, (16, 16), 4, seed)
    tuned = sampler.tune(state, 64)
    assert tuned.tuned
    assert not sampler.tuned
    assert tuned.n_md_steps == HMC(WilsonU1(6.0)).tune(begin(HMC(WilsonU1(6.0)), (16, 16), 4, seed), 64).n_md_steps
    exact = ExactU1(6.0, 256)
    sector = tuned.q_max / exact.plaquette
    assert sector == pytest.approx(round(sector))
    assert 3.5 <= sector / exact.charge_squared**0.5 < 5.0
    assert sampler.with_findings(json.loads(json.dumps(tuned.findings()))) == tuned
    with pytest.raises(ValueError, match="q_max is not set"):
        Metadynamics(WilsonU1(6.0), 1.0, 6).step(state)
    with pytest.raises(ValueError, match="n_md_steps is not set"):
        Metadynamics(WilsonU1(6.0), q_max=2.0).step(state)


@pytest.mark.parametrize(
    "arguments",
    [
        {"height": 0.0},
        {"width": float("inf")},
        {"bias_factor": 1.0},
        {"n_grid": 1},
        {"q_max": -1.0},
        {"height": 1e308},
        {"q_max": 20.0, "n_grid": 100},
        {"n_md_steps": 0},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        Metadynamics(WilsonU1(1.0), **arguments)


def test_other_theories_are_refused(seed):
    with pytest.raises(ValueError, match="q_max must be given: Phi4 has no rule for the range of M"):
        Metadynamics(Phi4(1.0, 1.0))
    with pytest.raises(ValueError, match="two dimensions"):
        Metadynamics(WilsonU1(1.0)).init(np.zeros((1, 3, 2, 2, 2)), make_streams(seed, "test", range(1)))


def test_a_width_beyond_every_grid_is_told():
    with pytest.raises(
        ValueError, match=r"^q_max / width = 3 / 1e-300 is too large for the finest grid, of 100000 points"
    ):
        Metadynamics(WilsonU1(1.0), q_max=3.0, width=1e-300)
    assert Metadynamics(WilsonU1(1.0), q_max=1.0, width=2.1e-5, n_grid=100_000).q_max == 1.0


@pytest.mark.parametrize("n_thermalisation", [999, 1000])
@pytest.mark.parametrize("name", ["metadynamics", "another"])
def test_a_bias_of_few_deposits_is_doubted_wherever_it_is_built(name, n_thermalisation, monkeypatch):
    monkeypatch.setitem(SAMPLERS, name, Metadynamics)
    parts = [{"sampler": "hmc", "n_updates": 1}, {"sampler": name, "n_updates": 1}]
    tables = [{"name": name}, {"name": "replica_exchange", "parts": parts}, {"name": "hmc"}, {"name": "unknown"}]
    groups = [SimpleNamespace(sampler={**table, "n_thermalisation": n_thermalisation}) for table in tables]
    text = f"n_thermalisation below 1000: the bias of {name} is hardly built; raise it"
    doubts = (text,) if n_thermalisation < 1000 else ()
    assert [short_build(group).doubts for group in groups] == [doubts, doubts, (), ()]
