"""Kaufman's partition function against sums over all configurations, limits, and numbers of others."""

import math

import numpy as np
import pytest
from ising_enumeration import EnumeratedIsing

from lattice_flows.theories.ising.closed_forms import CRITICAL_BETA, ExactIsing

pytestmark = pytest.mark.quick

SMALL = ((2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (5, 2), (4, 4))
BETAS = (0.0, 1e-4, 0.2, CRITICAL_BETA, 0.6, 2.0)
LARGE = ((4, 4), (5, 512), (64, 33), (512, 512))


def numbers(oracle):
    return np.array([oracle.log_z, oracle.energy, oracle.specific_heat])


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_sums_over_all_configurations(shape):
    for beta in BETAS:
        np.testing.assert_allclose(
            numbers(ExactIsing(beta, shape)), numbers(EnumeratedIsing(beta, shape)), rtol=1e-11, atol=1e-14
        )


def test_a_coupling_one_in_ten_thousand_off_is_seen():
    assert not np.allclose(numbers(ExactIsing(0.4, (4, 4))), numbers(EnumeratedIsing(0.40004, (4, 4))), rtol=1e-5)


def test_values_at_the_critical_point():
    assert ExactIsing(CRITICAL_BETA, (4, 4)).log_z == pytest.approx(15.521915, abs=5e-7)
    assert ExactIsing(CRITICAL_BETA, (16, 16)).log_z == pytest.approx(238.642257, abs=5e-7)
    assert EnumeratedIsing(CRITICAL_BETA, (4, 4)).abs_magnetisation == pytest.approx(0.843860, abs=5e-7)


def test_finite_size_at_the_critical_point():
    """e = -sqrt2 - 2 Theta / n and f = f_0 - log(2^(1/4) + 2^(-1/2)) / n^2 on n x n: Ferdinand and Fisher,
    Phys. Rev. 185 (1969) 832, with Theta = 0.311 and Catalan's constant in f_0 = -log(2)/2 - 2 G/pi.
    """
    n, catalan = 512, 0.9159655941772190
    oracle = ExactIsing(CRITICAL_BETA, (n, n))
    f_0 = 0.5 * math.log(2.0) + 2.0 * catalan / math.pi
    assert oracle.log_z - n * n * f_0 == pytest.approx(math.log(2.0**0.25 + 2.0**-0.5), abs=1e-4)
    assert n * (-oracle.energy - math.sqrt(2.0)) / 2.0 == pytest.approx(0.3111, abs=1e-3)


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_both_axes_are_alike(shape):
    for beta in (0.1, CRITICAL_BETA, 0.5, 3.0):
        turned = numbers(ExactIsing(beta, shape[::-1]))
        np.testing.assert_allclose(numbers(ExactIsing(beta, shape)), turned, rtol=1e-9)


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_derivatives_are_those_of_log_z(shape):
    h, volume = 1e-4, math.prod(shape)
    for beta in (0.1, CRITICAL_BETA - 1e-5, CRITICAL_BETA + 1e-5, 0.5):
        below, here, above = (ExactIsing(beta + k * h, shape) for k in (-1, 0, 1))
        slope = (above.log_z - below.log_z) / (2.0 * h * volume)
        assert -here.energy == pytest.approx(slope, rel=1e-4)
        curvature = beta**2 * (below.energy - above.energy) / (2.0 * h)
        assert here.specific_heat == pytest.approx(curvature, rel=1e-3)


def test_the_two_branches_meet_at_the_critical_point():
    for shape in LARGE:
        critical = [math.nextafter(CRITICAL_BETA, end) for end in (0.0, 1.0)]
        below, above = (numbers(ExactIsing(beta, shape)) for beta in critical)
        np.testing.assert_allclose(below, above, rtol=1e-9)


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_the_ends(shape):
    """Free spins, and two ordered configurations with single flips: no infinity and nothing that is not a number."""
    volume = math.prod(shape)
    for beta in (0.0, 1e-300, 1e-9):
        oracle = ExactIsing(beta, shape)
        assert oracle.log_z == pytest.approx(volume * math.log(2.0), rel=1e-14)
        assert oracle.energy == pytest.approx(-2.0 * beta, rel=1e-5, abs=1e-15)
        assert oracle.specific_heat == pytest.approx(2.0 * beta**2, rel=1e-5, abs=1e-30)
    for beta in (4.0, 20.0, 1e5):
        oracle, flip = ExactIsing(beta, shape), math.exp(-8.0 * beta)
        assert oracle.log_z == pytest.approx(2.0 * beta * volume + math.log(2.0) + volume * flip, rel=1e-14)
        assert oracle.energy == pytest.approx(-2.0 + 8.0 * flip, rel=1e-14)
        assert oracle.specific_heat == pytest.approx(64.0 * beta**2 * flip, rel=1e-3, abs=1e-9)


def test_the_action_is_that_of_the_energy():
    oracle = ExactIsing(0.4, (6, 8))
    assert oracle.action == pytest.approx(0.4 * 48 * oracle.energy)


@pytest.mark.parametrize(
    ("beta", "shape"), [(-0.1, (4, 4)), (math.nan, (4, 4)), (math.inf, (4, 4)), (1.0, (4,)), (1.0, (1, 4))]
)
def test_what_is_no_torus_is_refused(beta, shape):
    with pytest.raises(ValueError, match=r"beta|torus"):
        ExactIsing(beta, shape)
