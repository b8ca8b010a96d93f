"""Synthetic Markov chains with a known autocorrelation, and the yardstick for a set of pulls."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import lfilter


@pytest.fixture
def ar1(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """ar1(n, a, m): m stationary chains x_t = a x_{t-1} + noise, unit variance, (n, m); tau_int = 1/2 + a / (1 - a)."""

    def chains(n: int, a: float, m: int = 1) -> np.ndarray:
        noise = rng.normal(size=(n, m)) * np.sqrt(1 - a**2)
        noise[0] /= np.sqrt(1 - a**2)
        return lfilter([1.0], [1.0, -a], noise, axis=0)

    return chains


@pytest.fixture
def misfit() -> Callable[[np.ndarray], float]:
    """misfit(pulls): the larger deviation, in its errors, of the pulls' mean from 0 and of their mean square from 1."""

    def deviation(pulls: np.ndarray) -> float:
        n = pulls.size
        return float(max(abs(pulls.mean()) * np.sqrt(n), abs((pulls**2).mean() - 1) * np.sqrt(n / 2)))

    return deviation
