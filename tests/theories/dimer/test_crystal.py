"""The Einstein crystal around the dimer: direct draws against quadrature, and the way from it to the target."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, Annealed
from lattice_flows.statistics import log_partition
from lattice_flows.theories import Action, DimerBath, LabelledDimerBath
from lattice_flows.theories.dimer.closed_forms import lone_dimer
from lattice_flows.theories.dimer.direct import draw_crystal, draw_dimer, log_z_of_crystal
from lattice_flows.theories.dimer.places import places_of

pytestmark = pytest.mark.quick

WARM = 0.1


def moments(place, stiffness, scale):
    """log Z, mean and variance of a coordinate."""

    def weight(q):
        return math.exp(-scale * (0.5 * stiffness * (q - place) ** 2 + 100.0 * max(abs(q) - 3.0, 0.0) ** 2))

    z, first, second = (quad(lambda q: q**k * weight(q), -8, 8, points=[-3, place, 3])[0] for k in range(3))  # noqa: B023
    return math.log(z), first / z, second / z - (first / z) ** 2


@pytest.mark.parametrize(("place", "stiffness", "scale"), [(0.3, 60.0, 1.0), (3.03, 60.0, 1.0), (-2.7, 2.0, 0.1)])
def test_coordinates_against_quadrature(place, stiffness, scale, seed):
    """A stiffness five per cent off is caught."""
    log_z, mean, variance = moments(place, stiffness, scale)
    assert log_z_of_crystal(np.full((1, 1), place), stiffness, scale) == pytest.approx(log_z, abs=1e-8)
    n = 40_000
    q, _ = draw_crystal(np.full((n, 1, 2), place), stiffness, scale, make_streams(seed, "test", range(n)))
    q = q.ravel()
    assert abs(q.mean() - mean) < 4.5 * math.sqrt(variance / q.size)
    assert abs(q.var() / variance - 1.0) < 4.5 * math.sqrt(2.0 / q.size)
    other = moments(place, 1.05 * stiffness, scale)[2]
    assert abs(q.var() / other - 1.0) > 4.5 * math.sqrt(2.0 / q.size)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_draws_of_the_lone_dimer(scale, seed):
    """A scale six per cent off is caught."""
    n = 40_000
    x, _ = draw_dimer(scale, make_streams(seed, "test", range(n)))
    action = DimerBath(0, scale)
    for other, caught in ((scale, False), (1.06 * scale, True)):
        exact, pulls = lone_dimer(other), []
        series = {"energy": action.energy(x), "dimer_distance": np.hypot(*(x[:, 0] - x[:, 1]).T)}
        series["open_probability"] = series["dimer_distance"] > 1.5
        for name, values in series.items():
            pulls.append((values.mean() - getattr(exact, name)) / (values.std() / math.sqrt(n)))
        assert (max(map(abs, pulls)) > 4.5) == caught, pulls


def test_the_crystals_are_minima_and_their_own_mirror_images():
    for length, places in zip((0.94, 2.06), places_of(36)):
        x = np.concatenate([[[-0.5 * length, 0.0], [0.5 * length, 0.0]], places])[None]
        assert DimerBath().energy(x)[0] == pytest.approx(17.35, abs=0.15)
        assert np.abs(hmc.force(DimerBath().kernel_couplings((38, 2)), x)[0, 2:]).max() < 5.0
        for mirror in ([1, -1], [-1, 1]):
            assert {tuple(one) for one in places * mirror + 0.0} == {tuple(one) for one in places}
        assert len(np.unique(places, axis=0)) == 36


def test_forces_with_springs(rng):
    """Kernel, formula and autograd, with the dimer on either side."""
    action = DimerBath(36, 0.3, 0.4, 7.0)
    x = np.concatenate([DimerBath().hot(make_streams(1, "test", range(8)), (38, 2))[0]])
    x += rng.normal(0.0, 0.05, x.shape)
    written = action.force(torch.from_numpy(x))
    torch.testing.assert_close(written, Action.force(action, torch.from_numpy(x)), rtol=1e-9, atol=1e-6)
    compiled = hmc.force(action.kernel_couplings(x.shape[1:]), x)
    np.testing.assert_allclose(compiled, written.numpy(), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(action.evaluate(x), action(torch.from_numpy(x)).numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", [DimerBath, LabelledDimerBath])
def test_the_way_from_the_crystal_is_linear(kind):
    first, last = kind(36, 0.5, 0.0, 20.0), kind(36, 1.0, 1.0, 1.0)
    x = last.hot(make_streams(1, "test", range(6)), (38, 2))[0]
    between = first.toward(last, 0.3)
    assert isinstance(between, kind)
    np.testing.assert_allclose(between.evaluate(x), 0.7 * first.evaluate(x) + 0.3 * last.evaluate(x), rtol=1e-11)


def uniform_bath(n_bath, n, rng, seed):
    """log w of drawn dimers with the bath uniform in a box that reaches into the walls."""
    reach, lone = 3.8, DimerBath(0, WARM)
    ends, _ = draw_dimer(WARM, make_streams(seed, "reference", range(n)))
    x = np.concatenate([ends, rng.uniform(-reach, reach, (n, n_bath, 2))], axis=1)
    excess = WARM * (DimerBath(n_bath, WARM).energy(x) - lone.energy(ends))
    return lone_dimer(WARM).log_z + 2 * n_bath * math.log(2 * reach) - excess


def test_log_z_of_a_small_bath_by_paths_from_the_crystal(seed, rng):
    """Against weights of independent points: forgotten labels are caught."""
    sampler = Annealed(
        LabelledDimerBath(2, WARM), lambda a: HMC(a, 1.0, 8), {"repulsion": 0.0, "tether": 10.0}, 48, (0.0, 0.5, 1.0)
    )
    _, log_w = sampler.samples(make_streams(seed, "test", range(3000)), (4, 2))
    found, truth = log_partition(log_w), log_partition(uniform_bath(2, 200_000, rng, seed))
    off, error = found.value - (truth.value - math.log(2.0)), math.hypot(found.error, truth.error)
    assert error < 0.11
    assert abs(off) < 4.5 * error
    assert abs(off + math.log(2.0)) > 5.0 * error


def test_where_there_is_a_direct_sampler():
    assert DimerBath(3, 1.0, 0.0, 5.0).direct_sampler() is not None
    assert LabelledDimerBath(3, 1.0, 0.0, 5.0).direct_sampler() is not None
    assert DimerBath(0, 1.0).direct_sampler() is not None
    for action in (DimerBath(3), DimerBath(3, 1.0, 0.0), DimerBath(3, 0.05, 0.0, 5.0), LabelledDimerBath(3)):
        assert action.direct_sampler() is None
