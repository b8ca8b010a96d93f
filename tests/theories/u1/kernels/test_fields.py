"""Compiled U(1) observables against the torch geometry, on square and other lattices."""

import numpy as np
import pytest
import torch

from lattice_flows import lattice
from lattice_flows.kernels import hmc
from lattice_flows.theories import WilsonU1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson

SHAPES = [(4, 4), (8, 6), (5, 3), (2, 2), (16, 16), (3, 17)]


@pytest.fixture(params=SHAPES, ids=str)
def links(request, rng):
    return rng.uniform(-np.pi, np.pi, (5, 2, *request.param))


def test_action_and_force(links):
    action = WilsonU1(2.5)
    couplings, x = Wilson(2.5), torch.from_numpy(links)
    np.testing.assert_allclose(hmc.action(couplings, links), action(x).numpy(), rtol=1e-14)
    np.testing.assert_allclose(hmc.force(couplings, links), action.force(x).numpy(), rtol=0, atol=1e-14)


def test_small_angles_keep_their_digits(rng):
    links = 1e-9 * rng.standard_normal((3, 2, 4, 4))
    plaquettes = lattice.plaquette(torch.from_numpy(links), 0, 1).numpy()
    expected = 0.5 * np.square(plaquettes).sum((1, 2))
    np.testing.assert_allclose(hmc.action(Wilson(1.0), links), expected, rtol=1e-12)
    np.testing.assert_allclose(WilsonU1(1.0)(torch.from_numpy(links)).numpy(), expected, rtol=1e-12)


def test_plaquette_and_charge(links):
    x = torch.from_numpy(links)
    expected = torch.cos(lattice.plaquette(x, 0, 1)).mean((1, 2)).numpy()
    np.testing.assert_allclose(u1.mean_plaquette(links), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(u1.topological_charge(links), lattice.topological_charge(x).numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("r", "t"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 4), (7, 5)])
def test_wilson_loops_also_wound_around_the_torus(links, r, t):
    expected = torch.cos(lattice.wilson_loop(torch.from_numpy(links), 0, 1, r, t)).mean((1, 2)).numpy()
    np.testing.assert_allclose(u1.mean_wilson_loop(links, r, t), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mu", [0, 1])
@pytest.mark.parametrize("distance", [0, 1, 3])
def test_polyakov_correlators(links, mu, distance):
    loops = lattice.polyakov_loop(torch.from_numpy(links), mu)
    expected = torch.cos(loops - torch.roll(loops, -distance, dims=1)).mean(1).numpy()
    np.testing.assert_allclose(u1.mean_polyakov_correlator(links, mu, distance), expected, rtol=0, atol=1e-13)


def test_one_by_one_is_as_all_at_once(links):
    together = u1.mean_wilson_loop(links, 2, 1)
    apart = [u1.mean_wilson_loop(one[None], 2, 1)[0] for one in links]
    np.testing.assert_array_equal(together, apart)
