"""Compiled phi^4: literal formulas, molecular dynamics, and HMC against exact expectation values."""

import numpy as np
import pytest
from phi4_chain import Phi4Chain
from scipy import integrate

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import FreeField, sample_free_field
from lattice_flows.theories.phi4.kernels import fields as phi4
from lattice_flows.theories.phi4.kernels.dynamics import LocalCouplings

SHAPES = [(2,), (5,), (8,), (2, 2), (6, 4), (5, 3), (3, 2, 4), (4, 4, 4), (2, 3, 2, 5)]
COUPLINGS = LocalCouplings(0.9, 1.3, 0.4)
LEAPFROG = (np.array([0.5, 0.5]), np.array([1.0]))
THREE_KICKS = (np.array([0.2, 0.3, 0.3, 0.2]), np.array([0.4, 0.2, 0.4]))

over_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture
def phi(shape, rng):
    return rng.standard_normal((3, *shape))


def axes(phi):
    return range(1, phi.ndim)


def literal_action(phi, hop, quad, quart):
    hopping = sum(phi * np.roll(phi, -1, mu) for mu in axes(phi))
    return (-2 * hop * hopping + quad * phi**2 + quart * phi**4).reshape(len(phi), -1).sum(1)


def literal_force(phi, hop, quad, quart):
    near = sum(np.roll(phi, -1, mu) + np.roll(phi, 1, mu) for mu in axes(phi))
    return 2 * hop * near - 2 * quad * phi - 4 * quart * phi**3


@over_shapes
def test_action_and_force(phi):
    np.testing.assert_allclose(hmc.action(COUPLINGS, phi), literal_action(phi, *COUPLINGS), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(hmc.force(COUPLINGS, phi), literal_force(phi, *COUPLINGS), rtol=0, atol=1e-12)


@over_shapes
def test_force_is_minus_the_gradient(phi):
    h, force = 1e-5, hmc.force(COUPLINGS, phi).reshape(3, -1)
    for site in range(0, phi[0].size, 3):
        step = np.zeros((1, phi[0].size))
        step[:, site] = h
        step = step.reshape(1, *phi.shape[1:])
        slope = (hmc.action(COUPLINGS, phi + step) - hmc.action(COUPLINGS, phi - step)) / (2 * h)
        np.testing.assert_allclose(force[:, site], -slope, rtol=0, atol=2e-8)


@over_shapes
def test_measurements(phi):
    n, volume = len(phi), phi[0].size
    near = np.mean([phi * np.roll(phi, -1, mu) for mu in axes(phi)], axis=0)
    np.testing.assert_allclose(phi4.magnetisation(phi), phi.reshape(n, -1).mean(1), rtol=1e-12)
    np.testing.assert_allclose(phi4.link_energy(phi), near.reshape(n, -1).mean(1), rtol=1e-10, atol=1e-13)
    slices = phi.reshape(n, phi.shape[1], -1).mean(2)
    for t in (0, 1, phi.shape[1] // 2, phi.shape[1] + 1):
        expected = (volume // phi.shape[1]) * (slices * np.roll(slices, -t, 1)).mean(1)
        np.testing.assert_allclose(phi4.time_slice_correlator(phi, t), expected, rtol=1e-10, atol=1e-13)
    modes = np.abs(np.fft.fftn(phi, axes=tuple(axes(phi)))) ** 2 / volume
    units = np.eye(phi.ndim - 1, dtype=int)
    expected = np.mean([modes[(slice(None), *unit)] for unit in units], axis=0)
    np.testing.assert_allclose(phi4.lowest_mode_squared(phi), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1)])
def test_extents_below_two_are_refused(shape):
    with pytest.raises(ValueError, match="extents of 2 or more"):
        phi4.magnetisation(np.zeros((1, *shape)))


def literal_integrate(phi, momenta, drifts, kicks, step_size, n_md_steps):
    for _ in range(n_md_steps):
        for drift, kick in zip(drifts, [*kicks, None]):
            phi = phi + drift * step_size * momenta
            if kick is not None:
                momenta = momenta + kick * step_size * literal_force(phi, *COUPLINGS)
    return phi, momenta


@over_shapes
@pytest.mark.parametrize("integrator", [LEAPFROG, THREE_KICKS], ids=["leapfrog", "three kicks"])
def test_molecular_dynamics(phi, rng, integrator):
    momenta, steps = rng.standard_normal(phi.shape), np.full(len(phi), 0.05)
    before = phi.copy(), momenta.copy()
    end, end_momenta = hmc.integrate(COUPLINGS, phi, momenta, *integrator, steps, 7)
    expected, expected_momenta = literal_integrate(phi, momenta, *integrator, 0.05, 7)
    np.testing.assert_allclose(end, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(end_momenta, expected_momenta, rtol=0, atol=1e-12)
    back, minus_p = hmc.integrate(COUPLINGS, end, -end_momenta, *integrator, steps, 7)
    np.testing.assert_allclose(back, phi, rtol=0, atol=1e-12)
    np.testing.assert_allclose(minus_p, -momenta, rtol=0, atol=1e-12)
    np.testing.assert_array_equal((phi, momenta), before)


def delta_h_ratio(phi, momenta, moved_by, judged_by):
    """How much dH at the couplings `judged_by` falls when the step is halved."""

    def delta_h(n):
        end, p = hmc.integrate(moved_by, phi, momenta, *LEAPFROG, np.full(len(phi), 0.4 / n), n)
        kinetic = 0.5 * (p**2 - momenta**2).reshape(len(phi), -1).sum(1)
        return hmc.action(judged_by, end) - hmc.action(judged_by, phi) + kinetic

    return np.abs(delta_h(64)).max() / np.abs(delta_h(128)).max()


@over_shapes
def test_the_energy_error_falls_as_the_square_of_the_step(phi, rng):
    momenta = rng.standard_normal(phi.shape)
    assert delta_h_ratio(phi, momenta, COUPLINGS, COUPLINGS) == pytest.approx(4.0, rel=0.02)
    one_per_cent_off = LocalCouplings(*(1.01 * c for c in COUPLINGS))
    assert delta_h_ratio(phi, momenta, one_per_cent_off, COUPLINGS) < 2.0


def free_couplings(m2, shape):
    return LocalCouplings(1.0, 2 * len(shape) + m2, 0.0)


def chain(shape, couplings, seed, n_chains, n_configs, n_updates=1, step_size=0.25, n_md_steps=4, thermalisation=100):
    """HMC configurations (n_configs, n_chains, *shape) and delta_h, from a random start."""
    x, streams = sample_free_field(2.0, shape, make_streams(seed, "test", range(n_chains)))
    settings = (*LEAPFROG, np.full(n_chains, step_size), n_md_steps)
    s = hmc.action(couplings, x)
    x, s, streams, *_ = hmc.trajectories(couplings, x, s, streams, *settings, thermalisation)
    configs, delta_h = [], []
    for _ in range(n_configs):
        x, s, streams, _, last = hmc.trajectories(couplings, x, s, streams, *settings, n_updates)
        configs.append(x)
        delta_h.append(last)
    return np.stack(configs), np.stack(delta_h)


def pull(series, expected):
    estimate = gamma_method(series)
    return (estimate.value - expected) / estimate.error


def measured(kernel, configs, *arguments):
    return kernel(configs.reshape(-1, *configs.shape[2:]), *arguments).reshape(configs.shape[:2])


def site_mean(configs, power):
    return (configs**power).reshape(*configs.shape[:2], -1).mean(2)


@pytest.mark.parametrize("shape", [(8,), (6, 4), (5, 3), (3, 4, 2)], ids=str)
def test_hmc_of_the_free_field(shape, seed):
    """The trajectory is shorter than half a period of every mode, where |phi(k)| would come back to its start."""
    oracle = FreeField(0.7, shape)
    configs, delta_h = chain(shape, free_couplings(0.7, shape), seed, 16, 3000, 2, step_size=0.125)
    pulls = {
        "phi_squared": pull(site_mean(configs, 2), oracle.phi_squared),
        "susceptibility": pull(configs[0, 0].size * measured(phi4.magnetisation, configs) ** 2, oracle.susceptibility),
        "link_energy": pull(measured(phi4.link_energy, configs), oracle.link_energy),
        "two_point_1": pull(measured(phi4.time_slice_correlator, configs, 1), oracle.time_slice_correlator(1)),
        "lowest_mode": pull(measured(phi4.lowest_mode_squared, configs), oracle.lowest_mode_squared),
        "exp(-dH)": pull(np.exp(-delta_h), 1.0),
    }
    assert max(abs(value) for value in pulls.values()) < 4.5, pulls
    assert abs(pull(site_mean(configs, 2), 1.03 * oracle.phi_squared)) > 4.5  # the errors are small enough to tell


INTERACTING = LocalCouplings(0.6, 0.4, 0.5)


def chain_pulls(couplings, n_sites, seed, n_chains, n_configs):
    """Pulls of HMC at these couplings from the transfer matrix at INTERACTING."""
    exact = Phi4Chain(*INTERACTING, n_sites)
    configs, delta_h = chain((n_sites,), couplings, seed, n_chains, n_configs, n_updates=2)
    return {
        "phi^2": pull(site_mean(configs, 2), exact.moment(2)),
        "phi^4": pull(site_mean(configs, 4), exact.moment(4)),
        "phi phi'": pull(measured(phi4.link_energy, configs), exact.two_point(1)),
        "two_point_2": pull(measured(phi4.time_slice_correlator, configs, 2), exact.two_point(2 % n_sites)),
        "exp(-dH)": pull(np.exp(-delta_h), 1.0),
    }


def worst(pulls):
    return max(abs(value) for value in pulls.values())


def test_the_transfer_matrix_of_two_sites_is_the_integral():
    hop, quad, quart = INTERACTING

    def integral(f):
        def weight(x, y):  # both neighbours of a site are the other one
            return f(x, y) * np.exp(4 * hop * x * y - quad * (x * x + y * y) - quart * (x**4 + y**4))

        return integrate.dblquad(weight, -5, 5, -5, 5, epsabs=1e-9)[0]

    exact, z = Phi4Chain(*INTERACTING, 2), integral(lambda x, y: 1.0)
    assert exact.log_z == pytest.approx(np.log(z), rel=1e-8)
    assert exact.moment(2) == pytest.approx(integral(lambda x, y: x * x) / z, rel=1e-7)
    assert exact.moment(4) == pytest.approx(integral(lambda x, y: x**4) / z, rel=1e-7)
    assert exact.two_point(1) == pytest.approx(integral(lambda x, y: x * y) / z, rel=1e-7)


def test_hmc_of_two_interacting_sites(seed):
    pulls = chain_pulls(INTERACTING, 2, seed, 200, 1000)
    assert worst(pulls) < 4.5, pulls


@pytest.mark.parametrize("n_sites", [5, 64])
def test_hmc_of_an_interacting_chain(n_sites, seed):
    pulls = chain_pulls(INTERACTING, n_sites, seed, 32, 1500)
    assert worst(pulls) < 4.5, pulls


@pytest.mark.parametrize("wrong", range(3), ids=["hop", "quad", "quart"])
def test_a_coupling_one_per_cent_off_is_caught(wrong, seed):
    """A chain whose accept step has the wrong coupling samples that coupling, whatever moves it."""
    couplings = LocalCouplings(*(c * (1.01 if k == wrong else 1.0) for k, c in enumerate(INTERACTING)))
    assert worst(chain_pulls(couplings, 64, seed, 64, 3000)) > 4.5


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2)], ids=str)
def test_hmc_of_decoupled_sites(shape, seed):
    """Without hopping every site is a one-dimensional integral."""
    quad, quart = -0.6, 0.8

    def moment(power):
        return integrate.quad(lambda x: x**power * np.exp(-quad * x**2 - quart * x**4), -6, 6, points=[0])[0]

    configs, delta_h = chain(shape, LocalCouplings(0.0, quad, quart), seed, 16, 3000)
    assert abs(pull(site_mean(configs, 2), moment(2) / moment(0))) < 4.5
    assert abs(pull(site_mean(configs, 4), moment(4) / moment(0))) < 4.5
    assert abs(pull(np.exp(-delta_h), 1.0)) < 4.5
    assert abs(pull(site_mean(configs, 2), 1.01 * moment(2) / moment(0))) > 4.5


def test_grouping_changes_nothing(seed):
    """Chains alone, together and in two calls: the same bits; the arguments stay as they are."""
    streams = make_streams(seed, "test", range(5))
    x, streams = sample_free_field(1.0, (5, 4), streams)
    arguments = (x, hmc.action(COUPLINGS, x), streams)
    before = [array.copy() for array in arguments]
    steps = np.linspace(0.25, 0.35, 5)

    def run(arguments, steps, n):
        return hmc.trajectories(COUPLINGS, *arguments, *LEAPFROG, steps, 3, n)

    together = run(arguments, steps, 6)
    alone = run([array[2:3] for array in arguments], steps[2:3], 6)
    for one, several in zip(alone, together):
        np.testing.assert_array_equal(one[0], several[2])
    half = run(arguments, steps, 3)
    for one, two in zip(run(half[:3], steps, 3)[:3], together):
        np.testing.assert_array_equal(one, two)
    for array, copy in zip(arguments, before):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_allclose(together[1], hmc.action(COUPLINGS, together[0]), rtol=1e-12)


def test_a_trajectory_that_runs_away_is_refused(seed):
    x, streams = sample_free_field(1.0, (4, 4), make_streams(seed, "test", range(4)))
    s = hmc.action(COUPLINGS, x)
    end, action, _, accepted, delta_h = hmc.trajectories(COUPLINGS, x, s, streams, *LEAPFROG, np.full(4, 5.0), 20, 3)
    np.testing.assert_array_equal(end, x)
    np.testing.assert_array_equal(action, s)
    assert not accepted.any()
    assert not np.isfinite(delta_h).any()
