"""Fourier-accelerated HMC: exact moments, identities of the integrator, frequencies of the free field, bits."""

import numpy as np
import pytest
from phi4_moments import differences, estimated_moments, exact_moments, hot_start, pulls

from lattice_flows.kernels.random import make_streams, normals, uniforms
from lattice_flows.samplers.fourier_hmc import FourierHMC
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import FreeField, WilsonU1, sample_free_field
from lattice_flows.theories.phi4.action import Phi4, Phi4Hopping
from lattice_flows.theories.phi4.kernels.cluster import cluster
from lattice_flows.theories.phi4.kernels.local import heatbath


class WithoutKernels(Phi4):
    """The torch path."""

    def kernel_couplings(self, event):
        return None


class AcceptOff(Phi4):
    """An action two per cent off in the accept step alone: the chain samples exp(-1.02 S)."""

    def evaluate(self, x):
        return 1.02 * super().evaluate(x)


def warm_start(action, shape, n_chains, seed, name="test"):
    """By heat bath: from a hot start a large quartic force rejects every trajectory of reasonable step size."""
    return heatbath(*hot_start(shape, n_chains, seed, name), *action.couplings(len(shape)), 60)


def hmc_update(sampler):
    def update(phi, streams):
        state, _ = sampler.step(sampler.init(phi, streams))
        return state.x, state.streams

    return update


POINTS = [
    ((2,), Phi4(-4.0, 8.0), 4.0),
    ((5,), Phi4Hopping(0.3, 0.2), 1.0),
    ((2, 2), Phi4(-3.0, 2.0), 2.0),
    ((6, 4), Phi4(0.4, 0.0), 0.4),
    ((3, 2, 4), Phi4(0.3, 0.0), 1.0),
]


@pytest.mark.parametrize(("shape", "action", "mass_squared"), POINTS, ids=str)
def test_small_lattices_agree_with_exact_moments(shape, action, mass_squared, seed):
    sampler = FourierHMC(action, mass_squared, n_md_steps=8)
    estimates = estimated_moments(hmc_update(sampler), *warm_start(action, shape, 150, seed), 150)
    found = pulls(estimates, exact_moments(shape, *action.couplings(len(shape))))
    assert np.abs(found).max() < 4.5, found


def test_a_wrong_accept_step_is_caught(seed):
    action = AcceptOff(2.0, 0.5)
    sampler = FourierHMC(action, 3.0, n_md_steps=4)
    estimates = estimated_moments(hmc_update(sampler), *warm_start(action, (2,), 2000, seed), 150)
    found = pulls(estimates, exact_moments((2,), *action.couplings(1)))
    assert np.abs(found).max() > 4.5, found


@pytest.mark.parametrize("shape", [(4, 4), (6, 4)], ids=str)
def test_it_agrees_with_clusters_and_heatbath(shape, seed):
    action = Phi4(-4.0, 8.0)
    couplings = action.couplings(2)

    def mixed(phi, streams):
        phi, streams, _ = cluster(phi, streams, *couplings, 3)
        return heatbath(phi, streams, *couplings, 1)

    sampler = FourierHMC(action, 2.0)
    one = estimated_moments(hmc_update(sampler), *warm_start(action, shape, 100, seed, "hmc"), 150)
    other = estimated_moments(mixed, *hot_start(shape, 100, seed, "mixed"), 150)
    assert np.abs(differences(one, other)).max() < 4.5


@pytest.mark.parametrize("n_md_steps", [2, 5])
def test_mean_of_exp_minus_delta_h_is_one(n_md_steps, seed):
    """Creutz's equality holds at any step size, in equilibrium."""
    action = Phi4(-1.0, 1.0)
    sampler = FourierHMC(action, 1.0, n_md_steps=n_md_steps)
    state = sampler.init(*warm_start(action, (6, 4), 200, seed))
    values = []
    for _ in range(100):
        state, info = sampler.step(state)
        values.append(np.exp(-info.delta_h))
    estimate = gamma_method(np.stack(values))
    assert np.std(values) > 0.01
    assert abs(estimate.value - 1.0) < 4.5 * estimate.error


def test_delta_h_falls_like_step_size_squared(seed):
    phi, streams = hot_start((6, 4), 100, seed)
    size = []
    for n_md_steps in (40, 80):
        sampler = FourierHMC(Phi4(-1.0, 1.0), 1.0, n_md_steps=n_md_steps)
        size.append(np.sqrt(np.mean(sampler.step(sampler.init(phi, streams))[1].delta_h ** 2)))
    assert size[0] / size[1] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("shape", [(8,), (5, 6), (4, 2, 3)], ids=str)
def test_all_modes_of_the_free_field_share_one_period(shape, seed):
    """x(t) = x cos t + F^-1[F[noise] / sqrt(M)] sin t, with the chain's own t."""
    m2 = 0.3
    phi, streams = sample_free_field(m2, shape, make_streams(seed, "test", range(4)))
    sampler = FourierHMC(Phi4(m2, 0.0), m2, n_md_steps=400)
    state, info = sampler.step(sampler.init(phi, streams))
    noise, streams = normals(streams, phi[0].size)
    u, _ = uniforms(streams, 2)
    axes = tuple(range(1, phi.ndim))
    modes = np.fft.fftn(noise.reshape(phi.shape), axes=axes) * np.sqrt(FreeField(m2, shape).propagator)
    t = (sampler.trajectory_length * (0.5 + u[:, 0])).reshape(-1, *[1] * len(shape))
    assert (info.accepted == 1.0).all()
    assert np.ptp(t) > 0.1
    expected = phi * np.cos(t) + np.fft.ifftn(modes, axes=axes).real * np.sin(t)
    np.testing.assert_allclose(state.x, expected, rtol=0, atol=2e-5)


def test_torch_and_compiled_paths_agree(seed):
    phi, streams = hot_start((4, 6), 3, seed)
    states = []
    for action in (Phi4(-1.0, 1.0), WithoutKernels(-1.0, 1.0)):
        sampler = FourierHMC(action, 1.0)
        states.append(sampler.step(sampler.init(phi, streams), 3))
    for k in range(2):
        for compiled, torch in zip(states[0][k], states[1][k], strict=True):
            np.testing.assert_allclose(compiled, torch, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(7,), (8, 6), (5, 3), (3, 2, 4)], ids=str)
def test_bits_depend_on_neither_grouping_nor_calls(shape, seed):
    phi, streams = hot_start(shape, 7, seed)
    sampler = FourierHMC(Phi4(-1.0, 1.0), 1.0, n_md_steps=4)
    begin = sampler.init(phi, streams)
    whole, _ = sampler.step(begin, 3)
    for kept, given in zip(begin, sampler.init(phi, streams), strict=True):
        np.testing.assert_array_equal(kept, given)

    one_by_one = begin
    for _ in range(3):
        one_by_one, _ = sampler.step(one_by_one)
    parts = [slice(0, 1), slice(1, 3), slice(3, 7)]
    grouped = [sampler.step(sampler.init(phi[part], streams[part]), 3)[0] for part in parts]
    for k in range(3):
        np.testing.assert_array_equal(one_by_one[k], whole[k])
        np.testing.assert_array_equal(np.concatenate([part[k] for part in grouped]), whole[k])


def test_forced_rejection_repeats_the_state(seed):
    """One huge step; far out the quartic force overflows, and a delta_h that is not a number is rejected too."""
    phi, streams = hot_start((4, 4), 3, seed)
    for length in (30.0, 1e120):
        sampler = FourierHMC(Phi4(-1.0, 50.0), 1.0, trajectory_length=length, n_md_steps=2)
        state = sampler.init(phi, streams)
        later, info = sampler.step(state, 2)
        assert (info.accepted == 0.0).all()
        np.testing.assert_array_equal(later.x, state.x)
        np.testing.assert_array_equal(later.action, state.action)
        assert (later.streams[:, 1] > state.streams[:, 1]).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"mass_squared": 0.0},
        {"mass_squared": float("nan")},
        {"trajectory_length": -1.0},
        {"trajectory_length": float("inf")},
        {"n_md_steps": 0},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FourierHMC(Phi4(1.0, 1.0), **{"mass_squared": 1.0, **arguments})


def test_angles_are_refused():
    with pytest.raises(ValueError, match="real fields"):
        FourierHMC(WilsonU1(1.0), 1.0)
