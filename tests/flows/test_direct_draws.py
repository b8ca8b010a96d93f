"""Direct draws at other couplings: their density, and chains and weights that use them as a flow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import direct_draws
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowMetropolis
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.theories import ImprovedU1, Phi4, Plaquette, WilsonU1

pytestmark = pytest.mark.quick

N = 20_000
POINTS = [
    ((4, 4), WilsonU1(2.0), {"beta": 1.7}),
    ((5, 3), WilsonU1(1.0), {"beta": 1.3}),
    ((6,), Phi4(0.5, 0.0), {"m2": 0.7}),
    ((4, 4), Phi4(1.0, 0.0), {"m2": 0.9}),
]


def log_weights(shape, action, couplings, generator, target=None):
    flow = direct_draws(shape, action, couplings=couplings)
    x, log_q = flow.sample(N, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q)
    return ((target or action)(x) * -1.0 - log_q).numpy()


@pytest.mark.parametrize(("shape", "action", "couplings"), POINTS, ids=str)
def test_the_mean_weight_is_z(shape, action, couplings, generator):
    log_w = log_weights(shape, action, couplings, generator)
    log_z = log_partition(log_w)
    assert abs(log_z.value - action.closed_forms(shape).log_z) < 4.5 * log_z.error


def test_at_its_own_couplings_every_weight_is_z(generator):
    for shape, action, _ in POINTS:
        log_w = log_weights(shape, action, {}, generator)
        np.testing.assert_allclose(log_w, action.closed_forms(shape).log_z, rtol=0, atol=1e-9)


def test_a_density_two_per_cent_off_is_caught(generator):
    shape, action, couplings = POINTS[0]
    log_w = log_weights(shape, action, couplings, generator)
    x, _ = direct_draws(shape, action, couplings=couplings).sample(N, torch.Generator().manual_seed(1))
    off = log_w + 0.02 * couplings["beta"] * WilsonU1(1.0)(x).numpy()
    log_z = log_partition(off)
    assert abs(log_z.value - action.closed_forms(shape).log_z) > 4.5 * log_z.error


def test_a_chain_of_them_has_the_target(seed, generator):
    """The improved action from Wilson's: no direct sampler of its own."""
    action, shape, n_chains = ImprovedU1(1.0, -1.0 / 12.0), (4, 4), 100
    flow = direct_draws(shape, action, couplings={"c1": 0.0, "beta": 1.5})
    sampler = FlowMetropolis(action, flow, batch_size=2000)
    x, _ = flow.sample(n_chains, generator)
    state = sampler.init(x.numpy(), make_streams(seed, "test", range(n_chains)))
    state, _ = sampler.step(state, 50)
    means = []
    for _ in range(40):
        state, _ = sampler.step(state, 5)
        means.append(Plaquette()(state.x))
    x, log_q = flow.sample(N, generator)
    log_w = (-action(x) - log_q).numpy()
    w = np.exp(log_w - log_w.max())
    plaquettes = Plaquette()(x.numpy())
    reweighted = (w * plaquettes).sum() / w.sum()
    error = np.sqrt((w**2 * (plaquettes - reweighted) ** 2).sum()) / w.sum()
    chains = np.mean(means, axis=0)
    assert effective_sample_size(log_w).value > 0.1
    pull = (chains.mean() - reweighted) / np.hypot(chains.std() / np.sqrt(n_chains), error)
    assert abs(pull) < 4.5


CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0
[flow]
name = "direct_draws"
couplings = {beta = 1.8}
[[ensemble]]
name = "chain"
sampler = "flow_metropolis"
"""


def test_on_a_card():
    card = parse_card(CARD)
    assert card.flow.built_flow.prior.shape == (2, 4, 4)
    for wrong, told in (
        ("couplings = {c1 = 0.0}", r"couplings: there is no 'c1' in this theory; available: beta"),
        ("couplings = {beta = -1.0}", r"beta must be a number between 0"),
        ("", r"the key 'couplings' is missing"),
    ):
        with pytest.raises(InputError, match=told):
            parse_card(CARD.replace("couplings = {beta = 1.8}", wrong))
    with pytest.raises(InputError, match=r"there is no direct sampler for ImprovedU1"):
        parse_card(CARD.replace('name = "u1"', 'name = "u1_improved"\nc1 = -0.1'))


def test_replaced_couplings_leave_the_others():
    flow = direct_draws((4, 4), ImprovedU1(2.0, 0.1), couplings={"c1": 0.0})
    assert replace(ImprovedU1(2.0, 0.1), c1=0.0) == ImprovedU1(2.0, 0.0)
    assert flow.prior.space is WilsonU1(1.0).space
