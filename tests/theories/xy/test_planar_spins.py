"""Planar spins against sums over all configurations of small lattices, and samplers against each other on 8x8."""

from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from xy_oracle import exact, log_z_of_currents

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, Cluster, HeatBath, Metropolis, Mixture, Overrelaxation, Part
from lattice_flows.theories import XY, Villain


def mixture(*builds):
    return lambda action: Mixture(action, tuple(Part(build(action)) for build in builds))


SAMPLERS = {
    "hmc": partial(HMC, trajectory_length=1.5, n_md_steps=6),
    "metropolis": partial(Metropolis, width=2.0),
    "cluster": Cluster,
    "heatbath": HeatBath,
    "heatbath and overrelaxation": mixture(HeatBath, Overrelaxation),
    "all": mixture(partial(HMC, n_md_steps=6), HeatBath, Overrelaxation, Cluster),
}
OF_VILLAIN = ("hmc", "metropolis", "cluster")
BETA = {XY: 0.9, Villain: 0.7}
SHAPES = [(2, 2), (2, 3), (3, 3)]
KINDS = [(name, XY) for name in SAMPLERS] + [(name, Villain) for name in OF_VILLAIN]


def series_of(sampler, action, shape, seed, n_chains=100, n_configs=100, n_updates=3):
    """What is measured on chains, each (n, B): the action's observables by kind, V |m|^2, the series of the sampler.

    Clusters bring them near equilibrium: from a hot start HMC finds its way out of windings only slowly.
    """
    clusters = Cluster(sampler.action)
    begun = clusters.init(*action.hot(make_streams(seed, str(sampler), range(n_chains)), shape))
    begun, _ = clusters.step(begun, 100 * max(shape))
    state, _ = sampler.step(sampler.init(begun.x, begun.streams), 20)
    x, infos = [], []
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        x.append(state.x)
        infos.append(info._asdict())
    fields = np.stack(x)  # (n, B, L0, L1)
    flat = fields.reshape(-1, *shape)
    found = {one.kind: one(flat).reshape(fields.shape[:2]) for one in action.observables(shape)}
    found |= {key: np.stack([info[key] for info in infos]) for key in infos[0]}
    return found | {"susceptibility": flat[0].size * found["abs_magnetisation"] ** 2}


def mean(series):
    """The mean of a series (n, B) and its error, from the spread of the chains, which knows how slowly they move."""
    of_chains = series.mean(0)
    return of_chains.mean(), of_chains.std(ddof=1) / np.sqrt(of_chains.size)


def pulls(sampler, action, shape, seed, **size):
    """Deviations of the sampler's estimates from the exact values of the action, in errors."""
    series, truth = series_of(sampler, action, shape, seed, **size), exact(action, shape)
    found = {}
    for name in ("energy", "susceptibility", "helicity_modulus"):
        value, error = mean(series[name])
        found[name] = (value - getattr(truth, name)) / error
    return found


@pytest.mark.parametrize(("name", "theory"), KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_expectation_values(name, theory, shape, seed):
    action = theory(BETA[theory])
    found = pulls(SAMPLERS[name](action), action, shape, seed)
    assert max(map(abs, found.values())) < 4.5, found


@pytest.mark.parametrize(("name", "theory"), KINDS)
def test_five_per_cent_of_beta_are_caught(name, theory, seed):
    """HMC of Villain's form, which is slow to change windings, shows it by 10 errors, and the others by 20."""
    wrong = SAMPLERS[name](theory(1.05 * BETA[theory]))
    found = pulls(wrong, theory(BETA[theory]), (3, 3), seed, n_chains=250, n_configs=200, n_updates=10)
    assert max(map(abs, found.values())) > 4.5, found


GRID = np.stack(np.meshgrid(*[np.arange(24) * (2.0 * np.pi / 24)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.quick
@pytest.mark.parametrize("beta", [0.3, 0.7, 1.1])
@pytest.mark.parametrize("theory", BETA)
def test_sums_over_all_configurations_of_two_by_two_sites(theory, beta):
    """The action and the observables summed over three angles, against derivatives of products of transfer matrices."""
    action = theory(beta)
    x = np.concatenate([np.zeros((len(GRID), 1)), GRID], axis=1).reshape(-1, 2, 2)
    weights, truth = np.exp(-action.evaluate(x)), exact(action, (2, 2))
    means = {one.kind: weights @ one(x) / weights.sum() for one in action.observables((2, 2))}
    assert np.log(weights.mean()) == pytest.approx(truth.log_z, abs=1e-9)
    assert means["energy"] == pytest.approx(truth.energy, abs=1e-9)
    assert means["helicity_modulus"] == pytest.approx(truth.helicity_modulus, abs=1e-7)
    square = weights @ action.observables((2, 2))[1](x) ** 2 / weights.sum()
    assert 4.0 * square == pytest.approx(truth.susceptibility, abs=1e-9)


@pytest.mark.quick
@pytest.mark.parametrize(("shape", "largest"), [((2, 2), 8), ((3, 2), 8), ((3, 3), 3)], ids=str)
def test_the_sum_over_currents_is_that_over_angles(shape, largest):
    found = log_z_of_currents(0.4, shape, largest)
    assert found == pytest.approx(exact(XY(0.4), shape).log_z, abs=1e-12 if largest == 8 else 1e-7)


NODES, SHARES = np.polynomial.legendre.leggauss(6)


def integrated_log_z(theory, low, high, factor, seed):
    """log Z at beta = high over that at low, from the energies of chains at factor * beta: the value and its error."""
    betas = low + 0.5 * (high - low) * (NODES + 1.0)
    found = []
    for beta in betas:
        sampler = SAMPLERS["heatbath" if theory is XY else "cluster"](theory(factor * beta))
        found.append(mean(series_of(sampler, theory(beta), (3, 3), seed)["energy"]))
    values, errors = np.transpose(found)
    shares = -9.0 * 0.5 * (high - low) * SHARES
    return shares @ values, np.linalg.norm(shares * errors)


@pytest.mark.parametrize(("factor", "caught"), [(1.0, False), (1.03, True)])
@pytest.mark.parametrize(("theory", "low"), [(XY, 0.0), (Villain, 0.3)])
def test_log_z_from_energies(theory, low, factor, caught, seed):
    value, error = integrated_log_z(theory, low, 0.9, factor, seed)
    reference = exact(theory(low), (3, 3)).log_z
    truth = exact(theory(0.9), (3, 3)).log_z - reference
    assert (abs(value - truth) > 4.5 * error) == caught, (value, truth, error)


def disagreement(samplers, action, seed):
    """How far the estimates of samplers are apart on 8x8: the largest normal deviate of the chi^2 of a quantity."""
    every = [series_of(sampler, action, (8, 8), seed, n_updates=6) for sampler in samplers]
    worst = 0.0
    for name in ("energy", "susceptibility", "helicity_modulus", "abs_magnetisation", "vortex_density"):
        values, errors = np.transpose([mean(series[name]) for series in every])
        common = np.average(values, weights=errors**-2)
        chi_squared = (((values - common) / errors) ** 2).sum()
        worst = max(worst, scipy.stats.norm.isf(scipy.stats.chi2.sf(chi_squared, len(every) - 1)))
    return worst


@pytest.mark.parametrize("theory", BETA)
def test_samplers_agree_on_a_larger_lattice(theory, seed):
    action = theory(BETA[theory])
    samplers = [SAMPLERS[name](action) for name, other in KINDS if other is theory]
    assert disagreement(samplers, action, seed) < 4.5


@pytest.mark.parametrize("theory", BETA)
def test_a_sampler_of_another_beta_disagrees(theory, seed):
    """Three per cent, by some 10 errors."""
    action, wrong = theory(BETA[theory]), theory(1.03 * BETA[theory])
    assert disagreement([Metropolis(action, 2.0), Cluster(wrong)], action, seed) > 4.5


@pytest.mark.parametrize("theory", BETA)
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_the_improved_estimator_is_that_of_the_susceptibility(theory, share, seed):
    """And six per cent off it would be seen; where clusters are small it is the better of the two."""
    action = theory(share * BETA[theory])
    series = series_of(Cluster(action), action, (8, 8), seed, n_chains=200, n_configs=200, n_updates=6)
    improved, plain = series["improved_susceptibility"], series["susceptibility"]
    value, error = mean(improved - plain)
    assert abs(value) < 4.5 * error
    value, error = mean(1.06 * improved - plain)
    assert abs(value) > 4.5 * error
    assert share == 1.0 or mean(improved)[1] < mean(plain)[1]


def test_overrelaxation_keeps_the_action_and_draws_nothing(seed):
    action = XY(0.9)
    state = Overrelaxation(action).init(*action.hot(make_streams(seed, "test", range(5)), (6, 5)))
    later, info = Overrelaxation(action).step(state, 7)
    np.testing.assert_allclose(action.evaluate(later.x), action.evaluate(state.x), rtol=0, atol=1e-11)
    assert (np.abs(later.x - state.x) > 1e-6).all()
    np.testing.assert_array_equal(later.streams, state.streams)
    assert (info.accepted == 1.0).all()
    without_field = np.array([[[0.0, np.pi / 2, 0.0], [-np.pi / 2, 0.3, np.pi / 2], [0.0, -np.pi / 2, 0.0]]])
    moved, _ = Overrelaxation(action).step(Overrelaxation(action).init(without_field, state.streams[:1]))
    assert np.isfinite(moved.x).all()


@pytest.mark.quick
@pytest.mark.parametrize("action", [XY(1.2), Villain(0.15), Villain(0.8), Villain(1e4)], ids=str)
@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (5, 4), (7, 3)], ids=str)
def test_compiled_forces_are_those_of_torch(action, shape, seed):
    x, _ = action.hot(make_streams(seed, "test", range(4)), shape)
    couplings, force = action.kernel_couplings(shape), action.force(torch.from_numpy(x)).numpy()
    scale = max(1.0, action.beta)
    np.testing.assert_allclose(hmc.force(couplings, x), force, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(
        hmc.action(couplings, x), action(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-11 * scale
    )


@pytest.mark.quick
def test_vortices_and_magnetisation_are_those_of_the_formulas(rng):
    x = rng.uniform(-np.pi, np.pi, (20, 4, 5))
    wrapped = [(np.roll(x, -1, mu) - x + np.pi) % (2.0 * np.pi) - np.pi for mu in (1, 2)]
    around = wrapped[0] + np.roll(wrapped[1], -1, 1) - np.roll(wrapped[0], -1, 2) - wrapped[1]
    turns = np.rint(around / (2.0 * np.pi))
    assert 0.2 < np.abs(turns).mean() < 0.5
    found = {one.kind: one(x) for one in XY(1.0).observables((4, 5))}
    np.testing.assert_allclose(found["vortex_density"], np.abs(turns).mean((1, 2)))
    np.testing.assert_allclose(found["abs_magnetisation"], np.abs(np.exp(1j * x).mean((1, 2))))


@pytest.mark.quick
def test_a_series_that_depends_on_beta_says_so():
    """So that no average at another beta is made of it."""
    plain = {}
    for theory in BETA:
        quantities = [q for one in theory(0.8).observables((4, 4)) for q in one.quantities((4, 4))]
        plain[theory] = {q.name for q in quantities if q.of_couplings}
    assert plain[XY] == {"helicity_modulus"}
    assert plain[Villain] == {"energy", "helicity_modulus"}


@pytest.mark.quick
@pytest.mark.parametrize("make", [lambda: XY(-1.0), lambda: XY(float("nan")), lambda: Villain(0.1)])
def test_impossible_couplings_are_refused(make):
    with pytest.raises(ValueError, match="beta must be a number between"):
        make()


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4, 4), ()], ids=str)
def test_other_lattices_are_refused(shape):
    with pytest.raises(ValueError, match="two sides"):
        XY(1.0).field(shape)
