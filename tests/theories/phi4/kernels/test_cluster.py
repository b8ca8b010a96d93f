"""The cluster update of phi^4: what it leaves alone, its bond probability, and exact moments when mixed."""

import numba
import numpy as np
import pytest
from phi4_moments import differences, estimated_moments, exact_moments, hot_start, pulls

from lattice_flows.kernels.random import make_streams
from lattice_flows.statistics import gamma_method
from lattice_flows.theories.phi4.kernels.cluster import cluster
from lattice_flows.theories.phi4.kernels.local import heatbath


def mixed(couplings, n_clusters=3, wrong_hop=None):
    """One heat bath and then clusters, whose bonds may be wrong; in this order, for a heat bath forgets signs."""
    bonds = (wrong_hop or couplings[0], *couplings[1:])

    def update(phi, streams):
        phi, streams = heatbath(phi, streams, *couplings, 1)
        return cluster(phi, streams, *bonds, n_clusters)[:2]

    return update


POINTS = [
    ((2,), (1.0, -2.0, 8.0)),
    ((2,), (0.6, -3.0, 1.0)),
    ((2, 2), (0.4, 0.5, 1.0)),
    ((5,), (-0.3, 0.4, 0.2)),
    ((6, 4), (0.9, 4.2, 0.0)),
]


@pytest.mark.parametrize(("shape", "couplings"), POINTS, ids=str)
def test_mixed_with_a_heatbath_it_agrees_with_exact_moments(shape, couplings, seed):
    """Two sites with a double link, an odd ring with hop < 0 (frustrated), and the free field among them."""
    estimates = estimated_moments(mixed(couplings), *hot_start(shape, 150, seed), 150)
    found = pulls(estimates, exact_moments(shape, *couplings))
    assert np.abs(found).max() < 4.5, found


@pytest.mark.parametrize("factor", [0.5, 0.98])
def test_a_wrong_bond_probability_is_caught(factor, seed):
    """1 - exp(-2 hop ...) instead of 4, and two per cent off, which 8000 chains see at 7.5 +- 0.9 sigma."""
    couplings = (1.0, -2.0, 8.0)
    n_chains = 100 if factor == 0.5 else 8000
    update = mixed(couplings, 6, wrong_hop=factor * couplings[0])
    estimates = estimated_moments(update, *hot_start((2,), n_chains, seed), 200)
    found = pulls(estimates, exact_moments((2,), *couplings))
    assert np.abs(found).max() > 4.5, found


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 4)], ids=str)
def test_it_keeps_the_equilibrium_of_the_heatbath(shape, seed):
    couplings = (1.0, 2.0 * len(shape) - 4.0, 8.0)
    alone = estimated_moments(lambda *state: heatbath(*state, *couplings, 1), *hot_start(shape, 100, seed), 150)
    both = estimated_moments(mixed(couplings), *hot_start(shape, 100, seed, "other"), 150)
    assert np.abs(differences(alone, both)).max() < 4.5


def ising_energy(phi):
    signs = np.sign(phi)
    return sum((signs * np.roll(signs, -1, mu)).mean((1, 2)) for mu in (1, 2))


def test_at_fixed_modulus_it_samples_the_ising_model(seed):
    """phi = +-1 on 4x4: the exact mean energy comes from all 2^16 configurations."""
    hop = 0.15
    bits = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    energy = ising_energy((2.0 * bits - 1.0).reshape(-1, 4, 4))
    weights = np.exp(2.0 * hop * 16 * energy)
    phi, streams = np.ones((200, 4, 4)), make_streams(seed, "test", range(200))
    series = []
    for n in range(400):
        phi, streams, _ = cluster(phi, streams, hop, 0.0, 1.0, 4)
        if n >= 50:
            series.append(ising_energy(phi))
    estimate = gamma_method(np.stack(series))
    assert abs(estimate.value - (weights @ energy) / weights.sum()) < 4.5 * estimate.error


@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 2, 4)], ids=str)
def test_it_flips_signs_only_and_counts_them(shape, seed):
    phi, streams = hot_start(shape, 20, seed)
    new, _, flipped = cluster(phi, streams, 0.4, 1.0, 1.0, 1)
    np.testing.assert_array_equal(np.abs(new), np.abs(phi))
    np.testing.assert_allclose(flipped, (new != phi).reshape(20, -1).mean(1))
    assert (flipped > 0).all()


def test_strong_bonds_flip_all_and_none_flip_one(seed):
    phi, streams = hot_start((8, 8), 20, seed)
    new, _, flipped = cluster(np.abs(phi) + 1.0, streams, 1000.0, 0.0, 1.0, 1)
    np.testing.assert_array_equal(new, -np.abs(phi) - 1.0)
    assert (flipped == 1.0).all()
    assert (cluster(phi, streams, 0.0, 1.0, 1.0, 5)[2] == 1.0 / 64.0).all()


@pytest.mark.parametrize("shape", [(7,), (8, 6), (3, 2, 4)], ids=str)
def test_bits_depend_on_neither_threads_nor_grouping_nor_calls(shape, seed):
    phi, streams = hot_start(shape, 5, seed)
    given = phi.copy(), streams.copy()
    couplings = (0.3, 0.0, 1.0)
    whole = cluster(phi, streams, *couplings, 6)[:2]
    np.testing.assert_array_equal(phi, given[0])
    np.testing.assert_array_equal(streams, given[1])

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    one_by_one = phi, streams
    for _ in range(6):
        one_by_one = cluster(*one_by_one, *couplings, 1)[:2]
    grouped = [cluster(phi[part], streams[part], *couplings, 6) for part in (slice(0, 2), slice(2, 5))]
    for k in range(2):
        np.testing.assert_array_equal(one_by_one[k], whole[k])
        np.testing.assert_array_equal(np.concatenate([part[k] for part in grouped]), whole[k])


def test_an_extent_of_one_is_refused(seed):
    phi, streams = hot_start((4, 1), 1, seed)
    with pytest.raises(ValueError, match="extent"):
        cluster(phi, streams, 1.0, 1.0, 1.0, 1)
