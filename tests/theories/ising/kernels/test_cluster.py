"""Cluster updates of Ising spins: clusters at the ends of beta, and that given the bonds the signs are independent."""

import math

import numpy as np
import pytest
from ising_enumeration import EnumeratedIsing

from lattice_flows.theories.ising.kernels.cluster import swendsen_wang, wolff


def many_streams(n, rng):
    return np.stack([rng.integers(2**63, size=n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)], axis=1)


def hot(shape, n, seed):
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([-1, 1], dtype=np.int8), (n, *shape)), many_streams(n, rng)


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (8, 66)], ids=str)
def test_without_bonds_spins_are_clusters(shape, seed):
    x, streams = hot(shape, 50, seed)
    volume = math.prod(shape)
    new, _, sizes = wolff(x, streams, 0.0, 1)
    assert (sizes == 1.0).all()
    assert ((new != x).sum((1, 2)) == 1).all()
    new, _, second, fourth = swendsen_wang(x, streams, 0.0, 1)
    np.testing.assert_allclose(second, 1.0 / volume, rtol=1e-14)
    np.testing.assert_allclose(fourth, (3.0 * volume**2 - 2.0 * volume) / volume**4, rtol=1e-14)
    flipped = (new != x).mean()
    assert abs(flipped - 0.5) < 4.5 * 0.5 / math.sqrt(x.size)


@pytest.mark.parametrize("shape", [(3, 2), (3, 5), (8, 66)], ids=str)
def test_without_fluctuations_domains_are_clusters(shape, seed):
    """One row against the others: each of the two flips as a whole, or not."""
    _, streams = hot(shape, 50, seed)
    x = np.ones((50, *shape), dtype=np.int8)
    x[:, 0] = -1
    row, rest = shape[1], (shape[0] - 1) * shape[1]
    new, _, sizes = wolff(x, streams, 50.0, 1)
    assert set(sizes) == {row, rest}
    np.testing.assert_array_equal((new != x).sum((1, 2)), sizes)
    new, _, second, _ = swendsen_wang(x, streams, 50.0, 1)
    np.testing.assert_allclose(second, (row**2 + rest**2) / math.prod(shape) ** 2, rtol=1e-14)
    turned = new != x
    assert (turned[:, 0] == turned[:, :1, 0]).all()
    assert (turned[:, 1:] == turned[:, 1:2, :1]).all()
    assert len(np.unique(turned[:, :2, 0], axis=0)) == 4  # all outcomes in fifty


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 4)], ids=str)
def test_bonds_of_equilibrium(shape, seed):
    """From exact configurations: the estimators have the exact moments, and two per cent of beta are seen."""
    exact, n = EnumeratedIsing(0.4, shape), 200_000
    rng = np.random.default_rng(seed)
    x, streams = exact.spins[rng.choice(len(exact.spins), n, p=exact.probabilities)], many_streams(n, rng)
    m2 = exact.susceptibility / exact.n_sites
    m4 = 3.0 * m2**2 * (1.0 - exact.binder_cumulant)

    def pulls(beta):
        _, _, sizes = wolff(x, streams, beta, 1)
        _, _, second, fourth = swendsen_wang(x, streams, beta, 1)
        pairs = ((sizes / exact.n_sites, m2), (second, m2), (fourth, m4))
        return [(found.mean() - wanted) / (found.std() / math.sqrt(n)) for found, wanted in pairs]

    assert np.abs(pulls(0.4)).max() < 4.5
    assert np.abs(pulls(0.408)).min() > 4.5


def test_given_the_bonds_the_signs_are_independent(seed):
    """<M^2> of what Swendsen and Wang's update leaves is the mean of its own estimator, from any start."""
    x, streams = hot((6, 7), 100_000, seed)
    new, _, second, fourth = swendsen_wang(x, streams, 0.5, 1)
    m = new.mean((1, 2))
    for difference in (m**2 - second, m**4 - fourth):
        assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(len(m))
        assert difference.std() > 0.0


@pytest.mark.parametrize("update", [wolff, swendsen_wang])
def test_arguments_stay_as_they_are(update, seed):
    x, streams = hot((5, 6), 4, seed)
    kept = x.copy(), streams.copy()
    new, *_ = update(x, streams, 0.4, 3)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(streams, kept[1])
    assert new.dtype == np.int8
    assert set(np.unique(new)) <= {-1, 1}
