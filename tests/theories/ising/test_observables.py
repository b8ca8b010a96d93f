"""Observables of Ising spins: their quantities on all configurations of a small lattice, each with its weight."""

import math

import numpy as np
import pytest
from ising_enumeration import EnumeratedIsing

from lattice_flows.theories import Ising
from lattice_flows.theories.ising.observables import NAMED
from lattice_flows.theories.phi4.observables import TwoPoint

pytestmark = pytest.mark.quick


def estimates(beta, shape, off=1.0):
    """Every standard quantity at the exact means of its terms, by name; and the enumeration at off * beta."""
    everything = EnumeratedIsing(beta, shape)
    observables = Ising(beta).observables(shape)
    series = {one.name: one(everything.spins) for one in observables}
    found = {}
    for quantity in (q for one in observables for q in one.quantities(shape)):
        if all(term.series in series for term in quantity.terms):
            means = [everything.probabilities @ term.transform(series[term.series]) for term in quantity.terms]
            value = quantity.function(*means) if quantity.function else means[0]
            found[quantity.name] = value, quantity.exact(EnumeratedIsing(off * beta, shape))
    return found


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 4)], ids=str)
def test_quantities_at_exact_means(shape):
    found = estimates(0.4, shape)
    assert {"energy", "specific_heat", "abs_magnetisation", "susceptibility", "binder_cumulant"} <= set(found)
    assert ("second_moment_correlation_length" in found) == (shape[0] == shape[1])
    for name, (value, exact) in found.items():
        assert value == pytest.approx(exact, rel=1e-10, abs=1e-13), name
    wrong = {name for name, (value, exact) in estimates(0.4, shape, off=1.01).items() if abs(value - exact) > 1e-4}
    assert wrong == set(found) - {"magnetisation"}


def test_what_kaufman_does_not_know_is_not_claimed():
    oracle = Ising(0.4).closed_forms((4, 4))
    quantities = [q for one in Ising(0.4).observables((4, 4)) for q in one.quantities((4, 4))]
    known = {q.name for q in quantities if q.exact(oracle) is not None}
    assert known == {"energy", "specific_heat", "magnetisation"}


def test_every_observable_of_a_card_takes_spins():
    x = EnumeratedIsing(0.0, (3, 3)).spins
    for kind, constructor in NAMED.items():
        if kind == "energy":
            one = constructor(Ising(0.4))
        else:
            one = constructor(2) if kind == "two_point" else constructor()
        assert one(x).shape == (512,)
        assert one(x[:0]).shape == (0,)
    correlator = TwoPoint(1)(x)
    slices = x.mean(2)
    np.testing.assert_allclose(correlator, (slices * np.roll(slices, 1, 1)).mean(1) * 3, atol=1e-14)


def test_labels():
    labels = {q.name: q.label for one in Ising(0.4).observables((4, 4)) for q in one.quantities((4, 4)) if q.label}
    assert {"energy", "specific_heat", "improved_susceptibility", "improved_binder_cumulant"} <= set(labels)
    assert len(set(labels.values())) == len(labels)
    assert all(math.isfinite(len(label.plain)) and label.tex.count("$") == 2 for label in labels.values())
