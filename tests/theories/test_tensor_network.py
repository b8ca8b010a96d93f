"""Coarse-grained networks against Kaufman's closed form and against sums over all configurations."""

from itertools import product

import numpy as np
import pytest

from lattice_flows.theories import ExactIsing
from lattice_flows.theories.tensor_network import Neighbours, bonds, contract

pytestmark = pytest.mark.quick

SHAPES = [(2, 2), (3, 3), (2, 7), (5, 4), (6, 6), (6, 10), (12, 12), (9, 15), (16, 16), (7, 64)]
SPINS = np.array([-1.0, 1.0])


def ising(beta):
    return Neighbours(np.zeros(2), beta * np.outer(SPINS, SPINS))


def log_z(model, shape, most, insertion=1.0):
    found = contract(bonds(model, most), shape, most, np.broadcast_to(insertion, len(model.log_site)) + 0j)
    return found.log_z, found.sign


def by_enumeration(model, shape, insertion=1.0):
    """The sum over all configurations, each pair of neighbours once for each end that it begins at."""
    n, rows, columns = len(model.log_site), *shape
    states = np.array(list(product(range(n), repeat=rows * columns))).reshape(-1, rows, columns)
    exponent = model.log_site[states].sum((1, 2))
    for axis in (1, 2):
        exponent += model.log_bond[states, np.roll(states, -1, axis)].sum((1, 2))
    factors = np.broadcast_to(insertion, n)[states].prod((1, 2))
    return (np.exp(exponent) * factors).sum()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("beta", [0.3, 0.6])
def test_the_ising_model_on_tori_of_any_sides(beta, shape):
    exact = ExactIsing(beta, shape).log_z
    assert log_z(ising(beta), shape, 20)[0] == pytest.approx(exact, abs=1e-6)
    assert log_z(ising(beta), shape[::-1], 20)[0] == pytest.approx(exact, abs=1e-6)
    assert abs(ExactIsing(beta * 1.0001, shape).log_z - exact) > 1e-5  # a planted error


def test_a_larger_bond_dimension_comes_closer():
    exact = ExactIsing(0.42, (16, 16)).log_z  # the correlation length is that of the lattice
    off = [abs(log_z(ising(0.42), (16, 16), most)[0] - exact) for most in (4, 8, 16)]
    assert off[0] > 10 * off[1] > 100 * off[2]


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (2, 3), (3, 4), (5, 2)], ids=str)
@pytest.mark.parametrize("beta", [0.4, -0.4])
@pytest.mark.parametrize("insertion", [1.0, np.exp(0.7j * SPINS)], ids=["real", "complex"])
def test_either_sign_of_the_coupling_and_phases_on_the_sites(shape, beta, insertion):
    expected = by_enumeration(ising(beta), shape, insertion)
    found, sign = log_z(ising(beta), shape, 32, insertion)
    assert sign * np.exp(found) == pytest.approx(expected.real, rel=1e-12)
    assert abs(expected.imag) < 1e-12 * abs(expected)


@pytest.mark.parametrize("n_states", [3, 5])
@pytest.mark.parametrize("beta", [1.3, -0.8])
def test_clock_models_in_a_field(n_states, beta):
    angles = 2.0 * np.pi * (np.arange(n_states) - 0.5 * (n_states - 1)) / n_states  # mirror images at the two ends
    model = Neighbours(0.3 * np.cos(angles), beta * np.cos(angles[:, None] - angles))
    expected = by_enumeration(model, (2, 3), np.exp(0.4j * angles))
    found, sign = log_z(model, (2, 3), 32, np.exp(0.4j * angles))
    assert sign * np.exp(found) == pytest.approx(expected.real, rel=1e-12)
