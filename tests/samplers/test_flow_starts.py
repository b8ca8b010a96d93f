"""Chains of a flow that start where it hardly goes."""

import logging

import numpy as np
import pytest

from lattice_flows.flows import Chain, Flow, HaarU1
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowMetropolis, flow_metropolis
from lattice_flows.theories import WilsonU1

SHAPE = (2, 8, 8)
POOR = Flow(HaarU1(SHAPE), Chain())  # at beta = 2: hot configurations, of which a cold one is e^180 times as heavy


def begun(x, n=50):
    flow_metropolis._told.clear()
    sampler = FlowMetropolis(WilsonU1(2.0), POOR, batch_size=256)
    state = sampler.init(x, make_streams(1, "starts", range(len(x))))
    return sampler.step(state, n)


def test_a_start_heavier_than_every_proposal_is_told_and_left(caplog):
    x = np.zeros((4, *SHAPE))
    x[1] = np.random.default_rng(2).uniform(-np.pi, np.pi, SHAPE)  # one that the flow makes, too
    with caplog.at_level(logging.WARNING):
        state, info = begun(x)
    (told,) = caplog.messages
    assert "the start of 3 of 4 chains is so much heavier than 256 proposals" in told
    assert 'start = "flow"' in told
    assert (info.accepted > 0).all()
    assert (np.abs(state.x).max((1, 2, 3)) > 1).all()


def test_an_ordinary_start_is_kept_without_a_word(caplog):
    x = np.random.default_rng(3).uniform(-np.pi, np.pi, (4, *SHAPE))
    sampler = FlowMetropolis(WilsonU1(2.0), POOR, batch_size=256)
    first = sampler.init(x, make_streams(1, "starts", range(4)))
    state, _ = sampler.step(first)
    kept = state.rejections > 0
    np.testing.assert_array_equal(state.x[kept], x[kept])
    assert not caplog.messages


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_only_the_start_is_looked_at(caplog, n_rounds):
    """A chain may reach what is heavier than all of a later batch: leaving it would be wrong."""
    sampler = FlowMetropolis(WilsonU1(2.0), POOR, batch_size=8)
    state, _ = begun(np.zeros((2, *SHAPE)))
    caplog.clear()
    heavy = state._replace(x=np.zeros_like(state.x), log_w=np.full(2, 900.0), ahead=state.ahead.rows(slice(0, 0)))
    after, info = sampler.step(heavy, 4 * n_rounds)
    assert (info.accepted == 0).all()
    np.testing.assert_array_equal(after.x, heavy.x)
    assert not caplog.messages
