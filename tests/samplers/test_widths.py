"""Widths of local updates and random walks: those that reach nothing new, or only noise, are refused."""

import math
import re

import numpy as np
import pytest
import torch

from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import CIRCLE, REAL, SU2, Discrete, Interval, Product, Sphere
from lattice_flows.samplers import Metropolis, RandomWalk
from lattice_flows.theories import Ising, Phi4, WilsonU1

SPACES = (CIRCLE, REAL, SU2(), Sphere(3), Discrete((-1, 1)), Interval(-1.0, 4.0), Product((CIRCLE, REAL)))
THEORIES = ((WilsonU1(2.0), (2, 4, 4), "angles", math.pi), (Phi4(1.0, 1.0), (4, 4), "real numbers", 1e6))


@pytest.mark.parametrize("sampler", [Metropolis, RandomWalk])
@pytest.mark.parametrize(("action", "event", "space", "widest"), THEORIES, ids=["u1", "phi4"])
def test_a_width_beyond_the_widest_is_refused_when_chains_begin(sampler, action, event, space, widest):
    x, streams = np.zeros((2, *event)), make_streams(1, "test", range(2))
    state, _ = sampler(action, widest).step(sampler(action, widest).init(x, streams))
    assert np.isfinite(state.x).all()
    for width in (math.nextafter(widest, math.inf), 1e16):
        with pytest.raises(ValueError, match=re.escape(f"width must be at most {widest:.6g} for {space}, got")):
            sampler(action, width).init(x, streams)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_widest_change_still_gives_standard_representatives(space):
    event = (50, *space.variable_shape)
    x, streams = space.hot(make_streams(1, "test", range(100)), event)
    for _ in range(3):
        x, streams = space.perturb(x, streams, space.widest)
        assert space.fault(torch.from_numpy(x)) is None
        np.testing.assert_allclose(space.wrap(torch.from_numpy(x)).numpy(), x, atol=1e-12)


def test_integers_are_not_all_changed_at_once():
    """All spins turned at once are accepted always, and nothing else would ever be tried."""
    action = Ising(0.2)
    x, streams = action.hot(make_streams(1, "test", range(8)), (4, 4))
    sampler = RandomWalk(action)
    found = sampler.tune(sampler.init(x, streams), 160)
    assert 0.0 < found.width <= 0.5


def test_tuning_stays_within_the_widest():
    """Nothing is ever refused at beta = 0, so the width grows as far as it may."""
    x, streams = np.zeros((2, 2, 4, 4)), make_streams(1, "test", range(2))
    for sampler in (Metropolis(WilsonU1(0.0)), RandomWalk(WilsonU1(0.0))):
        assert sampler.tune(sampler.init(x, streams), 64).width == math.pi
