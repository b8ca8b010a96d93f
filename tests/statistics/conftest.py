"""Synthetic Markov chains with a known autocorrelation, the yardstick for a set of pulls, and pyerrors as reference."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.signal import lfilter

from lattice_flows.statistics import Estimate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports scipy.odr, which is deprecated
    import pyerrors


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


@pytest.fixture
def pyerrors_obs() -> Callable[[Sequence[np.ndarray]], pyerrors.Obs]:
    """pyerrors_obs(replicas): the mean of a series as pyerrors has it, but with fluctuations about the common mean."""

    def made(replicas: Sequence[np.ndarray]) -> pyerrors.Obs:
        mean = np.concatenate(replicas).mean()
        names = [f"e|{i:03d}" for i in range(len(replicas))]
        obs = pyerrors.Obs([replica - mean for replica in replicas], names, means=[mean] * len(replicas))
        obs._value = mean
        return obs

    return made


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """assert_same(estimate, obs, **options): all figures agree with obs.gamma_method(**options), S = 1.5 by default."""

    def compare(estimate: Estimate, obs: pyerrors.Obs, **options: float) -> None:
        obs.gamma_method(**({"S": 1.5} | options))
        assert estimate.value == pytest.approx(obs.value, rel=1e-10, abs=1e-12)
        assert estimate.error == pytest.approx(obs.dvalue, rel=1e-10)
        assert estimate.tau_int == pytest.approx(obs.e_tauint["e"], rel=1e-10)
        assert estimate.tau_int_error == pytest.approx(obs.e_dtauint["e"], rel=1e-10)
        assert estimate.window == obs.e_windowsize["e"]

    return compare
