"""The Ising action: its sums, its couplings, what it hands out, and what it refuses."""

import numpy as np
import pytest
import torch
from ising_enumeration import EnumeratedIsing

from lattice_flows.samplers import HMC, Metropolis
from lattice_flows.theories import Combined, ExactIsing, Ising
from lattice_flows.theories.ising.kernels.fields import bond_sum

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (3, 4)], ids=str)
def test_the_action_of_all_configurations(shape):
    """On a side of two sites a pair counts twice."""
    everything = EnumeratedIsing(0.7, shape)
    expected = 0.7 * everything.n_sites * everything.energies
    for found in (Ising(0.7).evaluate(everything.spins), Ising(0.7)(torch.from_numpy(everything.spins)).numpy()):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
    assert Ising(0.7).evaluate(everything.spins[:0]).shape == (0,)


def test_an_ordered_lattice_and_an_alternating_one():
    board = (1 - 2 * (np.indices((6, 64)).sum(0) % 2)).astype(np.int8)
    np.testing.assert_array_equal(
        bond_sum(np.stack([np.ones_like(board), -np.ones_like(board), board])), [768, 768, -768]
    )


def test_actions_on_the_way():
    assert Ising(0.4).scaled(0.5) == Ising(0.2)
    assert Ising(0.4).toward(Ising(0.8), 0.25) == Ising(0.5)
    assert Ising(0.4).multiple_of(Ising(0.2)) == 2.0
    assert Ising(0.4).multiple_of(Ising(0.0)) is None


def test_sums_of_actions_take_integers_too():
    both = Combined(((0.5, Ising(0.4)), (2.0, Ising(0.1))))
    x = torch.from_numpy(EnumeratedIsing(0.0, (2, 3)).spins)
    np.testing.assert_allclose(both(x).numpy(), Ising(0.4)(x).numpy(), rtol=1e-14)
    assert both.field((2, 3)).dtype == "int8"


def test_fields_are_spins_of_one_byte():
    field = Ising(1.0).field((4, 6))
    assert (field.name, field.dims, field.shape, field.dtype) == ("spin", ("x0", "x1"), (4, 6), "int8")


def test_closed_forms_are_those_of_the_lattice():
    assert Ising(0.3).closed_forms((4, 6)) == ExactIsing(0.3, (4, 6))


@pytest.mark.parametrize("beta", [-1.0, 1.1e6, 1e300, float("nan"), float("inf")])
def test_impossible_couplings_are_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        Ising(beta)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4, 4), ()])
def test_other_lattices_are_refused(shape):
    with pytest.raises(ValueError, match="two extents"):
        Ising(1.0).field(shape)


def test_what_moves_numbers_is_refused():
    with pytest.raises(
        ValueError, match="continuous variables, but those of Ising are the integers -1, 1; use heatbath"
    ):
        HMC(Ising(1.0))
    with pytest.raises(ValueError, match="width: a change of the integers -1, 1 is to another one"):
        Metropolis(Ising(1.0), width=0.5)
    assert Metropolis(Ising(1.0)).tuned
