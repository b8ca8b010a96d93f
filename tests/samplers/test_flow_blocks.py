"""Blocks of a region tree against closed forms: with rectangles, trees that are too wide or too narrow, and tuning."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowBlocks
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ImprovedU1, Phi4, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import fields

SHAPE = (8, 8)
NEGATIVE, POSITIVE = ImprovedU1(3.0, -1.0 / 12.0), ImprovedU1(6.0, 1.0 / 12.0)


def begin(sampler, shape, n_chains, seed, beta=4.0):
    return sampler.init(*sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains))))


def estimates(sampler, shape, seed, n_chains=20, n_configs=600):
    """Of the plaquette, of 1x2 loops and of charges, after as many sweeps as forget the start."""
    state, _ = sampler.step(begin(sampler, shape, n_chains, seed), 50)
    series = []
    for _ in range(n_configs):
        state, _ = sampler.step(state)
        charge = np.rint(fields.topological_charge(state.x))
        loops = 0.5 * (fields.mean_wilson_loop(state.x, 1, 2) + fields.mean_wilson_loop(state.x, 2, 1))
        of_charge = {"Q^2": charge**2, **{f"P({q})": np.abs(charge) == q for q in range(3)}}
        series.append({"plaquette": fields.mean_plaquette(state.x), "W(1x2)": loops, **of_charge})
    return {name: gamma_method(np.stack([one[name] for one in series]).astype(float)) for name in series[0]}


def pulls(found, action, shape):
    exact = action.closed_forms(shape)
    loop = exact.wilson_loop(2) if action.loop_couplings[1] == 0 else exact.rectangular_loop(1, 2)
    shares = exact.charge_distribution(2)
    of_charge = {f"P({q})": shares[2 + q] + shares[2 - q] * (q > 0) for q in range(3)}
    known = {"plaquette": exact.plaquette, "W(1x2)": loop, "Q^2": exact.charge_squared, **of_charge}
    return {name: (found[name].value - value) / found[name].error for name, value in known.items()}


def worst(found, action, shape):
    return max(map(abs, pulls(found, action, shape).values()))


CASES = [
    pytest.param(NEGATIVE, 3.5, 0.1, SHAPE, id="negative"),
    pytest.param(NEGATIVE, 5.0, 0.1, SHAPE, id="negative, narrow"),
    pytest.param(POSITIVE, 3.0, 0.1, SHAPE, id="positive"),
    pytest.param(POSITIVE, 2.0, 0.5, SHAPE, id="positive, wide, with many steps"),
    pytest.param(ImprovedU1(1.5, 0.3), 1.0, 0.2, (2, 6), id="a side of two"),
    pytest.param(WilsonU1(3.0), 2.5, 0.0, SHAPE, id="no rectangles, wide"),
    pytest.param(WilsonU1(1.0), 1.2, 1.0, (3, 5), id="steps alone"),
]


@pytest.mark.parametrize(("action", "tree_beta", "walk_fraction", "shape"), CASES)
def test_exact_values(action, tree_beta, walk_fraction, shape, seed):
    found = estimates(FlowBlocks(action, tree_beta, walk_fraction), shape, seed)
    assert worst(found, action, shape) < 4.5, pulls(found, action, shape)


def test_an_accept_step_one_per_cent_off_in_beta_is_caught(seed):
    """With as many configurations as that takes."""
    off = ImprovedU1(1.01 * NEGATIVE.beta, NEGATIVE.c1)
    found = estimates(FlowBlocks(off, 3.5), SHAPE, seed, n_chains=40)
    assert found["plaquette"].n_eff > 1e4
    assert worst(found, NEGATIVE, SHAPE) > 5.0


@pytest.mark.parametrize("walk_fraction", [0.0, 0.5, 1.0])
def test_a_change_of_one_region_is_in_detailed_balance(walk_fraction, seed):
    """A torus of two plaquettes is one region, and a sweep one change: E[f(x) g(x')] = E[g(x) f(x')] in equilibrium."""
    sampler = FlowBlocks(WilsonU1(1.5), 0.8, walk_fraction)
    state = begin(sampler, (1, 2), 20_000, seed, beta=1.5)
    before, after = (fields.mean_plaquette(x) for x in (state.x, sampler.step(state)[0].x))
    difference = before * after**2 - before**2 * after
    assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(difference.size)
    assert np.abs(after - before).max() > 0.5
    assert not FlowBlocks.reversible, "a sweep has an order"


def test_the_acceptance_does_not_fall_with_the_volume(seed):
    rates = []
    for side in (8, 16, 32):
        sampler = FlowBlocks(NEGATIVE, 3.5)
        state, _ = sampler.step(begin(sampler, (side, side), 4, seed), 20)
        rates.append(sampler.step(state, 40)[1].accepted.mean())
    assert all(abs(one - other) < 0.03 for one, other in pairwise(rates)), rates
    assert min(rates) > 0.85


@pytest.mark.parametrize(
    ("action", "low", "high"), [(POSITIVE, 2.6, 3.8), (NEGATIVE, 3.2, 4.4), (WilsonU1(3.0), 2.7, 3.1)], ids=str
)
def test_tuning_finds_the_widest_tree_that_accepts_as_much_as_any(action, low, high, seed):
    """From a hot start."""
    sampler, streams = FlowBlocks(action), make_streams(seed, "test", range(8))
    assert not sampler.tuned
    state = sampler.init(*action.hot(streams, (2, *SHAPE)))
    told = []
    tuned = sampler.tune(state, 64, told.append)
    assert low < tuned.tree_beta < high
    assert 0 < len(told) <= 4 * 64
    assert all(text.startswith("tree_beta = ") for text in told)
    assert sampler.with_findings(json.loads(json.dumps(tuned.findings()))) == tuned
    assert tuned.tune(state, 64) is tuned


def test_a_stiff_or_a_flat_action_has_a_tree_too(seed):
    for beta in (0.0, 5000.0):
        sampler = FlowBlocks(WilsonU1(beta))
        state = begin(sampler, (4, 4), 8, seed, beta=max(beta, 1e-3))
        tuned = sampler.tune(state, 8)
        assert 0 < tuned.tree_beta <= 300
        plaquette = fields.mean_plaquette(tuned.step(state, 100)[0].x).mean()
        assert plaquette == pytest.approx(tuned.action.closed_forms((4, 4)).plaquette, abs=0.3 if beta == 0 else 3e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FlowBlocks(Phi4(1.0, 0.0)), "actions of plaquettes and rectangles in 2D, not for Phi4"),
        (lambda: FlowBlocks(NEGATIVE, 301.0), "tree_beta must be between 0 and 300, got 301"),
        (lambda: FlowBlocks(NEGATIVE, math.nan), "tree_beta must be between 0 and 300, got nan"),
        (lambda: FlowBlocks(NEGATIVE, 1.0, 1.5), "walk_fraction must be between 0 and 1, got 1.5"),
        (lambda: FlowBlocks(NEGATIVE, 1.0, 0.1, 0.0), "walk_width must be > 0 and at most 10, got 0"),
        (lambda: FlowBlocks(NEGATIVE).step(begin(FlowBlocks(NEGATIVE), (4, 4), 1, 1)), "tree_beta is not set"),
        (lambda: FlowBlocks(WilsonU1(1.0)).init(np.zeros((1, 3, 4, 4, 4)), None), "two dimensions"),
        (lambda: FlowBlocks(WilsonU1(1.0)).init(np.zeros((1, 2, 1, 1)), None), "two plaquettes or more"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
