"""Sectors, fixed charge, theta and weights: against closed forms of 2D U(1), the direct sampler and toys."""

import math

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.statistics import (
    derived,
    derived_reweighted,
    effective_sample_size,
    fixed_charge_extrapolation,
    forward_ess,
    gamma_method,
    gaussian_distribution,
    is_resolved,
    pull,
    ratio,
    sector_means,
    sector_probabilities,
    sector_weights,
    theta_dependence,
    tunnelling_rate,
)
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1

POINTS = [((8, 8), 2.0), ((6, 10), 1.5), ((12, 12), 6.0)]
Q_MAX = 10
_DRAWS = 20  # of every stream, which takes longer to make than a configuration


@pytest.fixture
def walk(rng):
    """walk(n, m, width, rate): m Metropolis chains (n, m) of a charge with P(Q) ~ exp(-Q^2 / (2 width)), |Q| <= 8, that
    try a step with this rate."""

    def chains(n, m, width, rate):
        p = gaussian_distribution(width, 9)
        p[[0, -1]] = 0.0
        at = rng.choice(np.arange(19), p=p / p.sum(), size=m)
        found = np.empty((n, m))
        for t in range(n):
            to = at + rng.choice([-1, 1], size=m)
            at = np.where(rng.random(m) < rate * np.minimum(1.0, p[to] / p[at]), to, at)
            found[t] = at - 9
        return found

    return chains


@pytest.fixture
def ensemble(seed):
    """ensemble(shape, beta, n): charge, plaquette and sum_P (1 - cos P) of n independent configurations."""

    def draw(shape, beta, n):
        streams = make_streams(seed, "topology", range(n // _DRAWS))
        found = []
        for _ in range(_DRAWS):
            links, streams = sample_u1(beta, *shape, streams)
            found.append((u1.topological_charge(links), u1.mean_plaquette(links)))
        charge, plaquette = np.concatenate(found, axis=1)
        return charge, plaquette, math.prod(shape) * (1.0 - plaquette)

    return draw


def slope_in_beta(function, beta, step=0.01):
    """Five-point difference, its error of order step^4."""
    near = function(beta + step) - function(beta - step)
    return (8.0 * near - function(beta + 2 * step) + function(beta - 2 * step)) / (12.0 * step)


def plaquette_at_charge(exact, q):
    """<cos P>_Q = 1 + d log Z_Q / d beta / V, with Z_Q = P(Q) Z."""

    def log_p(beta):
        return math.log(ExactU1(beta, exact.n_sites).charge_distribution(abs(q))[0])

    return exact.plaquette + slope_in_beta(log_p, exact.beta) / exact.n_sites


def worst(estimates, truths):
    return max(abs(pull(e.value, e.error, truth)) for e, truth in zip(estimates, truths))


@pytest.mark.parametrize(("shape", "beta"), POINTS, ids=str)
def test_sectors_of_independent_configurations(shape, beta, ensemble):
    charge, plaquette, _ = ensemble(shape, beta, 20_000)
    exact = ExactU1(beta, math.prod(shape))
    probabilities, means = sector_probabilities(charge), sector_means(charge, plaquette)
    assert list(probabilities) == list(means) == sorted(means)
    assert len(means) >= 5
    known = exact.charge_distribution(Q_MAX)
    assert worst(probabilities.values(), [known[q + Q_MAX] for q in probabilities]) < 4.5
    assert worst(means.values(), [plaquette_at_charge(exact, q) for q in means]) < 4.5
    wrong = ExactU1(1.02 * beta, exact.n_sites)
    assert worst(means.values(), [plaquette_at_charge(wrong, q) for q in means]) > 5
    assert worst(means.values(), [exact.plaquette] * len(means)) > 5  # a sector is not the whole
    for q, mean in means.items():
        assert mean.n_eff == pytest.approx(probabilities[q].value * charge.size, rel=0.2)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("n", "m", "rate"), [(4000, 8, 0.02), (2000, 4, 0.25)])
def test_sectors_are_not_chosen_by_what_they_show(n, m, rate, known, walk):
    """The mean over those of 200 ensembles that show a sector; a choice by the configurations found shows too much."""
    n_ensembles, width = 200, 1.5
    truth = gaussian_distribution(width, Q_MAX)[Q_MAX:]
    every = walk(n, m * n_ensembles, width, rate)
    shown: dict[int, list] = {}
    by_outcome: dict[int, list] = {}
    for charge in np.split(every, n_ensembles, axis=1):
        distribution = (lambda q_max: gaussian_distribution(width, q_max)) if known else None
        found = sector_probabilities(charge, distribution=distribution)
        for q, estimate in found.items():
            shown.setdefault(abs(q), []).append(estimate)
        for q in range(-5, 6):
            if np.sum(charge == q) >= 100:
                by_outcome.setdefault(abs(q), []).append(gamma_method((charge == q).astype(float)))

    def bias(estimates, q):
        """In units of one error."""
        return (np.mean([e.value for e in estimates]) - truth[q]) / np.mean([e.error for e in estimates])

    biases = {q: bias(estimates, q) for q, estimates in shown.items() if len(estimates) >= 20}
    print({q: (len(shown[q]), round(b, 2)) for q, b in biases.items()})
    assert {0, 1, 2} <= set(biases)
    assert max(map(abs, biases.values())) < 0.5
    assert max(bias(estimates, q) for q, estimates in by_outcome.items()) > (0.8 if rate < 0.1 else 0.3)
    pulls = [pull(e.value, e.error, truth[q]) for q in biases for e in shown[q]]
    assert abs(np.mean(pulls)) < 0.3
    assert np.std(pulls) < 1.4


def test_a_biased_ensemble_knows_its_rare_sectors(rng):
    """Every charge as often, with the weights of a narrow Gaussian; without a bias they are too rare."""
    truth = gaussian_distribution(0.5, 3)
    flat = rng.integers(-3, 4, size=(4000, 2)).astype(float)
    found = sector_probabilities(flat, -(flat**2) / (2.0 * 0.5))
    assert list(found) == [*range(-3, 4)]
    assert worst(found.values(), truth / truth.sum()) < 4.5
    drawn = rng.choice(np.arange(-3, 4), p=truth / truth.sum(), size=(4000, 2)).astype(float)
    assert set(sector_probabilities(drawn)) <= {-2, -1, 0, 1, 2}


def test_uneven_weights_in_a_sector_leave_it_out(rng):
    """1,000 configurations of |Q| = 1 whose weights are all but the same as 20; even weights leave it in."""
    charge = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=5000)
    assert set(sector_probabilities(charge, np.zeros(5000))) == {-1, 0, 1}
    log_w = np.where((charge != 0) & (rng.random(5000) > 0.02), -12.0, 0.0)
    assert set(sector_probabilities(charge, log_w)) == {0}


def test_frozen_chains_know_means_but_no_probabilities(rng):
    charge, series = np.repeat([[-1.0, 0.0, 1.0, 1.0]], 1000, axis=0), rng.normal(size=(1000, 4))
    assert sector_probabilities(charge) == {}
    assert set(sector_means(charge, series)) == {-1, 0, 1}
    one_visit = np.zeros((1000, 4))
    one_visit[100:600, 0] = 1.0
    assert sector_probabilities(one_visit) == {}  # 500 configurations, of a single visit


def test_the_expansion_at_fixed_charge_is_of_first_order_in_the_volume():
    """<cos P>_0 - <cos P> - O'' / (2 <Q^2>) falls like 1/V^2 and so 16 times from V to 4 V; O'' is exact."""
    left_out, first_order = [], []
    for n_sites in (64, 256, 1024):
        exact = ExactU1(1.0, n_sites)
        theta = 0.02

        def log_ratio(beta, n_sites=n_sites, theta=theta):
            return math.log(ExactU1(beta, n_sites).theta_ratio(theta))

        second = 2.0 * slope_in_beta(log_ratio, exact.beta) / n_sites / theta**2  # O(theta) = O + O'' theta^2 / 2
        first_order.append(second / (2.0 * exact.charge_squared))
        left_out.append(plaquette_at_charge(exact, 0) - exact.plaquette - first_order[-1])
    assert np.array(first_order[:-1]) / first_order[1:] == pytest.approx(4.0, rel=0.02)
    assert np.array(left_out[:-1]) / left_out[1:] == pytest.approx(16.0, rel=0.1)
    assert abs(left_out[1]) < 0.05 * abs(first_order[1])


@pytest.mark.parametrize(("shape", "beta"), POINTS, ids=str)
def test_the_whole_from_its_sectors(shape, beta, ensemble):
    charge, plaquette, _ = ensemble(shape, beta, 20_000)
    exact, means = ExactU1(beta, math.prod(shape)), sector_means(charge, plaquette)
    for given in (None, exact.charge_squared):
        fit = fixed_charge_extrapolation(charge, plaquette, means, charge_squared=given)
        assert abs(pull(fit.value, fit.error, exact.plaquette)) < 4.5
        assert fit.chi2 < fit.n_dof + 4.5 * math.sqrt(2 * fit.n_dof)
        assert fit.error < 1.1 * gamma_method(plaquette).error
        assert abs(pull(fit.value, fit.error, ExactU1(1.02 * beta, exact.n_sites).plaquette)) > 5
        slope = (plaquette_at_charge(exact, 2) - plaquette_at_charge(exact, 0)) / 4.0
        assert abs(pull(fit.slope, fit.slope_error, slope)) < 4.5
    assert fit.slope < -5 * fit.slope_error


def test_chains_that_never_leave_their_sector_know_the_whole(ensemble):
    """As many configurations of Q = -2, ..., 2: their mean is wrong, the fit with the known <Q^2> is not."""
    charge, plaquette, _ = ensemble((8, 8), 2.0, 40_000)
    exact, q = ExactU1(2.0, 64), np.rint(charge)
    chains = [np.flatnonzero(q == k)[:1500] for k in (-2, -1, 0, 1, 2)]
    charges, plaquettes = [charge[rows] for rows in chains], [plaquette[rows] for rows in chains]
    means = sector_means(charges, plaquettes)
    fit = fixed_charge_extrapolation(charges, plaquettes, means, charge_squared=exact.charge_squared)
    assert abs(pull(fit.value, fit.error, exact.plaquette)) < 4.5
    naive = gamma_method(plaquettes)
    assert abs(pull(naive.value, naive.error, exact.plaquette)) > 5
    own = fixed_charge_extrapolation(charges, plaquettes, means)
    assert abs(pull(own.value, own.error, exact.plaquette)) > 5  # their <Q^2> is that of the choice above


@pytest.mark.parametrize(("shape", "beta"), POINTS, ids=str)
def test_theta_dependence(shape, beta, ensemble):
    charge, _, _ = ensemble(shape, beta, 20_000)
    exact, theta = ExactU1(beta, math.prod(shape)), np.linspace(0.0, np.pi, 13)
    found, truth = theta_dependence(charge, theta), exact.theta_ratio(theta)
    assert found[0].value == 1.0
    assert found[0].error == 0.0
    assert worst(found[1:], truth[1:]) < 4.5
    resolved = [is_resolved(one) for one in found]
    assert resolved[:5] == [True] * 5
    # The sign problem: where the value is gone, the error is that of a sign.
    assert found[-1].error == pytest.approx(1.0 / math.sqrt(charge.size), rel=0.3)
    assert all(resolved) == (truth[-1] > 5.0 * found[-1].error)


def test_theta_dependence_finds_another_coupling(ensemble):
    """beta 2 % off."""
    theta = np.linspace(0.0, np.pi, 13)[1:]
    charge, _, _ = ensemble((4, 4), 1.02 * 2.0, 200_000)
    found = theta_dependence(charge, theta)
    assert worst(found, ExactU1(1.02 * 2.0, 16).theta_ratio(theta)) < 4.5
    assert worst(found, ExactU1(2.0, 16).theta_ratio(theta)) > 5


def test_weighted_chains_are_those_of_the_target(ensemble):
    """An ensemble at beta = 1.85 with weights for 2."""
    charge, plaquette, deficit = ensemble((8, 8), 1.85, 20_000)
    log_w, exact = (1.85 - 2.0) * deficit, ExactU1(2.0, 64)
    theta, known = np.linspace(0.3, 2.1, 5), exact.charge_distribution(Q_MAX)
    for weights in (log_w, None):
        probabilities = sector_probabilities(charge, weights)
        means = sector_means(charge, plaquette, weights)
        fit = fixed_charge_extrapolation(charge, plaquette, means, weights)
        pulls = [
            worst(probabilities.values(), [known[q + Q_MAX] for q in probabilities]),
            worst(theta_dependence(charge, theta, weights), exact.theta_ratio(theta)),
            worst(means.values(), [plaquette_at_charge(exact, q) for q in means]),
            abs(pull(fit.value, fit.error, exact.plaquette)),
        ]
        if weights is None:
            assert min(pulls) > 4.5, pulls  # without them it is another theory
        else:
            assert max(pulls) < 4.5, pulls


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_are_those_of_linear_propagation(weighted, ar1):
    """Autocorrelated replicas of unequal length: what derived says of the same ratios and of the same fit."""
    noise = [ar1(n, 0.9, 3) for n in (6000, 2500, 4000)]
    charge = [np.rint(1.2 * x[:, 0]) for x in noise]
    series = [2.0 - 0.1 * q**2 + x[:, 1] for q, x in zip(charge, noise)]
    log_w = [0.4 * x[:, 2] for x in noise] if weighted else None
    probabilities, means = sector_probabilities(charge, log_w, 300), sector_means(charge, series, log_w, 300)
    assert set(means) == set(probabilities) == {-2, -1, 0, 1, 2}
    hits = {k: [(q == k).astype(float) for q in charge] for k in means}
    products = {k: [h * o for h, o in zip(hits[k], series)] for k in means}

    def reference(function, *terms):
        return derived_reweighted(function, log_w, *terms) if weighted else derived(function, *terms)

    for k in means:
        expected = reference(lambda a, b: a / b, products[k], hits[k])
        assert means[k][:5] == pytest.approx(expected[:5], rel=1e-7)
        assert probabilities[k][:5] == pytest.approx(reference(lambda p: p, hits[k])[:5], rel=1e-7)
    if not weighted:
        assert means[0][:5] == pytest.approx(ratio(products[0], hits[0])[:5], rel=1e-9)
    squares, weights = np.array([q * q for q in means]), np.array([m.error**-2.0 for m in means.values()])
    centre = weights @ squares / weights.sum()

    def line(at, *terms):
        value = [a / b for a, b in zip(terms[::2], terms[1::2])]
        slope = weights @ ((squares - centre) * value) / (weights @ (squares - centre) ** 2)
        return weights @ value / weights.sum() + slope * (at - centre), slope

    terms = [term for k in means for term in (products[k], hits[k])]
    fit = fixed_charge_extrapolation(charge, series, means, log_w)
    square = [q**2 for q in charge]
    value, slope = (reference(lambda *t, part=part: line(*t)[part], square, *terms) for part in (0, 1))
    assert (fit.value, fit.error) == pytest.approx(value[:2], rel=1e-6)
    assert (fit.slope, fit.slope_error) == pytest.approx(slope[:2], rel=1e-6)
    fixed = fixed_charge_extrapolation(charge, series, means, log_w, charge_squared=1.5)
    assert (fixed.value, fixed.error) == pytest.approx(reference(lambda *t: line(1.5, *t)[0], *terms)[:2], rel=1e-6)


def test_equal_weights_are_no_weights(ar1):
    charge, series = np.rint(ar1(3000, 0.5, 2)), ar1(3000, 0.5, 2)
    none = np.full(charge.shape, -700.0)
    for q, mean in sector_means(charge, series).items():
        assert sector_means(charge, series, none)[q] == pytest.approx(mean, rel=1e-9)
    assert theta_dependence(charge, [1.0], none)[0] == pytest.approx(theta_dependence(charge, [1.0])[0], rel=1e-9)
    for sector in sector_weights(charge, none):
        assert sector.ess == pytest.approx(1.0)
        assert sector.share == pytest.approx(np.mean(charge == sector.charge))


def test_tunnelling_rate(rng):
    """Chains that step with probability 0.2 a configuration; noise of the charge is rounded away."""
    steps = [rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=n) for n in (20_000, 7_000, 13_000)]
    rate = tunnelling_rate([np.cumsum(step) + 0.1 * rng.uniform(-1, 1, step.size) for step in steps])
    assert abs(pull(rate.value, rate.error, 0.2)) < 4.5
    assert abs(pull(rate.value, rate.error, 0.22)) > 5
    rate, error, *_ = tunnelling_rate([np.zeros(10), np.ones(8)])
    assert rate == 0.0
    assert math.isnan(error)


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_forward_ess_of_a_shifted_gaussian(shift, ar1, misfit):
    """p = N(0, 1), q = N(shift, 1): ESS = exp(-shift^2), from autocorrelated chains of p."""
    found = [forward_ess(math.log(7.0) - shift * x) for x in ar1(4000, 0.8, 300).T]
    exact = math.exp(-(shift**2))
    # The bias of a function of means is of the order of the error squared: half of 2 errors over sqrt(300) here.
    pulls = np.array([pull(f.value, f.error, exact) for f in found])
    assert 0.85 < pulls.std() < 1.15
    mean, error = np.mean([f.value for f in found]), np.std([f.value for f in found]) / math.sqrt(len(found))
    assert abs(mean - exact) < 4.5 * error + exact * np.mean([(f.error / f.value) ** 2 for f in found])
    assert abs(mean - math.exp(-0.9 * shift**2)) > 5 * error  # a planted error
    reverse = effective_sample_size(-shift * (shift + ar1(40_000, 0.0)[:, 0]))
    assert abs(reverse.value - exact) < 4.5 * reverse.error


def test_forward_ess_collapses_where_a_mode_is_missed(rng):
    """A flow of one of two modes: its own samples have even weights, and those of the target tell."""
    near, far = rng.normal(4.0, 1.0, 20_000), rng.normal(-4.0, 1.0, 20_000)

    def log_w(x, missed):
        """log p/q of p, half N(4, 1) and half N(-4, 1), and q, the same with a share `missed` of the second."""
        at, other = -0.5 * (x - 4.0) ** 2, -0.5 * (x + 4.0) ** 2
        q = np.logaddexp(math.log1p(-missed) + at, math.log(missed) + other)
        return np.logaddexp(at, other) - math.log(2.0) - q

    assert effective_sample_size(log_w(near, 1e-9)).value > 0.99
    target = np.concatenate([near, far])
    rng.shuffle(target)
    collapsed = forward_ess(log_w(target, 1e-9))
    assert collapsed.value + 4.5 * collapsed.error < 1e-6
    fair = forward_ess(log_w(target, 0.5))
    assert fair.value == pytest.approx(1.0)
    assert fair.error == pytest.approx(0.0, abs=1e-12)
    # 4 missed (1 - missed), but for the overlap of the modes
    known = forward_ess(log_w(target, 0.2))
    assert abs(pull(known.value, known.error, 4 * 0.2 * 0.8)) < 4.5


def test_sector_weights_by_hand():
    log_w = np.log([1.0, 3.0, 2.0, 2.0, 4.0, 1e-300])
    charge = np.array([0.0, 0.01, 1.0, 1.0, -1.0, 5.0])
    found = sector_weights(charge, log_w)
    assert [(s.charge, s.n_configs) for s in found] == [(-1, 1), (0, 2), (1, 2)]  # at 5 no weight that a double holds
    assert [s.share for s in found] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert [s.ess for s in found] == pytest.approx([1.0, 16 / 20, 1.0])


def test_refuses_what_makes_no_sense():
    charge, means = np.array([0.0, 1.0, 0.0, 1.0, 1.0]), {0: gamma_method(np.arange(5.0))}
    with pytest.raises(ValueError, match="two values of"):
        fixed_charge_extrapolation(charge, np.arange(5.0), means)
    with pytest.raises(ValueError, match="same configurations"):
        sector_means(charge, np.arange(6.0))
    with pytest.raises(ValueError, match="same configurations"):
        sector_probabilities(charge, np.zeros(6))
    with pytest.raises(ValueError, match="at least 4"):
        tunnelling_rate(charge[:4])
    with pytest.raises(ValueError, match="infinite"):
        theta_dependence(np.array([0.0, np.nan, 1.0, 0.0]), [1.0])
    with pytest.raises(ValueError, match="infinite"):
        forward_ess(np.array([0.0, np.inf, 1.0, 0.0]))
    assert sector_probabilities(charge) == {}
