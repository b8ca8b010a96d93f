"""Orders of the bath: the closest one, and the target that is restricted to it."""

import itertools
import math

import numpy as np
import pytest
import torch

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import DimerBath, LabelledDimerBath, relabelled
from lattice_flows.theories.dimer.labelled import labelled

pytestmark = pytest.mark.quick


def scattered(rng, n, n_bath):
    return rng.uniform(-3.0, 3.0, (n, 2 + n_bath, 2))


def test_relabelling_changes_the_order_and_nothing_else(rng):
    x, reference = scattered(rng, 50, 36), LabelledDimerBath().reference
    y = relabelled(x, reference)
    np.testing.assert_array_equal(y[:, :2], x[:, :2])
    np.testing.assert_array_equal(np.sort(y[:, 2:, 0]), np.sort(x[:, 2:, 0]))
    np.testing.assert_allclose(DimerBath().energy(y), DimerBath().energy(x), rtol=1e-12)
    np.testing.assert_array_equal(relabelled(y, reference), y)
    assert labelled(y, reference).all()
    assert not labelled(x, reference).any()


def test_the_order_is_the_closest_of_all(rng):
    x, reference = scattered(rng, 20, 5), LabelledDimerBath(5).reference
    squared = [
        np.square(x[:, 2:][:, list(order)] - reference[0]).sum((1, 2)) for order in itertools.permutations(range(5))
    ]
    found = np.square(relabelled(x, reference)[:, 2:] - reference[0]).sum((1, 2))
    np.testing.assert_allclose(found, np.min(squared, axis=0), rtol=1e-12)


def test_any_order_is_relabelled_alike(rng):
    x, reference = scattered(rng, 20, 9), LabelledDimerBath(9).reference
    shuffled = np.concatenate([x[:, :2], x[:, 2:][:, rng.permutation(9)]], 1)
    np.testing.assert_array_equal(relabelled(shuffled, reference), relabelled(x, reference))


def test_the_domain_has_one_order_of_each_configuration(rng):
    """So that Z is that of the whole over n_bath!."""
    x, action = scattered(rng, 30, 4), LabelledDimerBath(4, 0.1)
    orders = [np.concatenate([x[:, :2], x[:, 2:][:, list(order)]], 1) for order in itertools.permutations(range(4))]
    inside = np.array([np.isfinite(action.evaluate(np.ascontiguousarray(one))) for one in orders])
    assert len(orders) == math.factorial(4)
    np.testing.assert_array_equal(inside.sum(0), np.ones(30))


def test_the_action_is_that_of_the_whole_inside_and_infinite_outside(rng):
    x, action = scattered(rng, 10, 6), LabelledDimerBath(6, 0.1)
    y = relabelled(x, action.reference)
    swapped = y.copy()
    swapped[:, [2, 3]] = y[:, [3, 2]]
    for evaluate in (action.evaluate, lambda x: action(torch.from_numpy(x)).numpy()):
        np.testing.assert_allclose(evaluate(y), DimerBath(6, 0.1).evaluate(y), rtol=1e-12)
        assert (evaluate(swapped) == np.inf).all()
    assert action.multiple_of(LabelledDimerBath(6, 0.2)) == 0.5
    assert action.multiple_of(DimerBath(6, 0.1)) is None


def chains(action, seed, n_chains, n_configs):
    sampler = HMC(action, 1.0, 8)
    x, streams = action.hot(make_streams(seed, "test", range(n_chains)), action.event_shape(()))
    state = sampler.init(x, streams)
    for k in range(60):
        state = sampler.thermalise(state, k / 60)
    configs = []
    for _ in range(n_configs):
        state, _ = sampler.step(state, 1)
        configs.append(state.x)
    return np.array(configs)


def measured(configs, function):
    n, n_chains = configs.shape[:2]
    return function(configs.reshape(n * n_chains, *configs.shape[2:])).reshape(n, n_chains)


def test_the_observables_of_a_card_are_those_of_the_whole(rng):
    """A card gives named observables the theory itself, see `Energy`."""
    x = scattered(rng, 5, 6)
    energy = LabelledDimerBath.named_observables["energy"](action=LabelledDimerBath(6, 0.5))
    np.testing.assert_array_equal(energy(x), DimerBath(6).energy(x))


def test_chains_of_both_targets_agree(seed, monkeypatch):
    """On what does not depend on the order; on the place of the first particle of the bath after relabelling."""
    monkeypatch.setattr("lattice_flows.theories.action._tell_slow", lambda *told: None)
    part, whole = LabelledDimerBath(3, 0.1), DimerBath(3, 0.1)
    inside, everywhere = chains(part, seed, 60, 300), chains(whole, seed + 1, 200, 300)
    assert measured(inside, lambda x: labelled(x, part.reference)).all()

    def first(x):
        return x[:, 2, 0]

    def first_relabelled(x):
        return first(relabelled(x, part.reference))

    for function in (whole.energy, *whole.observables(())[:2]):
        one, other = gamma_method(measured(inside, function)), gamma_method(measured(everywhere, function))
        assert abs(one.value - other.value) < 4.5 * np.hypot(one.error, other.error)
    one = gamma_method(measured(inside, first))
    other, unlabelled = (gamma_method(measured(everywhere, function)) for function in (first_relabelled, first))
    assert abs(one.value - other.value) < 4.5 * np.hypot(one.error, other.error)
    assert abs(one.value - unlabelled.value) > 6.0 * np.hypot(one.error, unlabelled.error)


def test_a_reference_of_another_size_is_refused(rng):
    with pytest.raises(ValueError, match=r"the reference must have the shape \[2, 6, 2\], got \[2, 5, 2\]"):
        relabelled(scattered(rng, 2, 6), LabelledDimerBath(5).reference)
    with pytest.raises(ValueError, match="n_bath must be between 0 and 44, got 45"):
        LabelledDimerBath(45)
    assert relabelled(scattered(rng, 2, 0), LabelledDimerBath(0).reference).shape == (2, 2, 2)
