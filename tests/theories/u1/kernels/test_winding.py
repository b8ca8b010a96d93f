"""The winding step: its geometry, its inverse, its test against the definition, and what it leaves invariant."""

import numba
import numpy as np
import pytest

from lattice_flows.kernels import hmc
from lattice_flows.kernels.elementary import fast_log
from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1.kernels.winding import wind, winding

POINTS = [((8, 8), 2.0, 4), ((6, 3), 1.0, 2), ((4, 4), 3.0, 1), ((2, 2), 1.0, 1), ((8, 5), 4.0, 4), ((16, 16), 6.0, 8)]


def angle_between(x, y):
    return np.abs(np.exp(1j * x) - np.exp(1j * y)).max()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_cold_field_gets_one_unit_of_charge_at_the_known_price(size, sign):
    links = wind(np.zeros((1, 2, 6, 9)), 4, 7, size, sign)  # across both boundaries
    assert u1.topological_charge(links)[0] == pytest.approx(sign, abs=1e-12)
    assert hmc.action(Wilson(2.0), links)[0] == pytest.approx(8 * size * (1 - np.cos(np.pi / (2 * size))), abs=1e-12)


def plaquettes(links):
    t0, t1 = links[:, 0], links[:, 1]
    return t0 + np.roll(t1, -1, axis=1) - np.roll(t0, -1, axis=2) - t1


def test_only_the_plaquettes_around_the_square_turn(rng):
    links = rng.uniform(-np.pi, np.pi, (3, 2, 8, 9))
    i0, j0, size = 6, 3, 3
    turned = np.zeros((8, 9))
    for k in range(size):
        for i, j in [(i0 + k, j0 - 1), (i0 + k, j0 + size), (i0 - 1, j0 + k), (i0 + size, j0 + k)]:
            turned[i % 8, j % 9] += np.pi / (2 * size)
    assert turned.sum() == pytest.approx(2 * np.pi)
    assert angle_between(plaquettes(wind(links, i0, j0, size, -1.0)), plaquettes(links) - turned) < 1e-12


@pytest.mark.parametrize(("shape", "size"), [((8, 9), 3), ((5, 5), 4), ((2, 2), 1), ((6, 4), 3)], ids=str)
def test_the_other_sign_undoes_it_and_it_is_a_translation(shape, size, rng):
    links = rng.uniform(-np.pi, np.pi, (4, 2, *shape))
    moved = wind(links, 1, 1, size, 1.0)
    assert (moved >= -np.pi).all()
    assert (moved < np.pi).all()
    assert angle_between(moved, links) > 0.1
    assert angle_between(wind(moved, 1, 1, size, -1.0), links) < 1e-12
    assert angle_between(moved - links, wind(np.zeros_like(links), 1, 1, size, 1.0)) < 1e-12


def plain(links, streams, beta, size, n_updates, signs=(1.0, -1.0)):
    """The definition: move, take the difference of the whole actions, accept or not."""
    accepted = np.zeros(len(links))
    for _ in range(n_updates):
        u, streams = uniforms(streams, 2)
        v, streams = uniforms(streams, 2)
        for b in range(len(links)):
            place = int(u[b, 0] * links.shape[2]), int(u[b, 1] * links.shape[3])
            moved = wind(links[b : b + 1], *place, size, signs[0] if v[b, 0] < 0.5 else signs[1])
            change = hmc.action(Wilson(beta), moved) - hmc.action(Wilson(beta), links[b : b + 1])
            if fast_log(v[b, 1]) < -change[0]:
                links = np.concatenate([links[:b], moved, links[b + 1 :]])
                accepted[b] += 1 / n_updates
    return links, streams, accepted


@pytest.mark.parametrize(("shape", "beta", "size"), POINTS, ids=str)
def test_against_the_definition(shape, beta, size, seed):
    x, streams = sample_u1(beta, *shape, make_streams(seed, "test", range(10)))
    expected = plain(x, streams, beta, size, 20)
    found = winding(x, streams, beta, size, 20)
    assert angle_between(found[0], expected[0]) < 1e-12
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], expected[2], atol=1e-12)
    assert 0 < found[2].mean() < 1


def pulls(x, moved, beta):
    """Of means over independent chains, which have no autocorrelation: from the closed forms, and of the changes."""
    exact = ExactU1(beta, x[0, 0].size)
    before, after = ((u1.mean_plaquette(y), u1.topological_charge(y)) for y in (x, moved))
    plaquette, charge = after
    differences = {
        "plaquette": plaquette - exact.plaquette,
        "charge": charge,
        "charge squared": charge**2 - exact.charge_squared,
        "change of the plaquette": plaquette - before[0],
        "change of the charge": charge - before[1],
        "change of the charge squared": charge**2 - before[1] ** 2,
    }
    return {name: d.mean() * len(d) ** 0.5 / max(d.std(), 1e-12) for name, d in differences.items()}


@pytest.mark.parametrize(("shape", "beta", "size"), POINTS, ids=str)
def test_equilibrium_stays_equilibrium(shape, beta, size, seed):
    x, streams = sample_u1(beta, *shape, make_streams(seed, "test", range(10_000)))
    moved, _, accepted = winding(x, streams, beta, size, 10)
    found = pulls(x, moved, beta)
    assert max(map(abs, found.values())) < 4.5, found
    assert accepted.mean() > 0.01


def test_a_wrong_coupling_in_the_accept_step_is_caught(seed):
    """One per cent off, and the same statistics for the right one."""
    x, streams = sample_u1(1.5, 4, 4, make_streams(seed, "test", range(80_000)))
    right, wrong = (pulls(x, winding(x, streams, beta, 3, 100)[0], 1.5) for beta in (1.5, 1.515))
    assert max(map(abs, right.values())) < 4.5, right
    assert max(map(abs, wrong.values())) > 4.5, wrong


def test_a_single_sign_is_caught(seed):
    x, streams = sample_u1(2.0, 4, 4, make_streams(seed, "test", range(200)))
    both, one = (pulls(x, plain(x, streams, 2.0, 3, 5, signs)[0], 2.0) for signs in ((1.0, -1.0), (1.0, 1.0)))
    assert max(map(abs, both.values())) < 4.5, both
    assert one["change of the charge"] > 4.5


def test_the_charge_of_frozen_chains_moves(seed):
    x, streams = sample_u1(20.0, 16, 16, make_streams(seed, "test", range(100)))
    moved, _, accepted = winding(x, streams, 20.0, 8, 50)
    assert (np.abs(u1.topological_charge(moved) - u1.topological_charge(x)) > 0.5).mean() > 0.2
    assert accepted.mean() > 0.005


def test_arguments_are_left_alone_and_bits_do_not_depend_on_threads_or_grouping(seed):
    x, streams = sample_u1(2.0, 8, 5, make_streams(seed, "test", range(5)))
    was = x.copy(), streams.copy()
    whole = winding(x, streams, 2.0, 3, 30)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded = winding(x, streams, 2.0, 3, 30)
    chains = (winding(x[k : k + 1], streams[k : k + 1], 2.0, 3, 30) for k in range(5))
    apart = [np.concatenate(parts) for parts in zip(*chains, strict=True)]
    for result in (threaded, apart):
        for one, other in zip(result, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(x, was[0])
    np.testing.assert_array_equal(streams, was[1])
