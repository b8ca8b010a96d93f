"""The coordinates of a region tree and what a change of one costs, against the whole map and the whole action."""

import numpy as np
import pytest
import torch

from lattice_flows.flows import multiscale
from lattice_flows.flows.tree_map import tree_inverse
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers.flow_blocks import blocks_of
from lattice_flows.theories import ImprovedU1, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import blocks as kernels
from lattice_flows.theories.u1.kernels import fields

SHAPES = pytest.mark.parametrize("shape", [(8, 8), (6, 10), (3, 5), (2, 2), (1, 4)], ids=str)
BETA = 2.0


class Configuration:
    """A configuration, its latents, and the arrays that the kernels take."""

    def __init__(self, shape, seed):
        x, _ = sample_u1(BETA, *shape, make_streams(seed, "test", range(1)))
        p = np.empty(shape)
        fields.plaquettes(x[0, 0].ravel(), x[0, 1].ravel(), shape[1], p.reshape(-1))
        self.shape, self.blocks = shape, blocks_of(shape, BETA)
        self.p = np.angle(np.exp(1j * p)).ravel()
        self.u = np.empty(self.p.size - 1)
        self.splits = kernels.Splits(np.empty_like(self.u), np.empty_like(self.u))
        kernels.to_latents(self.blocks, self.p, self.splits, self.u)

    def with_latent(self, i, value):
        """Plaquettes and log df/du after a change of latent i, where only its region is worked out."""
        u, p = self.u.copy(), self.p.copy()
        splits = kernels.Splits(*(array.copy() for array in self.splits))
        u[i] = value
        kernels.follow(self.blocks, i, int(np.prod(self.blocks.boxes[i, 2:])), u, splits, p)
        return p, splits.log_slopes


def on_circle(p):
    """As the kernels keep plaquettes, with cosines and sines."""
    return kernels.Angles(p, np.cos(p), np.sin(p))


@SHAPES
def test_latents_are_those_of_the_flow_and_go_back_to_the_plaquettes(shape, seed):
    one = Configuration(shape, seed)
    n_bins = one.blocks.tables.shape[-1] - 1
    flow = multiscale(shape, WilsonU1(BETA), conditioner="exact", n_bins=n_bins).transform
    in_order = torch.from_numpy(one.p)[None, flow.leaves]
    log_det = tree_inverse(in_order, flow.conditioner.tables(), flow.tree)[1]
    assert -one.splits.log_slopes.sum() == pytest.approx(float(log_det), abs=1e-9)
    back, log_slopes = one.with_latent(0, one.u[0])
    np.testing.assert_allclose(np.exp(1j * back), np.exp(1j * one.p), rtol=0, atol=1e-11)
    np.testing.assert_allclose(log_slopes, one.splits.log_slopes, rtol=0, atol=1e-9)


@SHAPES
def test_a_region_holds_what_its_box_says_and_a_change_stays_there(shape, seed):
    one = Configuration(shape, seed)
    for i, (row, column, rows, columns) in enumerate(one.blocks.boxes):
        inside = np.zeros(shape, bool)
        inside[row : row + rows, column : column + columns] = True
        assert inside.sum() == rows * columns > 1
        p, _ = one.with_latent(i, -0.7 * one.u[i] + 0.1)
        total = np.exp(1j * (p - one.p)[inside.ravel()].sum())
        assert total == pytest.approx(1.0, abs=1e-11), "the flux of the region"
        np.testing.assert_array_equal(p[~inside.ravel()], one.p[~inside.ravel()])


@SHAPES
@pytest.mark.parametrize("c1", [0.0, -1.0 / 12.0, 0.2])
def test_the_change_of_the_action_is_that_of_the_whole(shape, c1, seed):
    one, action = Configuration(shape, seed), ImprovedU1(7.0, c1)
    loops = kernels.Loops(*action.loop_couplings)
    for i, box in enumerate(one.blocks.boxes):
        p, _ = one.with_latent(i, 0.9 - 0.6 * one.u[i])
        rise = kernels.rise(loops, box, *shape, on_circle(one.p), on_circle(p))
        before, after = action.of_plaquettes(torch.from_numpy(np.stack([one.p, p]).reshape(2, *shape)))
        assert rise == pytest.approx(float(after - before), abs=1e-9)


@SHAPES
def test_the_density_of_the_latents_is_that_of_the_map(shape, seed):
    """log df/du of a region, by a difference of the flux of its first half."""
    one, step = Configuration(shape, seed), 1e-6
    for i in range(len(one.u)):
        ends = [one.with_latent(i, one.u[i] + sign * step) for sign in (-1, 1)]
        first = one.blocks.leaves[_first_half(one.blocks, i)]
        moved = np.angle(np.exp(1j * (ends[1][0] - ends[0][0])[first].sum()))
        assert np.log(moved / (2.0 * step)) == pytest.approx(one.splits.log_slopes[i], abs=1e-3)


def _first_half(blocks, i):
    """The places of the plaquettes in the first half of region i."""
    half = blocks.nodes[i, 1]
    if half < 0:
        return [-1 - half]
    return [place for side in (1, 2) for place in _places(blocks, blocks.nodes[half, side])]


def _places(blocks, half):
    return [-1 - half] if half < 0 else [k for side in (1, 2) for k in _places(blocks, blocks.nodes[half, side])]


def test_nothing_adds_up_over_many_sweeps(seed):
    """The plaquettes of the links sum to a multiple of 2 pi, after as many sweeps as one likes."""
    x, streams = sample_u1(BETA, 8, 8, make_streams(seed, "test", range(2)))
    loops, proposals = kernels.Loops(BETA, 0.3), kernels.Proposals(0.3, 3.0)
    for _ in range(3):
        x, streams, accepted = kernels.block_sweeps(x, streams, blocks_of((8, 8), BETA), loops, proposals, 300)
        charge = fields.topological_charge(x)
        np.testing.assert_allclose(charge, np.rint(charge), rtol=0, atol=1e-12)
        assert np.all((accepted > 0.5) & (accepted < 1.0))


def test_a_sweep_of_rejections_changes_the_gauge_and_the_holonomies_alone(seed):
    cold, streams = np.zeros((3, 2, 6, 4)), make_streams(seed, "test", range(3))
    steep, proposals = kernels.Loops(1e12, 0.0), kernels.Proposals(0.3, 3.0)
    x, _, accepted = kernels.block_sweeps(cold, streams, blocks_of((6, 4), BETA), steep, proposals, 5)
    np.testing.assert_array_equal(accepted, 0.0)
    np.testing.assert_allclose(fields.mean_plaquette(x), 1.0, rtol=0, atol=1e-14)
    assert np.abs(x).mean() == pytest.approx(np.pi / 2, abs=0.5), "of uniform angles"
    lines = np.exp(1j * x[:, 0].sum(1))[:, 0], np.exp(1j * x[:, 1].sum(2))[:, 0]
    assert np.abs(np.concatenate(lines) - 1.0).min() > 1e-3
