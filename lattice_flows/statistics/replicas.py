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
_SEGMENT = 2**14
_ROWS = 4  # segments transformed at once: they fill the vector units and stay in the cache


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


def largest(replicas: list[Array]) -> float:
    """The largest absolute value."""
    return max(max(float(replica.max()), -float(replica.min())) for replica in replicas)


def fluctuations(replicas: list[Array]) -> list[Array]:
    """Each replica minus its own mean, as in pyerrors (hep-lat/0306017 subtracts the common mean)."""
    return [replica - replica.mean() for replica in replicas]


def lagged_products(replicas: Sequence[Array], n_lags: int) -> Array:
    """sum_i x_i x_{i+t} for t = 0 .. n_lags - 1, over all replicas; x (n,) counts as zero beyond its end.

    Long series are cut into segments that fit the cache. What a segment, padded with zeros, has in itself is the
    inverse transform of |X|^2, and spectra add up before it: one inverse transform for all segments and replicas of
    one length. Products across the cuts come from the n_lags values on either side of each.
    """
    products = np.zeros(n_lags)
    powers: dict[tuple[int, int], Array] = {}  # by (length of the transform, lags wanted of it)
    for values in replicas:
        lags = min(n_lags, values.size)
        length = max(_SEGMENT, 1 << (8 * lags).bit_length())
        if length - lags >= values.size:
            length = scipy.fft.next_fast_len(values.size + lags, real=True)
        size = length - lags
        power = powers.setdefault((length, lags), np.zeros(2 * (length // 2 + 1)))  # squares of real, imaginary, ...
        n_full = values.size // size
        for first in range(0, n_full, _ROWS):
            last = min(first + _ROWS, n_full)
            power += _squares(values[first * size : last * size].reshape(-1, size), length)
        power += _squares(values[None, n_full * size :], length) if n_full * size < values.size else 0.0
        if size < values.size:
            products += _products_across(values, np.arange(size, values.size, size), lags)
    for (length, lags), power in powers.items():
        products[:lags] += scipy.fft.irfft(power.reshape(-1, 2).sum(axis=1), length)[:lags]
    return products


def _squares(rows: Array, length: int) -> Array:
    """Squares of real and imaginary parts, in turns, of the padded transforms of rows, summed over them."""
    parts = scipy.fft.rfft(rows, length).view(np.float64)  # (row, length + 2)
    return np.square(parts, out=parts).sum(axis=0)


def _products_across(values: Array, cuts: np.ndarray, n_lags: int) -> Array:
    """sum x_i x_{i+t}, t < n_lags, over the pairs with a cut between them; cuts are more than n_lags apart."""
    around = np.zeros((cuts.size, 2, n_lags))  # before and behind each cut
    around[:, 0] = values[cuts[:, None] + np.arange(-n_lags, 0)]
    behind = cuts[:, None] + np.arange(n_lags)  # beyond the last cut there may be fewer values
    around[:, 1] = np.where(behind < values.size, values[np.minimum(behind, values.size - 1)], 0.0)
    before, after = np.moveaxis(scipy.fft.rfft(around, 2 * n_lags), 1, 0)  # (cut, n_lags + 1)
    spectrum = np.einsum("ck,ck->k", before.conj(), after)
    spectrum[1::2] *= -1  # those behind are n_lags places further on: half of the period
    return scipy.fft.irfft(spectrum, 2 * n_lags)[:n_lags]


def n_pairs(lengths: Sequence[int], n_lags: int) -> Array:
    """Number of pairs at each lag t = 0 .. n_lags - 1, summed over replicas and at least 1."""
    lags = np.arange(n_lags)
    lengths_seen, times = np.unique(np.asarray(lengths), return_counts=True)
    pairs = np.zeros(n_lags)
    for length, n in zip(lengths_seen, times):
        pairs += n * np.maximum(length - lags, 0)
    return np.maximum(pairs, 1.0)
