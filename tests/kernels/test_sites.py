"""Neighbours and colours of the sites of a lattice."""

import numpy as np
import pytest

from lattice_flows.kernels.sites import colours, neighbour_table

pytestmark = pytest.mark.quick

SHAPES = [(2,), (5,), (2, 2), (3, 3), (6, 4), (5, 4), (7, 2), (4, 4, 2), (3, 2, 5), (2, 3, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_neighbours_are_one_step_away(shape):
    places = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)  # (V, D)
    expected = [
        [(place + sign * step) % shape for step in np.eye(len(shape), dtype=int) for sign in (1, -1)]
        for place in places
    ]
    found = places[neighbour_table(shape)]  # (V, 2 D, D)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_two_neighbours_have_one_colour(shape):
    colour = colours(shape)
    assert (colour[neighbour_table(shape)] != colour[:, None]).all()
    assert set(colour) == set(range(3 if any(extent % 2 for extent in shape) else 2))


@pytest.mark.parametrize("shape", [(), (1,), (4, 1)], ids=str)
@pytest.mark.parametrize("function", [neighbour_table, colours])
def test_a_site_that_is_its_own_neighbour_is_refused(function, shape):
    with pytest.raises(ValueError, match="extent"):
        function(shape)
