"""Monte Carlo series as replicas, and their lagged products.

A replica is one Markov chain. An array (config, chain) holds one replica per column; a list holds replicas of any
lengths.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Series: TypeAlias = np.ndarray | Sequence[np.ndarray] | Sequence[float]

MIN_LENGTH = 4
_FFT_VALUES = 2**15  # values transformed at once: they stay in the cache


def split_replicas(series: Series) -> list[Array]:
    """The replicas of a series as contiguous 1-D arrays in double precision; values are not looked at.

    series: (n_configs,), (n_configs, n_chains), or a list of 1-D arrays, each at least 4 long; ValueError otherwise.
    """
    if isinstance(series, (list, tuple)) and any(np.ndim(replica) for replica in series):
        replicas = [np.ascontiguousarray(replica, dtype=np.float64) for replica in series]
    else:
        values = np.asarray(series, dtype=np.float64)
        if values.ndim not in (1, 2):
            raise ValueError(f"a series is (n_configs,) or (n_configs, n_chains), not of shape {values.shape}")
        replicas = list(np.ascontiguousarray(np.atleast_2d(values.T)))  # (n_chains, n_configs)
    if any(replica.ndim != 1 for replica in replicas):
        raise ValueError("each replica of a list must be a 1-D array")
    shortest = min((replica.size for replica in replicas), default=0)
    if shortest < MIN_LENGTH:
        raise ValueError(f"error estimates need at least {MIN_LENGTH} configurations per chain, got {shortest}")
    return replicas


def as_replicas(series: Series) -> list[Array]:
    """As split_replicas, and raises ValueError if a value is infinite or not a number."""
    replicas = split_replicas(series)
    if not all(np.isfinite(replica).all() for replica in replicas):
        raise ValueError("the series holds values that are infinite or not a number")
    return replicas


def require_equal_lengths(several: Sequence[list[Array]]) -> None:
    """Raises ValueError unless all series have the same replicas."""
    lengths = {tuple(replica.size for replica in replicas) for replicas in several}
    if len(lengths) != 1:
        raise ValueError(f"series measured on the same configurations have equal lengths, got {sorted(lengths)}")


def pooled_mean(replicas: list[Array]) -> float:
    """The mean over all values of all replicas."""
    return float(sum(replica.sum() for replica in replicas) / sum(replica.size for replica in replicas))


def fluctuations(replicas: list[Array]) -> list[Array]:
    """Each replica minus its own mean, as in pyerrors (hep-lat/0306017 subtracts the common mean)."""
    return [replica - replica.mean() for replica in replicas]


def lagged_products(values: Array, n_lags: int) -> Array:
    """sum_i x_i x_{i+t} for t = 0 .. n_lags - 1; x (n,) counts as zero beyond its end. Cost n log n_lags.

    The series is cut into blocks of length B >= n_lags, each transformed with B zeros behind it. Moving a block by B
    places multiplies its transform of length 2B by (-1)^k: a block followed by the next one has X_b + (-1)^k X_{b+1}.
    """
    length = 1 << max(n_lags - 1, 1).bit_length()
    n_blocks = -(-values.size // length)
    blocks = np.zeros((n_blocks + 1, length))  # (block, B); the last one stays empty
    blocks.reshape(-1)[: values.size] = values
    sign = np.ones(length + 1)
    sign[1::2] = -1.0
    spectrum = np.zeros(length + 1, dtype=np.complex128)
    step = max(1, _FFT_VALUES // length)
    for first in range(0, n_blocks, step):
        transform = scipy.fft.rfft(blocks[first : min(first + step, n_blocks) + 1], 2 * length)  # (block, B + 1)
        spectrum += np.einsum("bk,bk->k", transform[:-1].conj(), transform[:-1] + sign * transform[1:])
    return scipy.fft.irfft(spectrum, 2 * length)[:n_lags]


def n_pairs(lengths: Sequence[int], n_lags: int) -> Array:
    """Number of pairs at each lag t = 0 .. n_lags - 1, summed over replicas and at least 1."""
    lags = np.arange(n_lags)
    lengths_seen, times = np.unique(np.asarray(lengths), return_counts=True)
    pairs = np.zeros(n_lags)
    for length, n in zip(lengths_seen, times):
        pairs += n * np.maximum(length - lags, 0)
    return np.maximum(pairs, 1.0)
