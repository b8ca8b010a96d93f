"""Threads over blocks of replicas: the same bits for any number of them, and nothing left out."""

import numpy as np
import pytest

from lattice_flows.statistics import count_crossings, diagnostics, gamma_method, r_hat, r_hat_and_crossings, shares
from lattice_flows.statistics.replicas import rows_of
from lattice_flows.statistics.shares import blocks_of, in_shares

pytestmark = pytest.mark.quick


def test_every_replica_is_in_one_block_of_its_length():
    sizes = [5] * 3 + [10_000] * 40 + [20_000] * 2 + [5]
    blocks = blocks_of(sizes)
    assert [k for block in blocks for k in block] == list(range(len(sizes)))
    assert all(len({sizes[k] for k in block}) == 1 for block in blocks)
    assert max(len(block) * sizes[block[0]] for block in blocks) <= 2**17


def test_figures_do_not_depend_on_the_number_of_threads(rng, monkeypatch):
    series = [rng.normal(size=10_000) for _ in range(60)]
    found = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr(shares, "_n_threads", lambda n=n_threads: n)
        found.append((gamma_method(series), r_hat_and_crossings(series)))
    assert found[0] == found[1] == found[2]


def test_threads_raise_and_ignore_what_their_caller_does(monkeypatch):
    monkeypatch.setattr(shares, "_n_threads", lambda: 2)
    series = [np.zeros(10_000)] * 60
    with np.errstate(divide="ignore"):
        in_shares(lambda blocks: [1.0 / rows_of(series, block) for block in blocks], series)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        in_shares(lambda blocks: [1.0 / rows_of(series, block) for block in blocks], series)


@pytest.mark.parametrize("together", [True, False])
def test_rows_are_those_replicas(together, rng):
    """Whether they lie in one piece of memory or not."""
    values = rng.normal(size=300)
    whole = values.reshape(6, 50)
    replicas = np.split(values, 6) if together else [row.copy() for row in whole]
    rows = rows_of(replicas, range(2, 5))
    np.testing.assert_array_equal(rows, whole[2:5])
    assert np.shares_memory(rows, replicas[2]) == together
    np.testing.assert_array_equal(rows_of(replicas[::-1], range(2)), whole[:3:-1])


@pytest.mark.parametrize("n", [400, 401])
def test_r_hat_and_crossings_are_those_found_apart(n, rng, monkeypatch):
    monkeypatch.setattr(diagnostics, "_MANY", 0)
    series = list(np.cumsum(rng.normal(size=(20, n)), axis=1))
    assert r_hat_and_crossings(series) == (r_hat(series), count_crossings(series))
