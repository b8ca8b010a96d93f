"""Blocks of a flow's latents: cones, exact values, stationarity from direct draws, and faults that are caught."""

import json
import math

import numpy as np
import pytest
import torch

from lattice_flows.flows import Flow, HaarU1, hybrid, latent_terms, multiscale, plaquette_coupling
from lattice_flows.flows.phi4_prior import GaussianPrior
from lattice_flows.flows.transform import Chain
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowMetropolis, LatentBlocks, block_colours
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ImprovedU1, Ising, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import fields

SHAPE = (8, 8)
WILSON, RECTANGLES = WilsonU1(2.5), ImprovedU1(2.0, 0.05)


def tree(beta, shape=SHAPE):
    return multiscale(shape, WilsonU1(beta), conditioner="exact").requires_grad_(False)


def couplings(n_layers, shape=SHAPE, transform="projection"):
    """Random weights: far from any action."""
    return shaken(plaquette_coupling(shape, n_layers=n_layers, transform=transform), 0.1)


def both(n_layers, shape=SHAPE):
    """A tree with couplings that are not the identity."""
    return shaken(hybrid(shape, WILSON, tree_beta=1.8, n_layers=n_layers, n_components=2), 0.1)


def shaken(flow, size):
    generator = torch.Generator().manual_seed(1)
    for weights in flow.requires_grad_(False).parameters():
        weights.add_(size * torch.randn(weights.shape, generator=generator))
    return flow


def begin(sampler, n_chains, seed, shape=SHAPE, beta=WILSON.beta):
    return sampler.init(*sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains))))


FLOWS = [
    pytest.param(WILSON, lambda: tree(1.8), SHAPE, 1, id="tree"),
    pytest.param(RECTANGLES, lambda: tree(1.8, (6, 5)), (6, 5), 2, id="tree, rectangles"),
    pytest.param(WILSON, lambda: couplings(1, (16, 16)), (16, 16), 2, id="a layer"),
    pytest.param(RECTANGLES, lambda: couplings(2, (12, 16), "spline"), (12, 16), 1, id="splines, rectangles"),
    pytest.param(WILSON, lambda: both(2, (16, 16)), (16, 16), 2, id="hybrid"),
]


@pytest.mark.parametrize(("action", "flow", "shape", "side"), FLOWS)
def test_what_blocks_change_alone_adds_up_to_the_image_of_all(action, flow, shape, side, seed):
    """After sweeps in which several blocks were tested at once: terms and links are those of the latents."""
    flow = flow()
    sampler = LatentBlocks(action, flow, side)
    assert max(len(colour.blocks) for colour in sampler.colours) > 1
    state, info = sampler.step(begin(sampler, 4, seed, shape), 3)
    assert 0 < info.accepted.mean() < 1
    image = sampler.latents.image(torch.from_numpy(state.y))
    np.testing.assert_allclose(state.terms, image.terms.numpy(), rtol=0, atol=1e-11)
    plaquettes = sampler.latents.values(torch.from_numpy(state.x))
    np.testing.assert_allclose(plaquettes.cos().numpy(), image.values.cos().numpy(), rtol=0, atol=1e-11)
    log_w = -action(torch.from_numpy(state.x)) - flow.log_prob(torch.from_numpy(state.x))
    np.testing.assert_allclose(state.terms.sum(1), -log_w.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("action", "flow", "shape", "side"), FLOWS)
def test_cones_hold_whatever_a_block_changes(action, flow, shape, side, rng):
    latents = latent_terms.latent_terms(flow(), action)
    blocks = latents.blocks(side)
    cones = latents.cones(blocks)
    y = rng.uniform(-math.pi, math.pi, len(blocks))
    trials = np.where(np.arange(blocks.max() + 1)[:, None] == blocks, rng.uniform(-math.pi, math.pi, len(blocks)), y)
    base, moved = latents.image(torch.from_numpy(y[None])), latents.image(torch.from_numpy(trials))
    for one, other, (block, place) in zip(base, moved, cones):
        cone = np.zeros(other.shape, bool)
        cone[block, place] = True
        changed = np.abs((other - one).numpy()) > 1e-12
        assert not (changed & ~cone).any()
        assert changed.sum() > 0.8 * cone.sum(), "and little more"


def test_regions_of_a_level_and_boxes_out_of_reach_are_changed_at_once():
    sizes = [len(colour.blocks) for colour in LatentBlocks(WILSON, tree(2.0), 1).colours]
    assert sizes == [1, 2, 4, 8, 16, 32]
    assert [len(colour.blocks) for colour in LatentBlocks(WILSON, tree(2.0), 4).colours] == [1, 2, 4]
    assert len(LatentBlocks(WILSON, tree(2.0), 8).colours) == 1
    assert len(LatentBlocks(WILSON, couplings(16), 4).colours) == 4, "one at a time"
    far = LatentBlocks(WILSON, couplings(4, (64, 64)), 8).colours
    assert len(far) < 0.5 * sum(len(colour.blocks) for colour in far) == 32
    for colour in far:
        for changed in (colour.latents, colour.terms, colour.values):
            assert len(set(changed.places)) == len(changed.places)


def estimates(sampler, shape, seed, n_chains, n_configs):
    state, _ = sampler.step(begin(sampler, n_chains, seed, shape, sampler.action.beta), 5)
    series = {"plaquette": [], "Q^2": []}
    for _ in range(n_configs):
        state, _ = sampler.step(state)
        series["plaquette"].append(fields.mean_plaquette(state.x))
        series["Q^2"].append(np.rint(fields.topological_charge(state.x)) ** 2)
    return {name: gamma_method(np.stack(values)) for name, values in series.items()}


@pytest.mark.parametrize(
    ("action", "flow", "side", "walk_fraction"),
    [
        pytest.param(WilsonU1(3.0), lambda: tree(2.0), 1, 0.1, id="a poor tree"),
        pytest.param(WilsonU1(2.0), lambda: tree(2.6), 4, 0.3, id="a narrow tree, regions as a whole"),
        pytest.param(ImprovedU1(2.0, 0.05), lambda: tree(2.0), 2, 0.1, id="rectangles"),
        pytest.param(WilsonU1(1.5), lambda: both(1), 4, 0.1, id="a poor hybrid"),
    ],
)
def test_exact_values(action, flow, side, walk_fraction, seed):
    sampler = LatentBlocks(action, flow(), side, walk_fraction)
    found, exact = estimates(sampler, SHAPE, seed, 100, 100), action.closed_forms(SHAPE)
    known = {"plaquette": exact.plaquette, "Q^2": exact.charge_squared}
    pulls = {name: (found[name].value - value) / found[name].error for name, value in known.items()}
    assert max(map(abs, pulls.values())) < 4.5, pulls


def drifts(sampler, n_chains, shape, seed, n_updates=1):
    """By how much means change in a sweep from exact draws, in errors, and the acceptance."""
    before = begin(sampler, n_chains, seed, shape)
    after, info = sampler.step(before, n_updates)
    functions = (
        fields.mean_plaquette,
        lambda x: np.rint(fields.topological_charge(x)) ** 2,
        lambda x: sampler.flow.log_prob(torch.from_numpy(x)).numpy(),
    )
    differences = np.stack([function(after.x) - function(before.x) for function in functions])
    errors = differences.std(1, ddof=1) / math.sqrt(n_chains)
    return np.abs(differences.mean(1) / errors).max(), info.accepted.mean()


STATIONARY = [
    pytest.param(lambda: tree(1.8), SHAPE, 1, id="tree"),
    pytest.param(lambda: couplings(1), SHAPE, 2, id="a poor layer, apart"),
    pytest.param(lambda: couplings(4, (4, 4)), (4, 4), 1, id="poor couplings"),
]


@pytest.mark.parametrize(("flow", "shape", "side"), STATIONARY)
def test_exact_draws_stay_exact(flow, shape, side, seed):
    drift, acceptance = drifts(LatentBlocks(WILSON, flow(), side, 0.7, 0.5), 1500, shape, seed)
    assert drift < 4.5
    assert 0.02 < acceptance < 0.95


@pytest.mark.parametrize(("flow", "shape", "side"), STATIONARY)
def test_a_log_det_that_is_left_out_is_caught(flow, shape, side, seed, monkeypatch):
    whole = latent_terms.PlaquetteTerms.image
    n_of_action = math.prod(shape)

    def without(self, y):
        image = whole(self, y)
        image.terms[:, :-n_of_action] = 0.0
        return image

    monkeypatch.setattr(latent_terms.PlaquetteTerms, "image", without)
    assert drifts(LatentBlocks(WILSON, flow(), side, 0.7, 0.5), 800, shape, seed, 2)[0] > 5.0


@pytest.mark.parametrize(("flow", "shape", "side"), STATIONARY[:2])
def test_blocks_that_are_not_apart_and_are_accepted_by_themselves_are_caught(flow, shape, side, seed, monkeypatch):
    greedy = block_colours._greedy
    monkeypatch.setattr(block_colours, "_greedy", lambda cones, n_blocks: greedy(cones, n_blocks) // 2)
    assert drifts(LatentBlocks(WILSON, flow(), side, 0.7, 0.5), 2000, shape, seed, 4)[0] > 5.0


@pytest.mark.parametrize("walk_fraction", [0.0, 0.5, 1.0])
def test_a_change_of_one_region_is_in_detailed_balance(walk_fraction, seed):
    """A torus of two plaquettes is one region, and a sweep one change: E[f(x) g(x')] = E[g(x) f(x')] in equilibrium."""
    sampler = LatentBlocks(WilsonU1(1.5), tree(0.8, (1, 2)), 1, walk_fraction, 1.0)
    state = begin(sampler, 20_000, seed, (1, 2), 1.5)
    before, after = (fields.mean_plaquette(x) for x in (state.x, sampler.step(state)[0].x))
    difference = before * after**2 - before**2 * after
    assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(difference.size)
    assert np.abs(after - before).max() > 0.3
    assert not LatentBlocks.reversible, "a sweep has an order"


def test_one_block_of_everything_accepts_as_flow_metropolis_does(seed):
    flow = tree(2.2)
    whole, independent = LatentBlocks(WILSON, flow, 8, walk_fraction=0.0), FlowMetropolis(WILSON, flow)
    rates = [sampler.step(begin(sampler, 500, seed), 40)[1].accepted for sampler in (whole, independent)]
    error = math.hypot(*(rate.std() / math.sqrt(len(rate)) for rate in rates))
    assert abs(rates[0].mean() - rates[1].mean()) < 4.5 * error
    assert 0.2 < rates[0].mean() < 0.95


def test_tuning_takes_small_blocks_of_a_poor_flow_and_one_of_a_good_one(seed):
    sides = []
    for beta in (1.6, 2.5):
        sampler, told = LatentBlocks(WILSON, tree(beta, (16, 16))), []
        assert not sampler.tuned
        tuned = sampler.tune(begin(sampler, 16, seed, (16, 16)), 80, told.append)
        assert told[0] == "block_side = 16"
        assert sampler.with_findings(json.loads(json.dumps(tuned.findings()))) == tuned
        assert tuned.tune(begin(tuned, 2, seed, (16, 16)), 80) is tuned
        sides.append(tuned.block_side)
    assert sides[0] < 16
    assert sides[1] == 16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda flow: LatentBlocks(WILSON, flow, 0), "block_side must be between 1 and 1000000, got 0"),
        (lambda flow: LatentBlocks(WILSON, flow, 2, 1.5), "walk_fraction must be between 0 and 1, got 1.5"),
        (lambda flow: LatentBlocks(WILSON, flow, 2, 0.1, math.nan), "walk_width must be > 0 and at most pi, got nan"),
        (lambda flow: LatentBlocks(WILSON, flow).colours, "block_side is not set"),
        (lambda flow: LatentBlocks(Ising(0.4), Flow(_Spins(), Chain()), 2).latents, "normal deviates or of angles"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(Flow(HaarU1((2, 4, 4)), Chain()))
    assert "\n" not in str(caught.value)


class _Spins(GaussianPrior):
    """A prior that is not what its latents say."""

    gaussian = False

    def __init__(self):
        super().__init__((4, 4))
