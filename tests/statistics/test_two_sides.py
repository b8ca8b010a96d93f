"""Free energies from both sides, on Gaussians whose log Z is known: coverage over many repetitions.

The flow is q = N(0, 1), and the target exp(-S) with S = (x - m)^2 / (2 t^2) has log Z = log(t sqrt(2 pi)).
"""

import math

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import t as student_t

from lattice_flows.statistics import (
    N_BLOCKS,
    ValueWithError,
    bennett,
    flow_difference,
    gauss_legendre,
    log_z_by_integration,
    log_z_interval,
    trapezoidal,
)

pytestmark = pytest.mark.quick

M, T = 0.4, 0.8
LOG_Z = math.log(T * math.sqrt(2 * math.pi))
KL_QP = math.log(T) + (1 + M**2) / (2 * T**2) - 0.5
KL_PQ = -math.log(T) + (T**2 + M**2) / 2 - 0.5
N_REPEATS, N, A = 80, 1000, 0.6


def log_w(x, m=M, t=T):
    return -0.5 * ((x - m) / t) ** 2 + 0.5 * x**2 + 0.5 * math.log(2 * math.pi)


def sides(rng, ar1):
    """log w of samples of the flow, and along a correlated chain of the target."""
    return log_w(rng.normal(size=N)), log_w(M + T * ar1(2 * N, A)[:, 0])


def pull(found: ValueWithError, exact: float) -> float:
    return (found.value - exact) / found.error


def test_the_ends_are_off_by_the_divergences(rng, ar1, misfit):
    lower, upper, naive = [], [], []
    for _ in range(N_REPEATS):
        forward, backward = sides(rng, ar1)
        found = log_z_interval(forward, backward)
        lower.append(pull(found.lower, LOG_Z - KL_QP))
        upper.append(pull(found.upper, LOG_Z + KL_PQ))
        naive.append((found.upper.value - LOG_Z - KL_PQ) / (backward.std() / math.sqrt(backward.size)))
    assert misfit(np.array(lower)) < 4.5
    assert misfit(np.array(upper)) < 4.5
    assert misfit(np.array(naive)) > 5  # as if the chain had no autocorrelation
    assert misfit(np.array(lower) + 1.2) > 5


def test_bennett_joins_samples_of_a_flow_and_a_chain(rng, ar1, misfit):
    found = [pull(bennett(*(side[:400] for side in sides(rng, ar1))), LOG_Z) for _ in range(20)]
    pulls = ndtri(student_t.cdf(np.array(found), N_BLOCKS - 1))
    assert misfit(pulls) < 4.5
    assert misfit(2.5 * pulls) > 5


def test_one_per_cent_of_z_is_seen(rng):
    """With a good flow the error is a tenth of that."""
    m, t = 0.1, 0.95
    forward, backward = log_w(rng.normal(size=20_000), m, t), log_w(m + t * rng.normal(size=20_000), m, t)
    found, exact = bennett(forward, backward), math.log(t * math.sqrt(2 * math.pi))
    assert abs(pull(found, exact)) < 4.5
    assert abs(pull(found, exact + 0.01)) > 5


def test_bennett_of_paths_that_do_not_arrive(rng):
    """A third of the works is infinite on one side: Z is a third smaller."""
    m, t = 0.3, 0.9
    forward, backward = log_w(rng.normal(size=9000), m, t), log_w(m + t * rng.normal(size=9000), m, t)
    whole = math.log(t * math.sqrt(2 * math.pi))
    forward[::3] = -np.inf
    assert abs(pull(bennett(forward, backward), whole + math.log(2 / 3))) < 4.5
    with pytest.raises(RuntimeError, match="do not overlap"):
        bennett(np.full(100, -np.inf), backward)
    with pytest.raises(ValueError, match="finite"):
        bennett(np.append(forward, np.inf), backward)


def test_divergences_are_off_by_those_of_the_flows(rng, misfit):
    """F_2 - F_1 of two targets, the second 1.3 times as wide: exact within errors, and by losses off by 0.12."""
    wide = 1.3 * T
    kl_wide = math.log(wide) + (1 + M**2) / (2 * wide**2) - 0.5
    exact, other, wrong = [], [], []
    for _ in range(N_REPEATS):
        found = flow_difference(log_w(rng.normal(size=N)), log_w(rng.normal(size=N), t=wide))
        exact.append(pull(found.exact, -math.log(1.3)))
        other.append(pull(found.by_divergences, -math.log(1.3) + kl_wide - KL_QP))
        wrong.append(pull(found.by_divergences, -math.log(1.3)))
    assert misfit(np.array(exact)) < 4.5
    assert misfit(np.array(other)) < 4.5
    assert misfit(np.array(wrong)) > 5


def test_integration_from_one_gaussian_to_the_other(ar1, misfit):
    """S_t = (1 - t) x^2 / 2 + t (x - m)^2 / (2 t^2) is Gaussian at every t."""
    nodes, weights = gauss_legendre(4)
    precision = (1 - nodes) + nodes / T**2
    centre = nodes * M / T**2 / precision
    pulls = []
    for _ in range(N_REPEATS):
        chains = [c + ar1(500, A)[:, 0] / math.sqrt(p) for c, p in zip(centre, precision)]
        slopes = [0.5 * ((x - M) / T) ** 2 - 0.5 * x**2 for x in chains]
        pulls.append(pull(log_z_by_integration(slopes, weights), math.log(T)))
    assert misfit(np.array(pulls)) < 4.5
    assert misfit(1.6 * np.array(pulls)) > 5


def test_rules_integrate_what_they_should():
    nodes, weights = gauss_legendre(3)
    assert weights @ nodes**5 == pytest.approx(1 / 6, abs=1e-14)
    assert trapezoidal([0.0, 0.1, 1.0]) == pytest.approx([0.05, 0.5, 0.45], abs=1e-15)


def test_what_makes_no_sense_is_refused():
    chain = np.arange(40.0)
    with pytest.raises(ValueError, match=r"forward must be .* got the shape \(1,\)"):
        log_z_interval([1.0], chain)
    with pytest.raises(ValueError, match="log_w_2 must be"):
        flow_difference(chain, [0.0, -np.inf])
    with pytest.raises(ValueError, match="got 1 nodes and weights of shape"):
        log_z_by_integration([chain], [0.5, 0.5])
    with pytest.raises(ValueError, match="ascending"):
        trapezoidal([0.0, 0.0])
    with pytest.raises(ValueError, match="at least 1 node, got 0"):
        gauss_legendre(0)
