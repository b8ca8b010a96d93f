"""Weighted sums of actions: paths from one theory to another, by their own classes where these have such couplings."""

import numpy as np
import pytest
import torch
from random_fields import random_field

from lattice_flows.lattice import REAL
from lattice_flows.theories import XY, Action, Combined, DimerBath, DoubleWell, ImprovedU1, Phi4, Phi4Hopping, WilsonU1

pytestmark = pytest.mark.quick

PATHS = [
    pytest.param(WilsonU1(1.0), WilsonU1(3.0), (2, 4, 6), True, id="u1"),
    pytest.param(WilsonU1(1.0), ImprovedU1(2.0, -0.1), (2, 4, 6), False, id="u1 to u1_improved"),
    pytest.param(ImprovedU1(1.0, 0.1), ImprovedU1(2.0, 0.1), (2, 4, 6), True, id="u1_improved"),
    pytest.param(Phi4(-1.0, 2.0), Phi4Hopping(0.3, 0.1), (4, 3), True, id="phi4 to phi4_hopping"),
    pytest.param(XY(0.5), XY(1.5), (4, 5), True, id="xy"),
    pytest.param(DoubleWell(0.5), DoubleWell(2.0), (2,), False, id="double_well"),
    pytest.param(DimerBath(3, 0.05), DimerBath(3, 0.2), (5, 2), True, id="dimer_bath"),
]


@pytest.mark.parametrize(("first", "other", "event", "compiled"), PATHS)
def test_a_path_has_both_ends_and_what_lies_between(first: Action, other: Action, event, compiled, generator):
    x = random_field(first.space, 5, event, generator)
    for t in (0.0, 0.3, 1.0):
        between = first.toward(other, t)
        torch.testing.assert_close(between(x), (1.0 - t) * first(x) + t * other(x))
        torch.testing.assert_close(between.force(x), (1.0 - t) * first.force(x) + t * other.force(x))
        np.testing.assert_allclose(between.evaluate(x.numpy()), between(x).numpy(), rtol=1e-12)
        assert (between.kernel_couplings(event) is not None) == compiled
    with pytest.raises(AssertionError):  # a point two per cent of the way off is another
        torch.testing.assert_close(first.toward(other, 0.32)(x), 0.7 * first(x) + 0.3 * other(x))


def test_a_multiple_of_a_sum_is_that_of_its_terms(generator):
    x = random_field(REAL, 4, (3, 3), generator)
    terms = Combined(((0.5, Phi4(1.0, 0.5)), (2.0, Phi4(0.2, 0.0))))
    torch.testing.assert_close(terms.scaled(0.3)(x), 0.3 * terms(x))
    assert terms.field((3, 3)) == Phi4(1.0, 0.5).field((3, 3))


def test_terms_of_different_spaces_are_refused():
    with pytest.raises(ValueError, match="different spaces: angles and real numbers"):
        WilsonU1(1.0).toward(Phi4(1.0, 1.0), 0.5)
    with pytest.raises(ValueError, match="one term or more"):
        Combined(())
