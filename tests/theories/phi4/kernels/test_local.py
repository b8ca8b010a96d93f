"""Local updates of phi^4: conditional densities by quadrature, small lattices by transfer matrix, planted errors."""

import numba
import numpy as np
import pytest
from phi4_moments import differences, estimated_moments, exact_moments, hot_start, pulls
from scipy import stats

from lattice_flows.kernels.random import make_streams
from lattice_flows.statistics import gamma_method
from lattice_flows.theories.phi4.kernels import local as local_phi4

METROPOLIS, HEATBATH, OVERRELAXATION = local_phi4.metropolis, local_phi4.heatbath, local_phi4.overrelaxation

# (quad, quart) of single wells, shallow and deep double wells, sharp ones (the Ising limit), and the free field.
DENSITIES = [(1.0, 0.0), (4.0, 0.1), (0.5, 3.0), (0.0, 8.0), (-2.0, 8.0), (-4.0, 1.0), (-8.0, 0.5), (-50.0, 30.0)]
SLOPES = [0.0, 0.4, -3.0, 20.0, 300.0]
EXACT_POINTS = [
    ((2,), (1.0, -2.0, 8.0)),
    ((2,), (0.6, -3.0, 1.0)),
    ((5,), (0.3, 0.4, 0.2)),
    ((2, 2), (0.4, 0.5, 1.0)),
    ((6, 4), (0.9, 4.2, 0.0)),
    ((2, 3, 2), (0.5, 3.4, 0.0)),
]


def metropolis(couplings, width=1.0, n_sweeps=3):
    return lambda phi, streams: METROPOLIS(phi, streams, *couplings, width, n_sweeps)[:2]


def heatbath(couplings):
    return lambda phi, streams: HEATBATH(phi, streams, *couplings, 1)


def overrelaxed(couplings):
    """One heat bath, for reflections alone are not ergodic, and three sweeps of reflections."""

    def update(phi, streams):
        phi, streams = HEATBATH(phi, streams, *couplings, 1)
        return OVERRELAXATION(phi, streams, *couplings, 3)[:2]

    return update


ALGORITHMS = {"metropolis": metropolis, "heatbath": heatbath, "overrelaxation": overrelaxed}
over_algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
over_points = pytest.mark.parametrize(("shape", "couplings"), EXACT_POINTS, ids=str)


class Conditional:
    """exp(b phi - quad phi^2 - quart phi^4) on a fine grid."""

    def __init__(self, b, quad, quart):
        bottoms = [root.real for root in np.roots([4 * quart, 0, 2 * quad, -b][quart == 0 and 2 :]) if root.imag == 0]
        cost = lambda phi: quart * phi**4 + quad * phi**2 - b * phi  # noqa: E731
        reach = 1.5 * max(map(abs, bottoms)) + 12.0 / np.sqrt(2 * abs(quad) + np.sqrt(quart))
        self.phi = np.linspace(-reach, reach, 200_001)
        density = np.exp(min(map(cost, bottoms)) - cost(self.phi))
        self._weights = density / density.sum()

    def moment(self, power):
        return float(self._weights @ self.phi**power)

    def cdf(self, phi):
        return np.interp(phi, self.phi, np.cumsum(self._weights) - 0.5 * self._weights)


def draws(b, quad, quart, seed, n=400_000):
    """Heat-bath draws at hop = 1/2: even sites of a long ring go first, between odd ones that hold b/2."""
    phi = np.zeros((4, n // 2))
    phi[:, 1::2] = 0.5 * b
    new, _ = HEATBATH(phi, make_streams(seed, "test", range(4)), 0.5, quad, quart, 1)
    return new[:, ::2].ravel()


def moment_pulls(sample, conditional):
    return [
        (np.mean(sample**power) - conditional.moment(power)) / (np.std(sample**power) / np.sqrt(sample.size))
        for power in (1, 2, 4)
    ]


@pytest.mark.parametrize("b", SLOPES)
@pytest.mark.parametrize(("quad", "quart"), DENSITIES, ids=str)
def test_heatbath_draws_from_the_conditional_density(quad, quart, b, seed):
    sample, conditional = draws(b, quad, quart, seed), Conditional(b, quad, quart)
    assert np.abs(moment_pulls(sample, conditional)).max() < 4.5
    assert stats.kstest(sample[::4], conditional.cdf).pvalue > 1e-5


@pytest.mark.parametrize(("b", "quad", "quart"), [(0.4, -2.0, 8.0), (3.0, -4.0, 1.0)], ids=str)
def test_a_wrong_density_is_caught(b, quad, quart, seed):
    for wrong in [(quad, 1.01 * quart), (1.01 * quad, quart)]:
        sample = draws(b, *wrong, seed, 4_000_000)
        assert np.abs(moment_pulls(sample, Conditional(b, quad, quart))).max() > 4.5, wrong


def proposals_per_site(couplings, b, seed):
    phi = np.zeros((1, 4000))
    phi[:, 1::2] = 0.5 * b
    _, _, n_proposals = local_phi4._counted_heatbath(phi, make_streams(seed, "test", range(1)), 0.5, *couplings, 1)
    return n_proposals[0] / 4000


@pytest.mark.parametrize("quart", [1e-3, 0.1, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("quad", [-2000.0, -50.0, -8.0, -1.0, 0.0, 2.0, 30.0])
def test_no_coupling_needs_more_than_two_proposals_per_draw(quad, quart, seed):
    """Acceptance 1/2 or more; starts far outside equilibrium (b = 1e9) are left as quickly."""
    for b in (0.0, 1.0, 30.0, 1e9):
        assert proposals_per_site((quad, quart), b, seed) < 2.1
    assert proposals_per_site((1.0, 0.0), 3.0, seed) == 1.0


@over_algorithms
@over_points
def test_small_lattices_agree_with_exact_moments(algorithm, shape, couplings, seed):
    estimates = estimated_moments(algorithm(couplings), *hot_start(shape, 150, seed), 150)
    found = pulls(estimates, exact_moments(shape, *couplings))
    assert np.abs(found).max() < 4.5, found


@pytest.mark.parametrize("algorithm", [metropolis, heatbath])
def test_a_quartic_coupling_two_per_cent_off_is_caught(algorithm, seed):
    estimates = estimated_moments(algorithm((1.0, -2.0, 8.16)), *hot_start((2,), 2000, seed), 150)
    found = pulls(estimates, exact_moments((2,), 1.0, -2.0, 8.0))
    assert np.abs(found).max() > 4.5, found


@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (3, 2, 4)], ids=str)
def test_algorithms_agree_with_each_other(shape, seed):
    couplings = (1.0, 2.0 * len(shape) - 4.0, 8.0)
    starts = [hot_start(shape, 100, seed, name) for name in ALGORITHMS]
    first, *others = [
        estimated_moments(algorithm(couplings), *start, 150)
        for algorithm, start in zip(ALGORITHMS.values(), starts, strict=True)
    ]
    for other in others:
        assert np.abs(differences(first, other)).max() < 4.5


ONE_SWEEP = {
    "metropolis": lambda phi, streams, quad, quart: METROPOLIS(phi, streams, 0.5, quad, quart, 0.8, 1)[0],
    "overrelaxation": lambda phi, streams, quad, quart: OVERRELAXATION(phi, streams, 0.5, quad, quart, 1)[0],
}


def imbalance(sweep, quad, quart, wrong_quart, seed, rng):
    """Pulls of <phi'^n - phi^n> for one update of sites drawn from their exact density between fixed neighbours."""
    conditional = Conditional(1.0, quad, quart)
    phi = np.zeros((40, 100_000))
    phi[:, 1::2] = 0.5
    phi[:, ::2] = np.interp(rng.random((40, 50_000)), conditional.cdf(conditional.phi), conditional.phi)
    new = sweep(phi, make_streams(seed, "test", range(40)), quad, wrong_quart)[:, ::2].ravel()
    old = phi[:, ::2].ravel()
    assert np.mean(new != old) > 0.2
    changes = [new**power - old**power for power in (1, 2, 4)]
    return [change.mean() / change.std() * np.sqrt(change.size) for change in changes]


@pytest.mark.parametrize(("quad", "quart"), [(-2.0, 8.0), (-4.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("sweep", ONE_SWEEP.values(), ids=ONE_SWEEP)
def test_one_sweep_keeps_the_balance(sweep, quad, quart, seed, rng):
    assert np.abs(imbalance(sweep, quad, quart, quart, seed, rng)).max() < 4.5


@pytest.mark.parametrize(("quad", "quart"), [(-2.0, 8.0), (-4.0, 1.0)])
@pytest.mark.parametrize("sweep", ONE_SWEEP.values(), ids=ONE_SWEEP)
def test_a_wrong_test_of_one_sweep_is_caught(sweep, quad, quart, seed, rng):
    assert np.abs(imbalance(sweep, quad, quart, 1.02 * quart, seed, rng)).max() > 4.5


def test_overrelaxation_keeps_a_free_action_and_undoes_itself(seed):
    phi, streams = hot_start((4, 6), 3, seed)
    couplings = (0.8, 3.6, 0.0)
    new, _, accepted = OVERRELAXATION(phi, streams, *couplings, 1)
    link = lambda phi: sum((phi * np.roll(phi, -1, mu)).sum((1, 2)) for mu in (1, 2))  # noqa: E731
    action = lambda phi: -1.6 * link(phi) + 3.6 * (phi**2).sum((1, 2))  # noqa: E731
    assert (accepted == 1.0).all()
    np.testing.assert_allclose(action(new), action(phi), rtol=1e-13)
    assert np.abs(new - phi).min() > 0.0


SWEEPS = {
    "metropolis": lambda phi, streams, n: METROPOLIS(phi, streams, 1.0, -0.5, 2.0, 0.9, n)[:2],
    "heatbath": lambda phi, streams, n: HEATBATH(phi, streams, 1.0, -0.5, 2.0, n),
    "overrelaxation": lambda phi, streams, n: OVERRELAXATION(phi, streams, 1.0, -0.5, 2.0, n)[:2],
}


@pytest.mark.parametrize("shape", [(7,), (4, 6), (5, 3), (3, 2, 4)], ids=str)
@pytest.mark.parametrize("sweeps", SWEEPS.values(), ids=SWEEPS)
def test_bits_depend_on_neither_threads_nor_grouping_nor_calls(sweeps, shape, seed):
    phi, streams = hot_start(shape, 5, seed)
    given = phi.copy(), streams.copy()
    whole = sweeps(phi, streams, 4)
    np.testing.assert_array_equal(phi, given[0])
    np.testing.assert_array_equal(streams, given[1])

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    one_by_one = phi, streams
    for _ in range(4):
        one_by_one = sweeps(*one_by_one, 1)
    grouped = [sweeps(phi[part], streams[part], 4) for part in (slice(0, 2), slice(2, 5))]
    for k in range(2):
        np.testing.assert_array_equal(one_by_one[k], whole[k])
        np.testing.assert_array_equal(np.concatenate([part[k] for part in grouped]), whole[k])


def test_a_field_that_is_not_a_number_does_not_hang(seed):
    phi, streams = np.full((1, 4, 4), np.nan), make_streams(seed, "test", range(1))
    assert np.isnan(HEATBATH(phi, streams, 1.0, -0.5, 2.0, 1)[0]).any()


def test_impossible_arguments_are_refused(seed):
    phi, streams = hot_start((4,), 1, seed)
    for couplings in [(1.0, -1.0, 0.0), (1.0, 1.0, -1.0), (1.0, 1.0, float("nan")), (1.0, 0.0, 0.0)]:
        with pytest.raises(ValueError, match="no lower bound"):
            HEATBATH(phi, streams, *couplings, 1)
    with pytest.raises(ValueError, match="extent"):
        HEATBATH(phi.reshape(1, 4, 1), streams, 1.0, 1.0, 1.0, 1)


@pytest.mark.parametrize("couplings", [(1.0, 0.0, 4.0), (1.0, 5.0, 0.1)], ids=str)
def test_accepted_fractions_are_fractions(couplings, seed):
    phi, streams = hot_start((8, 8), 2, seed)
    phi, streams = HEATBATH(phi, streams, *couplings, 20)
    accepted = METROPOLIS(phi, streams, *couplings, 1e-6, 20)[2]
    assert (accepted > 0.99).all()
    moved = []
    for _ in range(50):
        new, streams, accepted = METROPOLIS(phi, streams, *couplings, 1.0, 1)
        moved.append(np.mean(new != phi, axis=(1, 2)))
        np.testing.assert_allclose(accepted, moved[-1])
        phi = new
    assert 0.05 < gamma_method(np.stack(moved)).value < 0.95
