"""The free field against the quadratic form itself, limits, and its own direct sampler."""

import numpy as np
import pytest
from phi4_chain import Phi4Chain

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import FreeField, sample_free_field
from lattice_flows.theories.phi4.kernels.dynamics import LocalCouplings

SHAPES = [(8,), (2,), (6, 4), (5, 3), (2, 2), (3, 2, 5)]
over_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def covariance(m2, shape, hop=1.0):
    """<phi(x) phi(y)> = K^-1 / 2 of S = phi K phi, K by the action of unit fields; and log det K."""
    n = int(np.prod(shape))
    laplacian = np.zeros((n, n))
    for mu in range(len(shape)):
        for step in (1, -1):
            neighbour = np.roll(np.arange(n).reshape(shape), -step, mu).ravel()
            laplacian[np.arange(n), neighbour] += 1.0
            laplacian[np.arange(n), np.arange(n)] -= 1.0
    k = hop * (m2 * np.eye(n) - laplacian)
    return 0.5 * np.linalg.inv(k), np.linalg.slogdet(k)[1]


@over_shapes
@pytest.mark.parametrize(("m2", "hop"), [(0.3, 1.0), (2.5, 0.2)])
def test_against_the_inverse_of_the_quadratic_form(shape, m2, hop):
    oracle = FreeField(m2, shape, hop)
    matrix, log_det = covariance(m2, shape, hop)
    n, sites = oracle.n_sites, np.arange(oracle.n_sites).reshape(shape)
    links = [matrix[0, np.roll(sites, -1, mu).ravel()[0]] for mu in range(len(shape))]
    coordinates = np.indices(shape)
    modes = [np.exp(2j * np.pi * x / extent).ravel() for x, extent in zip(coordinates, shape)]
    assert oracle.phi_squared == pytest.approx(matrix[0, 0], rel=1e-12)
    assert oracle.link_energy == pytest.approx(np.mean(links), rel=1e-11)
    assert oracle.magnetisation_squared == pytest.approx(matrix.sum() / n**2, rel=1e-12)
    assert oracle.susceptibility == pytest.approx(matrix.sum() / n, rel=1e-12)
    assert oracle.lowest_mode_squared == pytest.approx(
        np.mean([(mode.conj() @ matrix @ mode).real / n for mode in modes]), rel=1e-11
    )
    for t in range(shape[0]):
        assert oracle.time_slice_correlator(t) == pytest.approx(matrix[0, sites[t].ravel()].sum(), rel=1e-11)
    assert oracle.log_z == pytest.approx(0.5 * n * np.log(np.pi) - 0.5 * log_det, rel=1e-12)


def test_log_z_and_correlator_against_the_transfer_matrix():
    chain = Phi4Chain(1.0, 2.0 + 1.5, 0.0, 5)
    oracle = FreeField(1.5, (5,))
    assert oracle.log_z == pytest.approx(chain.log_z, rel=1e-10)
    assert oracle.phi_squared == pytest.approx(chain.moment(2), rel=1e-10)
    assert oracle.time_slice_correlator(2) == pytest.approx(chain.two_point(2), rel=1e-10)


@pytest.mark.parametrize("shape", [(9,), (8, 3), (6, 4, 4)], ids=str)
def test_masses(shape):
    oracle = FreeField(0.4, shape)
    for t in range(1, shape[0]):
        c = [oracle.time_slice_correlator(distance) for distance in (t - 1, t, t + 1)]
        assert np.arccosh((c[0] + c[2]) / (2 * c[1])) == pytest.approx(oracle.effective_mass, rel=1e-10)


def test_second_moment_correlation_length():
    oracle = FreeField(0.4, (6, 6))
    ratio = oracle.susceptibility / oracle.lowest_mode_squared
    assert np.sqrt(ratio - 1) / (2 * np.sin(np.pi / 6)) == pytest.approx(oracle.second_moment_correlation_length)


@over_shapes
def test_direct_configurations_have_the_exact_covariance(shape, seed):
    """Every momentum's |phi(k)|^2 / V in pulls."""
    n = 40_000
    oracle = FreeField(0.5, shape, 0.8)
    phi, _ = sample_free_field(0.5, shape, make_streams(seed, "test", range(n)), 0.8)
    modes = np.abs(np.fft.fftn(phi, axes=tuple(range(1, phi.ndim)))) ** 2 / oracle.n_sites  # (n, *shape)
    pulls = (modes.mean(0) - oracle.propagator) / (modes.std(0) / np.sqrt(n))
    assert np.abs(pulls).max() < 4.5
    couplings = LocalCouplings(0.8, 0.8 * (2 * len(shape) + 0.5), 0.0)
    s = hmc.action(couplings, phi)
    error = s.std() / np.sqrt(n)
    assert abs(s.mean() - oracle.action) < 4.5 * error  # <S> = V/2
    off = FreeField(0.55, shape, 0.8)  # a planted error
    assert np.abs((modes.mean(0) - off.propagator) / (modes.std(0) / np.sqrt(n))).max() > 4.5


@pytest.mark.parametrize(("m2", "hop"), [(0.5, 0.808), (0.52, 0.8)])
def test_couplings_slightly_off_are_caught(m2, hop, seed):
    """The action of the right couplings is V/2 on its own configurations, and not on these."""
    n, couplings = 40_000, LocalCouplings(0.8, 0.8 * 4.5, 0.0)
    for parameters, is_right in (((0.5, 0.8), True), ((m2, hop), False)):
        streams = make_streams(seed, "test", range(n))
        s = hmc.action(couplings, sample_free_field(parameters[0], (8, 8), streams, parameters[1])[0])
        pull = (s.mean() - 32.0) / (s.std() / np.sqrt(n))
        assert (abs(pull) < 4.5) == is_right


def test_streams_advance_and_grouping_changes_nothing(seed):
    streams = make_streams(seed, "test", range(6))
    before = streams.copy()
    first, later = sample_free_field(1.0, (6, 5), streams)
    second, _ = sample_free_field(1.0, (6, 5), later)
    alone, _ = sample_free_field(1.0, (6, 5), streams[3:4])
    np.testing.assert_array_equal(streams, before)
    np.testing.assert_array_equal(first[3], alone[0])
    assert not np.allclose(first, second)


@pytest.mark.parametrize("arguments", [(0.0, (4,)), (-1.0, (4,)), (float("nan"), (4,)), (1.0, ()), (1.0, (4, 0))])
def test_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"m2 > 0|extents"):
        FreeField(*arguments)
