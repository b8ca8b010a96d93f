"""Umbrella windows joined by MBAR (M. R. Shirts and J. D. Chodera, arXiv:0801.1426), with errors of Markov chains.

A window k samples exp(-S(x) - V_k(x)): the common target exp(-S) with a bias V_k, in units of the action. Its free
energy is f_k = -log <exp(-V_k)> in the target, which has V = 0 and f = 0.
"""

import logging
import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from lattice_flows.statistics.gamma import Estimate
from lattice_flows.statistics.propagation import Function, slopes_by_differences
from lattice_flows.statistics.replicas import Array, Series, as_replicas, require_equal_lengths
from lattice_flows.statistics.weights import ValueWithError

N_BLOCKS = 20  # of the jackknife
_UNSOLVED = 1e-6  # in the sum of weights of a window, which is 1


class Mbar(NamedTuple):
    """free_energies (K,), relative to the target, and log_w (N,) of every sample for the target, sum w = 1."""

    free_energies: Array
    log_w: Array


def mbar(reduced_potentials: ArrayLike, n_samples: ArrayLike, start: ArrayLike | None = None) -> Mbar:
    """Free energies and weights of samples from K windows, solved by pymbar (arXiv:0801.1426, eq. 11).

    reduced_potentials: (K, N), the bias V_k(x_n) of every sample in every window, finite; the order of samples is free.
    n_samples: (K,), the number of samples from each window, N in all; a window without samples gets its f_k too.
    start: (K,), free energies to start from.

    log_w_n = -log sum_k n_k exp(f_k - V_k(x_n)). Raises ValueError if shapes do not fit, and RuntimeError if the
    equations were not solved or if windows do not overlap.
    """
    potentials, counts = np.asarray(reduced_potentials, dtype=np.float64), np.asarray(n_samples)
    if potentials.ndim != 2 or counts.shape != potentials.shape[:1] or counts.sum() != potentials.shape[1]:
        raise ValueError(f"potentials (K, N) and n_samples (K,) do not fit: {potentials.shape}, {counts}")
    if not np.isfinite(potentials).all() or (counts < 0).any():
        raise ValueError("potentials must be finite and n_samples not negative")
    initial = np.zeros(counts.size) if start is None else np.array(start, dtype=np.float64)
    # Not pymbar.MBAR: its constructor seeds numpy's global generator.
    f = _solvers().solve_mbar_for_all_states(
        potentials,
        counts.astype(np.float64),
        initial,
        np.flatnonzero(counts),
        ({"method": "adaptive", "tol": 1e-8, "options": {"maxiter": 1000, "min_sc_iter": 0}, "continuation": True},),
    )
    log_w = -_log_mixture(potentials, counts, f)
    total = float(logsumexp(log_w))
    solution = Mbar(f + total, log_w - total)
    _require_solved(np.exp(solution.log_w + solution.free_energies[:, None] - potentials), counts)
    return solution


class JoinedWindows:
    """Chains from umbrella windows as one weighted sample of the target.

    biases: for each chain (K, n_configs): the bias of its configurations in every window. Chains may differ in length.
    windows: for each chain the window 0 .. K - 1 that it was sampled in; a window may have several chains or none.
    n_blocks: the number of consecutive blocks of every chain, which must be longer than the autocorrelation.

    Errors are those of the block jackknife: block b of all chains is left out at a time, MBAR is solved again from
    the full solution, and error^2 = (n_blocks - 1)/n_blocks sum_b (theta_b - mean)^2. They know the autocorrelation and
    the uncertainty of the free energies. A pull is distributed as Student's t with n_blocks - 1 degrees of freedom.
    Memory: n_blocks doubles for each configuration.

    Raises ValueError for shapes that do not fit, windows out of range or chains shorter than n_blocks, and what mbar
    raises.
    """

    free_energies: Array  # (K,), relative to the target
    log_w: list[Array]  # for each chain (n_configs,); the weights of all chains sum to 1

    def __init__(self, biases: Sequence[ArrayLike], windows: Sequence[int], n_blocks: int = N_BLOCKS) -> None:
        potentials = [np.asarray(bias, dtype=np.float64) for bias in biases]
        lengths = _checked_lengths(potentials, windows, n_blocks)
        self._lengths = lengths
        joined = np.concatenate(potentials, axis=1)  # (K, N)
        window = np.repeat(windows, lengths)  # (N,)
        block = np.concatenate([np.arange(n) * n_blocks // n for n in lengths])  # (N,)
        solution = mbar(joined, _counts(window, len(joined)))
        self.free_energies = solution.free_energies
        self.log_w = np.split(solution.log_w, np.cumsum(lengths)[:-1])
        self._block_free_energies = np.empty((n_blocks, len(joined)))
        self._block_weights = np.zeros((n_blocks, joined.shape[1]))  # zero in the block left out
        for b in range(n_blocks):
            kept = block != b
            part = mbar(joined[:, kept], _counts(window[kept], len(joined)), start=solution.free_energies)
            self._block_free_energies[b] = part.free_energies
            self._block_weights[b, kept] = np.exp(part.log_w)

    def estimate(self, *series: Series, function: Function | None = None) -> Estimate:
        """<O> in the target, or function(<A>, <B>, ...) of several series.

        series: each a list of 1-D arrays (or an array (n_configs, n_chains)), on the configurations of all chains.
        function: takes the means as floats and returns a float; it may be left out for one series.

        n_eff = variance / error^2, the variance being that of the linearised fluctuation in the target: this many
        independent configurations of the target would give the same error. Chains of different windows have no common
        tau_int: tau_int and tau_int_error are nan, window is 0.

        Raises ValueError if series do not fit the chains, hold values that are not finite, or if the function is not
        finite at the means, with all blocks or with one left out.
        """
        several = [as_replicas(one) for one in series]
        require_equal_lengths([[np.empty(n) for n in self._lengths], *several])
        if function is None:
            if len(several) != 1:
                raise ValueError("several series need a function of their means")
            function = _identity
        values = np.array([np.concatenate(replicas) for replicas in several])  # (n_series, N)
        weights = np.exp(np.concatenate(self.log_w))
        means = values @ weights
        block_means = self._block_weights @ values.T  # (n_blocks, n_series)
        value = float(function(*map(float, means)))
        error = _jackknife(np.array([float(function(*map(float, row))) for row in block_means]))
        errors = [_jackknife(column) for column in block_means.T]
        slopes = slopes_by_differences(function, [float(mean) for mean in means], errors)
        if not np.isfinite([value, error, *slopes]).all():
            raise ValueError(f"the function or its gradient is not finite at the means {means.tolist()}")
        variance = float(weights @ (slopes @ (values - means[:, None])) ** 2)
        n_eff = variance / error**2 if error > 0 else math.nan
        return Estimate(value, error, math.nan, math.nan, 0, n_eff)

    def free_energy_difference(self, k: int, l: int) -> ValueWithError:  # noqa: E741
        """f_l - f_k of two windows, by the same jackknife."""
        error = _jackknife(self._block_free_energies[:, l] - self._block_free_energies[:, k])
        return ValueWithError(float(self.free_energies[l] - self.free_energies[k]), error)


def _require_solved(weights: Array, counts: np.ndarray) -> None:
    """Raise RuntimeError unless MBAR is solved, with weights (K, N) that sum to 1 in each window, and windows overlap.

    n_k weights_k weights_l summed over samples is a stochastic matrix of overlaps; two groups of windows that share
    nothing give it a second eigenvalue 1, and their free energies are then undetermined. A gap below 1 / N is less than
    one shared sample.
    """
    if not (np.abs(weights.sum(axis=1) - 1) < _UNSOLVED).all():
        raise RuntimeError("the equations of MBAR were not solved")
    scaled = np.sqrt(counts[counts > 0])[:, None] * weights[counts > 0]
    eigenvalues = np.linalg.eigvalsh(scaled @ scaled.T)  # ascending
    if eigenvalues.size > 1 and 1 - eigenvalues[-2] < 1 / counts.sum():
        raise RuntimeError("MBAR cannot join windows that do not overlap: place more windows between")


def _identity(mean: float) -> float:
    return mean


def _jackknife(without: Array) -> float:
    """The error of a figure from its values with one block left out, (n_blocks,)."""
    return math.sqrt((without.size - 1) * float(np.var(without)))


def _counts(window: np.ndarray, n_windows: int) -> np.ndarray:
    return np.bincount(window, minlength=n_windows)


def _log_mixture(potentials: Array, counts: np.ndarray, free_energies: Array) -> Array:
    """log sum_k n_k exp(f_k - V_k(x_n)), (N,)."""
    used = counts > 0
    return logsumexp((np.log(counts[used]) + free_energies[used])[:, None] - potentials[used], axis=0)


def _checked_lengths(potentials: Sequence[Array], windows: Sequence[int], n_blocks: int) -> list[int]:
    """The chains' lengths."""
    if not potentials or len(potentials) != len(windows):
        raise ValueError(f"one window per chain: got {len(windows)} windows for {len(potentials)} chains")
    if any(potential.ndim != 2 or len(potential) != len(potentials[0]) for potential in potentials):
        raise ValueError(f"biases are (K, n_configs), K equal: got {[potential.shape for potential in potentials]}")
    if not all(0 <= k < len(potentials[0]) for k in windows):
        raise ValueError(f"windows are 0 .. {len(potentials[0]) - 1}, got {list(windows)}")
    lengths = [potential.shape[1] for potential in potentials]
    if n_blocks < 2 or min(lengths) < n_blocks:
        raise ValueError(f"chains of {min(lengths)} configurations cannot be cut into {n_blocks} blocks (at least 2)")
    return lengths


def _solvers() -> ModuleType:
    """pymbar's solvers, imported on first use, without the notices (on JAX, on its timeseries module) that two of its
    modules log while they are imported. All later records pass."""
    loggers = [logging.getLogger(f"pymbar.{name}") for name in ("mbar_solvers", "timeseries")]
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        from pymbar import mbar_solvers  # type: ignore[import-untyped]
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)
    return mbar_solvers


def _nothing(record: logging.LogRecord) -> bool:
    return False
