"""The bins of a histogram: of one width, and as fair to values on a grid as to others."""

import numpy as np
import pytest

from lattice_flows.report.series_figures import bin_edges


@pytest.mark.parametrize("n_spins", [4, 64, 100, 256])
def test_bins_of_a_magnetisation_hold_equally_many_of_its_values(n_spins: int):
    levels = np.arange(-n_spins, n_spins + 1, 2) / n_spins
    edges = bin_edges(np.repeat(levels, 3), -1.08, 1.08, symmetric=True)
    held = np.histogram(levels, edges)[0]
    inner = held[np.flatnonzero(held)][1:-1]
    assert np.all(inner == inner[0])
    assert inner[0] % 2
    assert held.sum() == len(levels)
    assert len(edges) < 100
    assert np.allclose(edges, -edges[::-1])
    assert np.allclose(np.diff(edges), edges[1] - edges[0])


@pytest.mark.parametrize("values", [np.random.default_rng(1).normal(size=3000), np.full(100, 0.3)])
def test_other_series_have_bins_between_their_limits(values: np.ndarray):
    edges = bin_edges(values, -4.0, 4.0, symmetric=False)
    assert np.array_equal(edges, np.linspace(-4.0, 4.0, 42))
