"""Many double wells: quadrature of one of them, and independent copies."""

import json

import numpy as np
import pytest
import torch
from equilibrium import equilibrium

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.statistics import derived, gamma_method
from lattice_flows.theories import DoubleWell, ManyWell

pytestmark = pytest.mark.quick


def copies(n, action, seed):
    """n independent configurations, (n, 2 n_wells)."""
    points, _ = equilibrium(action.well, (), make_streams(seed, "test", range(n * action.n_wells)))
    return points.reshape(n, -1)


def test_sixteen_copies_have_the_known_log_z():
    """That of one well by a quadrature made elsewhere, 16 times; 2^16 modes of known weights."""
    exact = ManyWell().closed_forms(())
    assert exact.log_z == pytest.approx(16 * 10.293480, abs=2e-5)
    assert exact.left_wells == pytest.approx(16 * 0.155693, abs=2e-5)
    assert exact.potential == 16 * DoubleWell().closed_forms(()).potential
    assert ManyWell().field(()).shape == (32,)


def test_the_action_is_the_sum_over_pairs_of_coordinates(rng):
    x = rng.normal(size=(7, 6))
    action, one = ManyWell(3, 0.7), DoubleWell(0.7)
    parts = sum(one.evaluate(np.ascontiguousarray(x[:, 2 * k : 2 * k + 2])) for k in range(3))
    np.testing.assert_allclose(action.evaluate(x), parts, rtol=1e-13)
    np.testing.assert_allclose(action(torch.from_numpy(x)).numpy(), parts, rtol=1e-13)
    np.testing.assert_allclose(action.potential(x), parts / 0.7, rtol=1e-13)


def pulls(action, x, exact):
    """Of every quantity, from independent configurations."""
    found = {}
    for one in action.observables(()):
        for quantity in one.quantities(()):
            terms = [term.transform(one(x))[:, None] for term in quantity.terms]
            estimate = derived(quantity.function, *terms) if quantity.function else gamma_method(*terms)
            found[quantity.name] = (estimate.value - quantity.exact(exact)) / estimate.error
    return found


def test_closed_forms_are_the_means_of_independent_points(seed):
    action = ManyWell(5)
    x = copies(2000, action, seed)
    found = pulls(action, x, action.closed_forms(()))
    assert len(found) == 4
    assert max(map(abs, found.values())) < 4.5, found
    wrong = pulls(action, x, ManyWell(5, 1.1).closed_forms(()))  # a temperature ten per cent off
    assert max(map(abs, wrong.values())) > 6.0


def test_hmc_keeps_the_distribution(seed):
    action = ManyWell(3)
    x = copies(1000, action, seed)
    sampler = HMC(action, 0.5, 10)
    state = sampler.init(x, make_streams(seed, "hmc", range(len(x))))
    state, info = sampler.step(state, 5)
    assert 0.5 < info.accepted.mean() < 0.999
    assert np.abs(state.x - x).mean() > 0.1
    assert max(map(abs, pulls(action, state.x, action.closed_forms(())).values())) < 4.5


def test_it_is_a_multiple_of_its_own_kind():
    assert ManyWell(3, 0.5).multiple_of(ManyWell(3, 2.0)) == 0.25
    assert ManyWell(3).multiple_of(ManyWell(4)) is None
    assert ManyWell(1).multiple_of(DoubleWell()) is None


def test_exact_prints_its_numbers(lattice_flows):
    status, out, _ = lattice_flows("exact", "many_well", "--coupling", "scale=0.5", "--json")
    assert status == 0
    assert json.loads(out) == vars(ManyWell(16, 0.5).closed_forms(()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_wells": 0}, "n_wells must be between 1 and 10000, got 0"),
        ({"scale": 0.0}, "scale must be above 0 and at most 10, got 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ManyWell(**arguments)
    with pytest.raises(ValueError, match=r"ManyWell has no lattice, got the shape \[4\]"):
        ManyWell().field((4,))
