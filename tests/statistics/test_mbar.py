"""MBAR on a Gaussian target with harmonic windows, of which everything is known in closed form."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logsumexp, ndtri
from scipy.stats import t as student_t

from lattice_flows.statistics import JoinedWindows, gamma_method, mbar, weighted_mean

CENTRES = np.array([-3.0, 0.0, 3.0])
STIFFNESS = 0.5  # V_k = STIFFNESS (x - c_k)^2 / 2: softer than the target, so that the weights have a finite variance
PRECISION = 1 + STIFFNESS  # of a window's Gaussian, whose mean is STIFFNESS c / PRECISION
F_EXACT = 0.5 * np.log(PRECISION) + 0.5 * STIFFNESS * CENTRES**2 / PRECISION  # -log <exp(-V_k)>
N_REPEATS, N_CONFIGS, N_BLOCKS, A = 80, 600, 12, 0.5


def biases(x):
    return 0.5 * STIFFNESS * (x - CENTRES[:, None]) ** 2  # (K, n)


def sampled(ar1, n, window, a=A):
    return STIFFNESS * CENTRES[window] / PRECISION + ar1(n, a)[:, 0] / math.sqrt(PRECISION)


def joined(chains, windows, n_blocks=N_BLOCKS):
    return JoinedWindows([biases(x) for x in chains], windows, n_blocks)


@pytest.fixture(scope="module")
def normal_pulls():
    """Pulls of a jackknife as normal deviates."""
    return lambda pulls: ndtri(student_t.cdf(np.asarray(pulls), N_BLOCKS - 1))


def test_the_equations_are_solved(ar1):
    chains = [sampled(ar1, n, k) for n, k in ((300, 0), (500, 1), (200, 2))]
    potentials, counts = np.hstack([biases(x) for x in chains]), np.array([300, 500, 200])
    f, log_w = mbar(potentials, counts)
    assert log_w == pytest.approx(-logsumexp((np.log(counts) + f)[:, None] - potentials, axis=0), abs=1e-12)
    assert logsumexp(log_w) == pytest.approx(0.0, abs=1e-12)
    assert -logsumexp(log_w - potentials, axis=1) == pytest.approx(f, abs=1e-8)
    assert mbar(potentials, counts, start=f).free_energies == pytest.approx(f, abs=1e-7)
    shifted = mbar(potentials + np.array([[7.0], [0.0], [-2.0]]), counts)
    assert shifted.free_energies == pytest.approx(f + np.array([7.0, 0.0, -2.0]), abs=1e-7)
    assert shifted.log_w == pytest.approx(log_w, abs=1e-7)


def test_one_window_is_plain_reweighting(rng):
    x = rng.normal(size=500)
    f, log_w = mbar(biases(x)[2:], [500])
    assert log_w == pytest.approx(biases(x)[2] - logsumexp(biases(x)[2]))
    assert f == pytest.approx([-math.log(weighted_mean(np.exp(-biases(x)[2]), log_w).value)])


def test_a_window_without_samples_gets_its_free_energy(ar1):
    chains = [sampled(ar1, 400, k) for k in (0, 2)]
    potentials = np.hstack([biases(x) for x in chains])
    f, log_w = mbar(potentials, [400, 0, 400])
    without = mbar(potentials[[0, 2]], [400, 400])
    assert log_w == pytest.approx(without.log_w, abs=1e-7)
    assert f == pytest.approx(-logsumexp(log_w - potentials, axis=1), abs=1e-8)
    assert joined(chains, [0, 2]).free_energies == pytest.approx(f, abs=1e-8)


def test_errors_of_joined_windows_know_the_autocorrelation(ar1, misfit, normal_pulls):
    exact = {"mean": 0.0, "square": 1.0, "variance": 1.0, "f1 - f0": F_EXACT[1] - F_EXACT[0]}
    exact["f2 - f0"] = F_EXACT[2] - F_EXACT[0]
    pulls, naive, n_eff = {name: [] for name in exact}, [], []
    for _ in range(N_REPEATS):
        chains = [sampled(ar1, N_CONFIGS, k) for k in range(3)]
        windows = joined(chains, [0, 1, 2])
        squares = [x**2 for x in chains]
        figures = {
            "mean": windows.estimate(chains),
            "square": windows.estimate(squares),
            "variance": windows.estimate(chains, squares, function=lambda mean, square: square - mean**2),
            "f1 - f0": windows.free_energy_difference(0, 1),
            "f2 - f0": windows.free_energy_difference(0, 2),
        }
        for name, figure in figures.items():
            pulls[name].append((figure.value - exact[name]) / figure.error)
        value, error = weighted_mean(np.concatenate(chains), np.concatenate(windows.log_w))
        naive.append(value / error)
        n_eff.append(figures["mean"].value * math.sqrt(figures["mean"].n_eff))  # the variance of x is 1
    deviations = {name: misfit(normal_pulls(values)) for name, values in pulls.items()}
    assert max(deviations.values()) < 4.5, deviations
    assert misfit(normal_pulls(n_eff)) < 4.5
    assert misfit(np.array(naive)) > 5  # the error of independent samples, f_k taken as exact
    assert misfit(normal_pulls(1.6 * np.array(pulls["mean"]))) > 5  # errors too small by 1.6
    assert misfit(normal_pulls(np.array(pulls["f1 - f0"]) + 1.2)) > 5  # off by 1.2 errors, which is 11 +- 1 here


def test_the_jackknife_is_the_plain_one(ar1):
    windows = [0, 1, 1]
    chains = [sampled(ar1, n, k) for n, k in zip((40, 44, 23), windows)]
    estimate = joined(chains, windows, n_blocks=4).estimate([x**3 for x in chains])
    without = []
    for b in range(4):
        kept = [x[np.arange(x.size) * 4 // x.size != b] for x in chains]
        _, log_w = mbar(np.hstack([biases(x) for x in kept]), [kept[0].size, kept[1].size + kept[2].size, 0])
        without.append(np.exp(log_w) @ np.concatenate(kept) ** 3)
    assert estimate.error == pytest.approx(math.sqrt(3 * np.var(without)), rel=1e-6)
    assert estimate.n_eff == pytest.approx(variance_of_cube(chains, windows) / estimate.error**2, rel=1e-6)
    assert math.isnan(estimate.tau_int)


def variance_of_cube(chains, windows):
    weights = np.exp(np.concatenate(joined(chains, windows, n_blocks=2).log_w))
    cubes = np.concatenate(chains) ** 3
    return weights @ cubes**2 - (weights @ cubes) ** 2


def test_equal_windows_are_one_long_chain(ar1):
    """Without a bias the weights are equal, and the jackknife error is the Gamma method's within its own error."""
    chains = [ar1(4000, 0.5)[:, 0] for _ in range(3)]
    windows = JoinedWindows([np.zeros((2, 4000))] * 3, [0, 1, 1], n_blocks=40)
    estimate, plain = windows.estimate(chains), gamma_method(chains)
    assert windows.free_energies == pytest.approx([0.0, 0.0], abs=1e-12)
    assert estimate.value == pytest.approx(plain.value, rel=1e-9)
    assert abs(estimate.error / plain.error - 1) < 4.5 / math.sqrt(2 * 39)


@pytest.mark.parametrize("distance", [2.0, 60.0])
def test_windows_that_do_not_overlap_are_refused(distance, ar1):
    means = np.array([0.0, distance, distance + 0.5])
    chains = [mean + ar1(200, A)[:, 0] / 5 for mean in means]
    potentials = np.hstack([12.5 * (x - means[:, None]) ** 2 for x in chains])  # each window a Gaussian of width 1/5
    with pytest.raises(RuntimeError, match="do not overlap"):
        mbar(potentials, [200] * 3)
    nearer = np.hstack([12.5 * (x - means[1:, None]) ** 2 for x in chains[1:]])
    assert np.isfinite(mbar(nearer, [200] * 2).free_energies).all()


def test_what_makes_no_sense_is_refused(ar1):
    x = ar1(50, A)[:, 0]
    with pytest.raises(ValueError, match="do not fit"):
        mbar(np.zeros((2, 5)), [2, 2])
    with pytest.raises(ValueError, match="finite"):
        mbar(np.full((1, 5), np.nan), [5])
    with pytest.raises(ValueError, match="one window per chain"):
        JoinedWindows([biases(x)], [0, 1])
    with pytest.raises(ValueError, match="K equal"):
        JoinedWindows([biases(x), biases(x)[:2]], [0, 1])
    with pytest.raises(ValueError, match="windows are 0"):
        JoinedWindows([biases(x)], [3])
    with pytest.raises(ValueError, match="51 blocks"):
        JoinedWindows([biases(x)], [0], n_blocks=51)
    windows = JoinedWindows([biases(x)], [1], n_blocks=5)
    with pytest.raises(ValueError, match="equal lengths"):
        windows.estimate([x[1:]])
    with pytest.raises(ValueError, match="need a function"):
        windows.estimate([x], [x])
    with pytest.raises(ValueError, match="not finite at the means"):
        windows.estimate([x], function=lambda mean: math.nan)


def test_the_users_logging_and_random_numbers_are_left_alone(ar1):
    """In a new process, where pymbar is imported for the first time."""
    script = """
import logging, sys, numpy as np
import lattice_flows.statistics
assert "pymbar" not in sys.modules
np.random.seed(3); before = np.random.get_state()[1].copy(), np.random.get_state()[2]
lattice_flows.statistics.mbar(np.zeros((2, 20)), [10, 10])
after = np.random.get_state()
assert (after[1] == before[0]).all() and after[2] == before[1]
assert logging.getLogger("pymbar.mbar_solvers").filters == [] and logging.getLogger().handlers == []
assert logging.getLogger().level == logging.WARNING and logging.root.manager.disable == 0
logging.getLogger("pymbar.mbar_solvers").warning("still heard")
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout + run.stderr == "still heard\n"
