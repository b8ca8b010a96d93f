"""Reflections in compiled code are those of the space."""

import numpy as np
import pytest
import torch
from numba import njit

from lattice_flows.kernels.walls import reflected
from lattice_flows.lattice import Interval

pytestmark = pytest.mark.quick


@njit
def _all_reflected(x, low, high):
    ends, signs = np.empty_like(x), np.empty_like(x)
    for k in range(x.size):
        ends[k], signs[k] = reflected(x[k], low, high)
    return ends, signs


def test_as_the_interval_does(rng):
    low, high = -1.8, 1.4
    x = np.concatenate([rng.uniform(-30.0, 30.0, 2000), [low, high, 2 * high - low, np.nextafter(high, 2.0)]])
    ends, signs = _all_reflected(x, low, high)
    drifted, momenta = Interval(low, high).drift(torch.zeros(x.size, dtype=torch.float64), torch.from_numpy(x), 1.0)
    np.testing.assert_array_equal(ends, drifted.numpy())
    np.testing.assert_array_equal(signs * x, momenta.numpy())
    assert 0.4 < (signs < 0).mean() < 0.6


def test_what_is_no_number_stays_none():
    ends, _ = _all_reflected(np.array([np.nan, np.inf]), -1.0, 1.0)
    assert np.isnan(ends).all()
