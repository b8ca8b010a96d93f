"""The law of a block and the change of its links, against the flow that the tree is a part of and the whole action."""

import numpy as np
import pytest
import torch

from lattice_flows.flows import multiscale
from lattice_flows.flows.block_tree import block_sides, block_tree, exact_block
from lattice_flows.flows.tree_map import torch_regions
from lattice_flows.kernels.random import fill_uniforms, make_streams, uniform_pair
from lattice_flows.lattice import plaquette
from lattice_flows.theories import ImprovedU1, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import localised as kernels
from lattice_flows.theories.u1.kernels.blocks import Loops
from lattice_flows.theories.u1.kernels.fields import topological_charge

BETA = 2.0
SIDES = pytest.mark.parametrize("side", [2, 3, 4, 7, 8])


def plaquettes_of(x):
    return plaquette(torch.from_numpy(x), 0, 1)


def wrapped(p):
    return np.angle(np.exp(1j * p))


@SIDES
def test_the_density_of_a_block_is_that_of_the_regions_inside_it(side, seed):
    """On a torus of two blocks, whose only other region is the torus itself."""
    flow = multiscale((2 * side, side), WilsonU1(BETA), conditioner="exact", n_bins=32)
    layer, area = flow.transform, side * side
    p = plaquettes_of(sample_u1(BETA, 2 * side, side, make_streams(seed, "test", range(3)))[0])
    regions = torch_regions(layer.leaves_of(p), layer.conditioner.tables(), layer.tree)
    halves = [wrapped(p.flatten(1)[:, half].numpy()) for half in (slice(area), slice(area, None))]
    tree, flux = exact_block(side, BETA), np.empty(area - 1)
    densities = [[kernels.log_density(tree, one, flux) for one in half] for half in halves]
    expected = (regions.log_slopes[:, 1:]).sum(1)
    np.testing.assert_allclose(np.sum(densities, 0), expected, rtol=0, atol=1e-8)


@SIDES
def test_what_is_drawn_has_the_flux_and_the_density_that_are_told(side, rng):
    tree, area = exact_block(side, BETA), side * side
    p, flux, again = np.empty(area), np.empty(area - 1), np.empty(area - 1)
    for total in (0.0, 1.3, -3.1):
        flux[0] = total
        log_q = kernels.draw(tree, rng.random(area), p, flux)
        assert np.exp(1j * p.sum()) == pytest.approx(np.exp(1j * total), abs=1e-10)
        assert np.abs(p).max() <= np.pi
        assert kernels.log_density(tree, p, again) == pytest.approx(log_q, abs=1e-7)
        np.testing.assert_allclose(np.exp(1j * again), np.exp(1j * flux), rtol=0, atol=1e-10)


@pytest.mark.parametrize("total", [0.0, 2.0, -3.0])
def test_the_density_of_two_by_two_plaquettes_is_that_of_the_action_and_normalised(total):
    """With a grid over the three that are free, relative to d theta / 2 pi."""
    tree, flux = exact_block(2, BETA), np.empty(3)
    theta = -np.pi + 2.0 * np.pi * (np.arange(24) + 0.5) / 24
    p = np.stack([*(one.ravel() for one in np.meshgrid(theta, theta, theta)), np.zeros(24**3)], 1)
    p[:, 3] = wrapped(total - p.sum(1))
    log_q = np.array([kernels.log_density(tree, one, flux) for one in p])
    log_p = BETA * np.cos(p).sum(1)
    assert np.exp(log_q).mean() == pytest.approx(1.0, abs=1e-3)
    assert np.exp(log_p - log_q).std() / np.exp(log_p - log_q).mean() < 0.03


@pytest.mark.parametrize("shape", [(5, 5), (4, 4), (5, 7), (4, 6)], ids=str)
@pytest.mark.parametrize("c1", [0.0, -1.0 / 12.0, 0.1])
def test_a_sweep_of_one_block_changes_its_inside_alone_and_is_tested_by_the_whole_action(shape, c1, seed):
    """On a torus as wide as the block, too, where rectangles leave it at one end and enter it at the other."""
    action, side = ImprovedU1(BETA, c1), 4
    loops, tree = Loops(*action.loop_couplings), exact_block(side, 1.5 * BETA)
    x, streams = sample_u1(BETA, *shape, make_streams(seed, "test", range(40)))
    after, _, accepted, hops = kernels.localised_sweeps(x, streams, tree, loops, 1)
    changed = np.abs(after - x).reshape(40, -1) > 0
    inside = 2 * side * (side - 1)
    assert 0 < accepted.sum() < 40
    np.testing.assert_array_equal(changed.sum(1), np.where(accepted > 0, inside, 0))
    p, q = plaquettes_of(x).numpy(), plaquettes_of(after).numpy()
    same = np.abs(np.exp(1j * (p - q)) - 1.0) < 1e-12
    assert (same.reshape(40, -1).sum(1) >= p[0].size - side**2).all()
    charges = np.rint(topological_charge(after) - topological_charge(x))
    np.testing.assert_array_equal(charges**2, hops)
    assert charges.any()
    for k in range(40):
        first, second = _uniforms(streams[k])
        ratio, deviate, new = _tested(
            p[k], action, tree, side, (int(first * shape[0]), int(second * shape[1])), streams[k]
        )
        assert (np.log(deviate) < ratio) == bool(accepted[k])
        if accepted[k]:
            np.testing.assert_allclose(np.exp(1j * q[k]), np.exp(1j * new), rtol=0, atol=1e-10)


def _uniforms(stream):
    return uniform_pair(stream.copy())


def _tested(p, action, tree, side, corner, stream):
    """log of the ratio of the test, its deviate, and the plaquettes proposed, from the whole lattice's action."""
    stream = stream.copy()
    stream[1] += np.uint64(2)  # blocks of numbers: the place, and the order
    area = side * side
    deviates = np.empty(area + (side - 1) ** 2)
    fill_uniforms(stream, deviates)
    rows, columns = ((corner[mu] + np.arange(side)) % p.shape[mu] for mu in range(2))
    old, new, flux = wrapped(p[np.ix_(rows, columns)]).ravel(), np.empty(area), np.empty(area - 1)
    log_q = kernels.log_density(tree, old, flux)
    log_q_new = kernels.draw(tree, deviates, new, flux)
    proposed = p.copy()
    proposed[np.ix_(rows, columns)] = new.reshape(side, side)
    before, after = action.of_plaquettes(torch.from_numpy(np.stack([p, proposed]))).numpy()
    return before - after + log_q - log_q_new, deviates[area - 1], proposed


def test_a_tree_of_another_lattice_has_the_same_law(rng):
    """Where its splits are the same: sums of fluxes know nothing of the lattice around."""
    flow = multiscale((16, 16), WilsonU1(BETA), conditioner="exact", n_bins=32)
    assert block_sides(flow) == (2, 4, 8)
    flux, p = np.empty(15), rng.uniform(-0.5, 0.5, 16)
    one, other = (kernels.log_density(tree, p, flux) for tree in (block_tree(flow, 4), exact_block(4, BETA)))
    assert one == pytest.approx(other, abs=1e-8)
