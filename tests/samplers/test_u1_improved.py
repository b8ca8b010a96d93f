"""Samplers of U(1) with rectangles, held against quadrature on 2x2 and weighted direct draws on 4x4."""

import math

import numpy as np
import pytest
import torch
from improved_u1_oracle import two_by_two, weighted, weighted_draws

from lattice_flows.flows import Chain, Flow
from lattice_flows.flows.prior import HaarU1
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import (
    HMC,
    Direct,
    FlowHMC,
    FlowMetropolis,
    HeatBath,
    Instanton,
    Metropolis,
    Mixture,
    Overrelaxation,
    Part,
    Tempering,
    WindingHMC,
)
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ImprovedU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.instanton import instanton

POSITIVE, NEGATIVE = ImprovedU1(6.0, 1.0 / 12.0), ImprovedU1(3.0, -1.0 / 12.0)
FREE = ImprovedU1(2.4, 1.0 / 12.0)  # where HMC alone moves the charge
THEORIES = [POSITIVE, NEGATIVE, FREE]
BETA_OF_DRAWS = [(POSITIVE, 3.3), (NEGATIVE, 4.0), (FREE, 1.1)]  # whose weights are even


class WithoutKernels(ImprovedU1):
    """The action without its compiled forms, for the torch path of HMC."""

    def kernel_couplings(self, event):
        return None


@pytest.fixture(params=THEORIES, ids=["positive", "negative", "free"])
def action(request):
    return request.param


def begin(sampler, shape, n_chains, seed, beta=2.0):
    return sampler.init(*sample_u1(beta, *shape, make_streams(seed, "test", range(n_chains))))


def with_hops(action, n_md_steps=3):
    hmc = HMC(action, 0.5, n_md_steps, integrator="omelyan")
    return Mixture(action, (Part(hmc), Part(Instanton(action), 2)))


def quantities(x):
    """Each (N,), of links (N, 2, L0, L1)."""
    loops = 0.5 * (u1.mean_wilson_loop(x, 1, 2) + u1.mean_wilson_loop(x, 2, 1))
    charge = np.abs(np.rint(u1.topological_charge(x)))
    return {
        "plaquette": u1.mean_plaquette(x),
        "wilson_loop_1x2": loops,
        "charge_squared": charge**2,
        **{f"P({q})": (charge == q).astype(float) for q in range(3)},
    }


def estimates(sampler, shape, seed, n_chains=40, n_configs=500, n_updates=2):
    """Value and error of every quantity; what fluctuates hardly at all is left out."""
    state = begin(sampler, shape, n_chains, seed, beta=sampler.action.beta)
    state, _ = sampler.step(state, 200)
    series = []
    for _ in range(n_configs):
        state, _ = sampler.step(state, n_updates)
        series.append(quantities(state.x))
    found = {name: gamma_method(np.stack([one[name] for one in series])) for name in series[0]}
    return {name: (one.value, one.error) for name, one in found.items() if one.error > 1e-12 and one.n_eff > 100}


def pulls(found, known):
    both = found.keys() & known.keys()
    assert {"plaquette", "wilson_loop_1x2"} <= both
    return {name: (found[name][0] - known[name][0]) / math.hypot(found[name][1], known[name][1]) for name in both}


def worst(found, known):
    return max(map(abs, pulls(found, known).values()))


def test_the_smallest_torus_against_quadrature(action, seed):
    exact = two_by_two(action)._asdict()
    found = estimates(with_hops(action, 5), (2, 2), seed, n_chains=400, n_configs=300)
    assert worst(found, {name: (value, 0.0) for name, value in exact.items()}) < 4.5
    wrong = two_by_two(ImprovedU1(action.beta, action.c1 * 1.1))._asdict()  # a planted error
    assert worst(found, {name: (value, 0.0) for name, value in wrong.items()}) > 4.5


@pytest.mark.parametrize(("action", "beta"), BETA_OF_DRAWS, ids=["+", "-", "free"])
def test_hmc_with_hops_against_weighted_direct_draws(action, beta, seed):
    """Nothing of the two is shared: one never moves a link, the other never draws a plaquette."""
    x, log_w = weighted_draws(action, (4, 4), beta, 50_000, seed)
    w = np.exp(log_w - log_w.max())
    assert w.sum() ** 2 / (w**2).sum() > 0.3 * len(w)
    known = {name: weighted(values, log_w) for name, values in quantities(x).items()}
    found = estimates(with_hops(action, 4), (4, 4), seed)
    assert "charge_squared" in found
    assert worst(found, known) < 4.5, pulls(found, known)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2)], ids=str)
def test_hops_change_no_average_where_hmc_tunnels_by_itself(shape, seed):
    alone = estimates(HMC(FREE, 1.0, 8), shape, seed, n_updates=4)
    with_hop = estimates(with_hops(FREE), shape, seed + 1, n_updates=4)
    assert "charge_squared" in alone or shape == (4, 2)
    assert worst(with_hop, alone) < 4.5, pulls(with_hop, alone)


@pytest.mark.parametrize(("action", "beta"), BETA_OF_DRAWS, ids=["+", "-", "free"])
def test_a_hop_keeps_weighted_averages_and_a_hop_of_another_action_does_not(action, beta, seed):
    """<w O> before and after, of draws that stand for the target by their weights."""
    x, log_w = weighted_draws(action, (4, 4), beta, 50_000, seed)
    w, before = np.exp(log_w - log_w.max()), quantities(x)

    def largest_pull(y):
        after = quantities(y)
        changes = [w * (after[name] - before[name]) for name in ("plaquette", "wilson_loop_1x2", "charge_squared")]
        return max(abs(change.mean()) / change.std() * len(w) ** 0.5 for change in changes)

    _, streams = sample_u1(1.0, 2, 2, make_streams(seed, "hops", range(len(x))))
    assert largest_pull(instanton(x, streams, *action.loop_couplings, 4)[0]) < 4.5
    plain, rectangle = action.loop_couplings
    assert largest_pull(instanton(x, streams, plain, 1.5 * rectangle, 4)[0]) > 4.5  # planted errors
    assert largest_pull(instanton(x, streams, plain, 0.0, 4)[0]) > 4.5


def test_torch_and_compiled_chains_are_one_chain(action, seed):
    compiled, plain = HMC(action, 0.5, 5), HMC(WithoutKernels(action.beta, action.c1), 0.5, 5)
    one, other = begin(compiled, (6, 4), 5, seed), begin(plain, (6, 4), 5, seed)
    one, info = compiled.step(one)
    other, other_info = plain.step(other)
    np.testing.assert_allclose(np.exp(1j * one.x), np.exp(1j * other.x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(info.delta_h, other_info.delta_h, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(info.accepted, other_info.accepted)
    np.testing.assert_allclose(one.action, action.evaluate(one.x), rtol=1e-12)


def force_squared_and_curvature(action, x):
    """sum over links of (dS/dtheta)^2 and of d^2 S/dtheta^2: every loop bends with each of its links."""
    plain, rectangle = action.loop_couplings
    force = action.force(torch.from_numpy(x)).numpy()
    v = x.shape[2] * x.shape[3]
    pairs = u1.mean_wilson_loop(x, 1, 2) + u1.mean_wilson_loop(x, 2, 1)
    curvature = v * (4.0 * plain * u1.mean_plaquette(x) + 6.0 * rectangle * pairs)
    return np.square(force).sum((1, 2, 3)), curvature


def test_the_identity_of_schwinger_and_dyson(action, seed):
    """<(dS/dtheta)^2> = <d^2 S/dtheta^2> summed over links, on a lattice with no other oracle."""
    sampler = with_hops(action)
    state = begin(sampler, (6, 5), 40, seed, beta=action.beta)
    state, _ = sampler.step(state, 200)
    series = []
    for _ in range(400):
        state, _ = sampler.step(state, 2)
        series.append(force_squared_and_curvature(action, state.x))
    squares, curvatures = (np.stack(column) for column in zip(*series, strict=True))
    estimate = gamma_method(squares - curvatures)
    assert abs(estimate.value) < 4.5 * estimate.error
    wrong = gamma_method(squares - 1.05 * curvatures)  # a planted error: beta five per cent off
    assert abs(wrong.value) > 4.5 * wrong.error


def test_without_rectangles_the_closed_form_and_the_direct_sampler(seed):
    action, shape = ImprovedU1(2.0, 0.0), (6, 4)
    exact = action.closed_forms(shape)
    known = {
        "plaquette": (exact.plaquette, 0.0),
        "wilson_loop_1x2": (exact.wilson_loop(2), 0.0),
        "charge_squared": (exact.charge_squared, 0.0),
    }
    assert worst(estimates(with_hops(action), shape, seed), known) < 4.5
    assert worst(estimates(Direct(action), shape, seed), known) < 4.5


def test_a_ladder_in_c1_and_one_in_beta(seed):
    """Tempering takes any coupling of the action: from rectangles to none at all, or to a weaker coupling."""
    known = two_by_two(FREE)._asdict()
    for coupling, values in (("c1", (FREE.c1, 0.04, 0.0)), ("beta", (FREE.beta, 1.8, 1.2))):
        sampler = Tempering(FREE, lambda rung: HMC(rung, 0.7, 5), coupling=coupling, values=values)
        found = estimates(sampler, (2, 2), seed, n_configs=300)
        assert worst(found, {name: (value, 0.0) for name, value in known.items()}) < 4.5


@pytest.mark.parametrize(
    "build", [lambda *both: FlowMetropolis(*both, batch_size=500), lambda *both: FlowHMC(*both, 1.0, 6)]
)
def test_samplers_with_a_flow(build, seed):
    """The flow that changes nothing, from Haar links."""
    action = ImprovedU1(0.8, 1.0 / 12.0)
    flow = Flow(HaarU1((2, 2, 2)), Chain())
    found = estimates(build(action, flow), (2, 2), seed, n_chains=100, n_configs=100)
    assert worst(found, {name: (value, 0.0) for name, value in two_by_two(action)._asdict().items()}) < 4.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Metropolis, "no local updates of ImprovedU1; use hmc"),
        (HeatBath, "no local updates of ImprovedU1; use hmc"),
        (Overrelaxation, "no local updates of ImprovedU1; use hmc"),
        (WindingHMC, "winding steps are those of u1, not of ImprovedU1"),
        (Direct, "no direct sampler"),
    ],
)
def test_samplers_that_know_the_wilson_action_alone_refuse(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(POSITIVE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [POSITIVE, NEGATIVE], ids=["positive", "negative"])
def test_short_chains_against_the_closed_forms(action, seed):
    """Of 16x16; runs/u1_improved has long ones."""
    exact = action.closed_forms((16, 16))
    shares = exact.charge_distribution(2)
    known = {
        "plaquette": exact.plaquette,
        "wilson_loop_1x2": exact.rectangular_loop(1, 2),
        "charge_squared": exact.charge_squared,
        **{f"P({q})": shares[2 + q] + shares[2 - q] * (q > 0) for q in range(3)},
    }
    found = estimates(with_hops(action, 2), (16, 16), seed, n_configs=150)
    assert worst(found, {name: (value, 0.0) for name, value in known.items()}) < 4.5
    off = {name: (value * 1.01, 0.0) for name, value in known.items()}  # a planted error
    assert worst(found, off) > 4.5
