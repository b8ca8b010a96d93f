"""Ranks and quantiles from counts, held against those of sorting; and replicas that are computed when asked for."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from lattice_flows.statistics import LazyReplicas, count_crossings, diagnostics, gamma_method, mapped, r_hat, sizes_of
from lattice_flows.statistics.pooled import Pooled

pytestmark = pytest.mark.quick


def chains(kind: str, rng: np.random.Generator, n: int = 2001, n_chains: int = 20) -> list[np.ndarray]:
    x = lfilter([1.0], [1.0, -0.8], rng.normal(size=(n_chains, n)), axis=1) + 0.1 * rng.normal(size=(n_chains, 1))
    some = {
        "gaussian": x,
        "charge": np.rint(x),
        "tail": np.sinh(3.0 * x),
        "two values": np.where(x > 0, 1.0, -1e-3),
        "mixed": np.where(x > 0, x, 0.0),
        "frozen": np.full_like(x, 0.1),
        "frozen apart": np.repeat(np.arange(n_chains)[:, None] % 3.0, n, axis=1),
    }
    return list(some[kind])


KINDS = ("gaussian", "charge", "tail", "two values", "mixed", "frozen", "frozen apart")


@pytest.mark.parametrize("kind", KINDS)
def test_counts_give_what_sorting_gives(kind, rng, monkeypatch):
    """Also where many values fall into one bin: then it sorts."""
    series = chains(kind, rng)
    expected = r_hat(series), count_crossings(series), count_crossings(series, odd=True)
    monkeypatch.setattr(diagnostics, "_MANY", 0)
    found = r_hat(series), count_crossings(series), count_crossings(series, odd=True)
    assert found[1:] == expected[1:]
    rank = 1.0 / sum(sizes_of(series))
    assert found[0] == pytest.approx(expected[0], abs=0.1 * rank, nan_ok=True)  # neighbours in a bin are out by half
    if kind == "gaussian":
        assert found[0] > 1.0001  # the chains differ by 0.1
        assert r_hat([0.05 + series[0], *series[1:]]) != pytest.approx(found[0], abs=0.1 * rank)
        lazy = LazyReplicas(sizes_of(series), series.__getitem__)
        assert r_hat(lazy) == found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_are_those_of_all_values(kind, rng):
    series = chains(kind, rng)
    pooled = Pooled(series)
    fractions = [0.0, 0.05, 0.3, 0.5, 0.95, 1.0]
    if pooled.is_fine:
        np.testing.assert_allclose(pooled.quantiles(fractions), np.quantile(series, fractions), rtol=1e-14, atol=1e-300)
    assert pooled.is_fine or kind in ("tail", "mixed")


def test_what_is_not_finite_is_refused(rng, monkeypatch):
    monkeypatch.setattr(diagnostics, "_MANY", 0)
    series = chains("gaussian", rng)
    series[3][7] = math.inf
    for figure in (r_hat, count_crossings):
        with pytest.raises(ValueError, match="infinite or not a number"):
            figure(series)


def test_lazy_replicas_have_the_figures_of_what_they_stand_for(rng):
    """Of one chain in memory at a time, whatever is asked."""
    series = [rng.normal(size=n) for n in (300, 300, 300, 300, 300, 20, 40_000)]
    asked = []

    def compute(k: int) -> np.ndarray:
        asked.append(k)
        return series[k]

    lazy = LazyReplicas([chain.size for chain in series], compute)
    assert (len(lazy), sizes_of(lazy), asked) == (7, [chain.size for chain in series], [])
    np.testing.assert_array_equal(lazy[-2], series[5])
    assert sizes_of(lazy[5:]) == [20, 40_000]
    with pytest.raises(IndexError):
        lazy[7]
    assert gamma_method(lazy) == gamma_method(series)
    squares = mapped(np.multiply, lazy, series)
    assert gamma_method(squares) == gamma_method([chain**2 for chain in series])
