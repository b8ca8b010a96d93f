"""Closed forms against reference values, limits, quadrature and each other."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special

from lattice_flows.theories import ExactU1

pytestmark = pytest.mark.quick

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "u1_exact.json").read_text())


@pytest.mark.parametrize("case", REFERENCE)
def test_reference_values(case):
    shape, beta = case.split("_beta")
    exact, expected = ExactU1(float(beta), int(np.prod([int(side) for side in shape.split("x")]))), REFERENCE[case]
    assert exact.plaquette == pytest.approx(expected["plaquette"], rel=1e-13)
    assert exact.log_z == pytest.approx(expected["logZ"], rel=1e-13)
    assert exact.charge_squared == pytest.approx(expected["Q2"], rel=1e-9)
    for name, value in expected["wilson_loops"].items():
        assert exact.wilson_loop(int(name.removeprefix("area_"))) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("beta", "n_sites"), [(0.5, 16), (2.0, 64), (6.0, 256), (3.0, 9)])
def test_charge_distribution_and_theta_dependence_agree(beta, n_sites):
    exact = ExactU1(beta, n_sites)
    probabilities, charges = exact.charge_distribution(12), np.arange(-12, 13)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-6)
    assert (probabilities * charges**2).sum() == pytest.approx(exact.charge_squared, rel=1e-4)
    for theta in (0.3, 1.0, np.pi):
        assert exact.theta_ratio(theta) == pytest.approx((probabilities * np.cos(theta * charges)).sum(), abs=1e-5)
    assert exact.theta_ratio(0.0) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0, 1e4])
def test_charge_distribution_of_four_plaquettes(beta):
    """On the smallest torus the coefficients fall slowest with their order."""
    exact = ExactU1(beta, 4)
    probabilities = exact.charge_distribution(3)
    assert (probabilities > -1e-9).all()
    assert abs(probabilities[[0, 1, 5, 6]]).max() < 1e-9  # |Q| <= 1: four angles below pi
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    assert (probabilities * np.arange(-3, 4) ** 2).sum() == pytest.approx(exact.charge_squared, abs=1e-8)


def test_two_plaquettes_by_quadrature():
    """V = 2: one free angle p and its negative, with weight exp(2 beta cos p); both have charge zero."""
    beta = 1.7
    z, _ = integrate.quad(lambda p: np.exp(2 * beta * (np.cos(p) - 1)) / (2 * np.pi), -np.pi, np.pi)
    plaquette, _ = integrate.quad(lambda p: np.cos(p) * np.exp(2 * beta * (np.cos(p) - 1)) / (2 * np.pi), -np.pi, np.pi)
    exact = ExactU1(beta, 2)
    assert exact.log_z == pytest.approx(np.log(z), rel=1e-12)
    assert exact.plaquette == pytest.approx(plaquette / z, rel=1e-12)


def test_charge_of_three_plaquettes_by_quadrature():
    """V = 3: |Q| is 1 where the third angle wraps."""
    beta = 0.8

    def weight(p, q):
        return np.exp(beta * (np.cos(p) + np.cos(q) + np.cos(p + q)))

    total = integrate.dblquad(weight, -np.pi, np.pi, -np.pi, np.pi)[0]
    wraps = integrate.dblquad(weight, 0, np.pi, lambda p: np.pi - p, np.pi)[0]  # p + q > pi
    assert ExactU1(beta, 3).charge_squared == pytest.approx(2 * wraps / total, rel=1e-6)  # and the mirror image


def test_infinite_volume_and_strong_coupling_limits():
    assert ExactU1(3.0, 10_000).plaquette == pytest.approx(special.ive(1, 3.0) / special.ive(0, 3.0), rel=1e-12)
    free = ExactU1(0.0, 64)
    assert (free.log_z, free.plaquette, free.wilson_loop(3)) == (0.0, 0.0, 0.0)
    # Uniform plaquettes: <Q^2> = V var(p) / (2 pi)^2 - 1/12, for the sum of V angles is uniform mod 2 pi.
    assert free.charge_squared == pytest.approx(64 / 12, rel=1e-3)


def test_a_loop_around_the_whole_torus_is_one():
    assert ExactU1(1.3, 12).wilson_loop(12) == pytest.approx(1.0, rel=1e-14)
    assert ExactU1(1.3, 12).wilson_loop(0) == 1.0


@pytest.mark.parametrize("arguments", [(-1.0, 16), (float("nan"), 16), (1.0, 0)])
def test_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"beta|n_sites"):
        ExactU1(*arguments)


@pytest.mark.parametrize("area", [-1, 17])
def test_refuses_loops_larger_than_the_torus(area):
    with pytest.raises(ValueError, match="area"):
        ExactU1(1.0, 16).wilson_loop(area)


@pytest.mark.parametrize(("beta", "n_sites", "q_max"), [(0.0, 64, 24), (0.5, 16, 7), (2.0, 64, 9), (1.0, 5, 2)])
def test_b2_is_that_of_the_moments(beta, n_sites, q_max):
    exact, charges = ExactU1(beta, n_sites), np.arange(-q_max, q_max + 1)
    second, fourth = (exact.charge_distribution(q_max) * charges**k for k in (2, 4))
    by_moments = -(fourth.sum() - 3.0 * second.sum() ** 2) / (12.0 * second.sum())
    assert exact.b2 == pytest.approx(by_moments, rel=1e-8)


@pytest.mark.parametrize(("beta", "n_sites"), [(0.5, 16), (2.0, 64), (3.0, 9), (6.0, 256), (1.0, 4), (8.0, 400)])
def test_b2_is_that_of_the_free_energy(beta, n_sites):
    """-log Z(theta) = V chi_top / 2 theta^2 (1 + b2 theta^2 + ...): a polynomial in theta^2 through log Z(theta)."""
    exact = ExactU1(beta, n_sites)
    squares = 0.5 * (1.0 - np.cos(np.pi * (np.arange(12) + 0.5) / 12))  # theta^2 in (0, 1)
    free_energy = -np.log(exact.theta_ratio(np.sqrt(squares)))
    _, quadratic, quartic, *_ = np.polynomial.Polynomial.fit(squares, free_energy, 9).convert().coef
    assert quadratic == pytest.approx(0.5 * exact.charge_squared, rel=1e-7)
    assert quartic / quadratic == pytest.approx(exact.b2, rel=1e-4, abs=1e-7)


# By mpmath with 40 digits, from the Taylor series of sum_n f(n + nu)^V.
@pytest.mark.parametrize(
    ("beta", "n_sites", "expected"),
    [(6.0, 256, -0.00011257315356140874), (6.0, 16, -0.08267062413014890), (20.0, 64, -0.08210836623600698)],
)
def test_b2_in_many_digits(beta, n_sites, expected):
    assert ExactU1(beta, n_sites).b2 == pytest.approx(expected, rel=1e-11)


def test_b2_of_limits():
    assert ExactU1(0.0, 64).b2 == pytest.approx(1 / 120, rel=1e-12)  # -log(sin(theta/2) / (theta/2)) per site
    # Many sites: -kappa_4 / (12 (2 pi)^2 kappa_2) of one plaquette's angle.
    beta = 50.0
    second, fourth = (
        integrate.quad(lambda p, k=k: p**k * np.exp(beta * (np.cos(p) - 1)), -np.pi, np.pi, epsabs=0, epsrel=1e-13)[0]
        / integrate.quad(lambda p: np.exp(beta * (np.cos(p) - 1)), -np.pi, np.pi, epsabs=0, epsrel=1e-13)[0]
        for k in (2, 4)
    )
    one = -(fourth - 3 * second**2) / (12 * (2 * np.pi) ** 2 * second)
    assert ExactU1(beta, 100_000).b2 == pytest.approx(one, rel=1e-9)
    # A dilute gas of charges, on either side of where its own formula takes over.
    for exact in (ExactU1(30.0, 64), ExactU1(10.0, 6), ExactU1(4.0, 5), ExactU1(1e5, 64)):
        assert exact.charge_squared < 1e-3
        assert exact.b2 == pytest.approx((3 * exact.charge_squared - 1) / 12, rel=1e-7)
    assert np.isnan(ExactU1(2.0, 2).b2)
