"""Where a chain is cut: known approaches to equilibrium, stationary chains, one chain that drifts."""

import numpy as np
import pytest

from lattice_flows.statistics import find_thermalisation, gamma_method, most_dropped

N, N_CHAINS = 4000, 4


def with_approach(chains: np.ndarray, size: float, decay: float) -> np.ndarray:
    """The chains with size * exp(-t / decay) on top."""
    return chains + size * np.exp(-np.arange(len(chains))[:, None] / decay)


@pytest.mark.parametrize("decay", [20.0, 100.0])
def test_an_exponential_approach_is_cut(decay, ar1):
    """From 30 standard deviations away: what is left of it is below the error, and little else lost."""
    chains = with_approach(ar1(N, 0.8, N_CHAINS), 30.0, decay)
    cut = find_thermalisation([chains])
    error = gamma_method(chains[cut:]).error
    left = 30.0 * np.exp(-cut / decay) * decay / (N - cut)  # of the approach, in the mean
    assert left < error, (cut, left, error)
    assert cut < 12.0 * decay
    uncut = 30.0 * decay / N
    assert uncut > 4.5 * gamma_method(ar1(N, 0.8, N_CHAINS)).error  # it had mattered


@pytest.mark.parametrize("tau_int", [5.0, 20.0])
@pytest.mark.parametrize("n_chains", [1, 32, 200])
def test_little_is_left_of_an_approach_that_all_chains_share(n_chains, tau_int, ar1):
    """500 configurations, 5 standard deviations away: in units of the error of what is left.

    Cuts by the largest number of independent configurations left 0.8 errors of 32 chains and 1.5 of 200.
    """
    a = (2.0 * tau_int - 1.0) / (2.0 * tau_int + 1.0)
    approach = 5.0 * a ** np.arange(500)
    left = []
    for _ in range(20):
        cut = find_thermalisation([ar1(500, a, n_chains) + approach[:, None]])
        left.append(approach[cut:].sum() / (500 - cut) / np.sqrt(2.0 * tau_int / ((500 - cut) * n_chains)))
        assert cut < 8.0 * tau_int + 40.0
    print(f"{np.mean(left):.2f} errors are left")
    assert np.mean(left) < 0.2


@pytest.mark.parametrize(("n", "a", "n_chains"), [(500, 0.9, 32), (2000, 0.9, 1), (2000, 0.98, 4)])
def test_noise_alone_takes_little(n, a, n_chains, ar1):
    """Of four stationary series together. More than a quarter goes in one of a hundred cases; here in 0 to 4 of 150."""
    cuts = [find_thermalisation([ar1(n, a, n_chains) for _ in range(4)]) for _ in range(150)]
    assert np.median(cuts) < 0.11 * n
    assert sum(4 * cut > n for cut in cuts) <= 7, sorted(cuts)[-10:]


def test_chains_of_several_kinds(ar1):
    """Chains in windows: each kind has a mean of its own, and a drift in all of them is seen against it."""
    apart = np.tile([0.0, 30.0], 8)
    still = [find_thermalisation([ar1(500, 0.8, 16) + apart], 2) for _ in range(20)]
    assert np.median(still) < 50
    moving = with_approach(ar1(500, 0.8, 16), 6.0, 10.0) + apart
    assert 20 < find_thermalisation([moving], 2) < 120


def test_the_largest_cut_tells_a_chain_that_still_drifts(ar1):
    assert [most_dropped(n) for n in (0, 3, 4, 5, 6, 8, 100, 101)] == [0, 0, 0, 1, 2, 4, 50, 50]
    drifting = ar1(400, 0.5, 4) + np.linspace(20.0, 0.0, 400)[:, None]
    assert most_dropped(400) / 2 < find_thermalisation([drifting]) <= most_dropped(400)
    assert find_thermalisation([ar1(400, 0.5, 4)]) < most_dropped(400) / 2


def test_a_stationary_chain_loses_little(ar1):
    lost = [find_thermalisation([ar1(N, 0.9, N_CHAINS)]) / N for _ in range(30)]
    print(f"lost {np.mean(lost):.3f} on average")
    assert np.mean(lost) < 0.10


def test_several_stationary_series_lose_little(ar1):
    """The largest of three answers, one series without autocorrelation."""
    lost = [find_thermalisation([ar1(N, a, N_CHAINS) for a in (0.9, 0.5, 0.0)]) / N for _ in range(30)]
    print(f"lost {np.mean(lost):.3f} on average")
    assert np.mean(lost) < 0.10


def test_a_drift_in_one_chain_of_one_series_is_found(ar1):
    calm, drifting = ar1(N, 0.8, N_CHAINS), ar1(N, 0.8, N_CHAINS)
    drifting[:600, 2] += np.linspace(8.0, 0.0, 600)
    cut = find_thermalisation([calm, drifting])
    assert 300 < cut < 1200
    assert find_thermalisation([calm]) < 300


def test_chains_of_unequal_length_and_frozen_series(ar1):
    chains = [with_approach(ar1(n, 0.8), 30.0, 20.0)[:, 0] for n in (3000, 1500, 2000)]
    frozen = [np.ones(len(chain)) for chain in chains]
    cut = find_thermalisation([frozen, chains])
    assert 60 < cut <= 750  # at most half the shortest
    assert find_thermalisation([frozen]) == 0


def test_the_shortest_chains():
    assert find_thermalisation([np.array([1.0, 2.0, 0.0, 1.0])]) == 0
    assert 0 <= find_thermalisation([np.array([9.0, 2.0, 0.0, 1.0, 2.0, 0.0])]) <= 2


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="at least one series"):
        find_thermalisation([])
    with pytest.raises(ValueError, match="equal lengths"):
        find_thermalisation([np.zeros(10), np.zeros(11)])
    with pytest.raises(ValueError, match="infinite or not a number"):
        find_thermalisation([np.array([1.0, np.nan, 2.0, 3.0, 4.0])])
