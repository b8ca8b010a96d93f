"""The cluster update as a sampler: what it keeps, what it moves, and the mixture it is made for."""

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.samplers import HMC, Mixture, Part
from lattice_flows.samplers.cluster import Cluster
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import Phi4, Phi4Hopping, WilsonU1

POINTS = [
    ((6, 4), Phi4(1.0, 0.0)),
    ((8,), Phi4(0.5, 0.0)),
    ((2, 4, 3), Phi4(0.7, 0.0)),
    ((6, 6), Phi4Hopping(0.2, 0.0)),
]


def begin(sampler, shape, n_chains, seed, scale=1.0):
    noise, streams = normals(make_streams(seed, "test", range(n_chains)), int(np.prod(shape)))
    return sampler.init(scale * noise.reshape(-1, *shape), streams)


@pytest.mark.parametrize(("shape", "action"), POINTS, ids=str)
def test_equilibrium_stays_equilibrium(shape, action, pulls, seed):
    found = pulls(Cluster(action), shape, 4000, 5, 2, seed)
    assert max(map(abs, found.values())) < 4.5, found


def test_a_wrong_hopping_parameter_is_caught(pulls, seed):
    """Five per cent off, which is 9 +- 1 sigma of the statistics that hold the right one."""
    action, wrong = Phi4Hopping(0.2, 0.0), Cluster(Phi4Hopping(0.21, 0.0))
    size = {"shape": (6, 6), "n_chains": 16_000, "n_configs": 8, "n_updates": 4, "seed": seed, "action": action}
    right = pulls(Cluster(action), **size)
    off = pulls(wrong, **size, start=action)
    assert max(map(abs, right.values())) < 4.5, right
    assert max(map(abs, off.values())) > 4.5, off


def test_signs_flip_and_magnitudes_stay(seed):
    sampler = Cluster(Phi4(-1.0, 0.7))
    state = begin(sampler, (5, 4), 6, seed)
    later, info = sampler.step(state)
    np.testing.assert_array_equal(np.abs(later.x), np.abs(state.x))
    np.testing.assert_allclose((later.x != state.x).mean((1, 2)), info.cluster_size, atol=1e-15)


def test_the_broken_phase_changes_its_sign_as_hmc_does_not(seed):
    """m2 = -2, lam = 0.5 on 8x8: the magnetisation of HMC keeps its sign."""
    action = Phi4(-2.0, 0.5)
    hmc = HMC(action, 1.0, 8)
    mixture = Mixture(action, (Part(hmc), Part(Cluster(action))))

    def changes(sampler):
        state, signs = begin(sampler, (8, 8), 8, seed, 0.01), []
        for k in range(300):
            state, _ = sampler.step(state)
            if k >= 100:
                signs.append(np.sign(state.x.mean((1, 2))))
        return int((np.diff(signs, axis=0) != 0).sum()), gamma_method(np.array(signs)).tau_int

    alone, together = changes(hmc), changes(mixture)
    assert alone[0] < 40
    assert together[0] > 10 * max(1, alone[0])
    assert together[1] < 2.0


def test_other_actions_are_refused():
    with pytest.raises(ValueError, match="no cluster updates of WilsonU1"):
        Cluster(WilsonU1(1.0))
    assert not Cluster(Phi4(1.0, 1.0)).ergodic
