"""Monte Carlo series as replicas, and their lagged products.

A replica is one Markov chain. An array (config, chain) holds one replica per column; a list holds replicas of any
lengths. What follows from replicas value by value is computed when it is asked for (`LazyReplicas`), so that a thousand
chains of which one series fits into memory can be analysed.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeAlias, overload

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Series: TypeAlias = np.ndarray | Sequence[np.ndarray] | Sequence[float]

MIN_LENGTH = 4
_SEGMENT = 2**14
_ROWS_OF_REPLICAS = 4  # short replicas transformed at once
_ROWS = 4  # segments transformed at once: they fill the vector units and stay in the cache


class LazyReplicas(Sequence[Array]):
    """Replicas of these lengths, of which compute(k) is number k: no more than one of them is in memory."""

    def __init__(self, sizes: Sequence[int], compute: Callable[[int], Array]) -> None:
        self.sizes = sizes
        self._compute = compute

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, k: int) -> Array: ...

    @overload
    def __getitem__(self, k: slice) -> "LazyReplicas": ...

    def __getitem__(self, k: int | slice) -> "Array | LazyReplicas":
        chosen = range(len(self.sizes))[k]  # raises IndexError
        if isinstance(chosen, int):
            return self._compute(chosen)
        return LazyReplicas([self.sizes[i] for i in chosen], lambda j: self._compute(chosen[j]))

    def __iter__(self) -> Iterator[Array]:
        return map(self._compute, range(len(self.sizes)))


def sizes_of(replicas: Sequence[np.ndarray]) -> list[int]:
    """The lengths of the replicas; computes none of them."""
    return list(replicas.sizes) if isinstance(replicas, LazyReplicas) else [replica.size for replica in replicas]


def mapped(function: Callable[..., Any], *several: Sequence[np.ndarray]) -> LazyReplicas:
    """function(a, b, ...) of the replicas a of the first series, b of the second, ..., of equal lengths.

    It gives one value for each value of a replica.
    """
    parts = [replicas._compute if isinstance(replicas, LazyReplicas) else replicas.__getitem__ for replicas in several]
    if len(parts) == 1:
        (part,) = parts
        return LazyReplicas(sizes_of(several[0]), lambda k: function(part(k)))
    return LazyReplicas(sizes_of(several[0]), lambda k: function(*[part(k) for part in parts]))


def split_replicas(series: Series) -> Sequence[Array]:
    """The replicas of a series as contiguous 1-D arrays in double precision; values are not looked at.

    series: (n_configs,), (n_configs, n_chains), or a list of 1-D arrays, each at least 4 long; ValueError otherwise.
    """
    if isinstance(series, LazyReplicas):
        replicas: Sequence[Array] = mapped(_double, series)
    elif isinstance(series, (list, tuple)) and any(np.ndim(replica) for replica in series):
        replicas = [np.ascontiguousarray(replica, dtype=np.float64) for replica in series]
    else:
        values = np.asarray(series, dtype=np.float64)
        if values.ndim not in (1, 2):
            raise ValueError(f"a series is (n_configs,) or (n_configs, n_chains), not of shape {values.shape}")
        replicas = list(np.ascontiguousarray(np.atleast_2d(values.T)))  # (n_chains, n_configs)
    if not isinstance(series, LazyReplicas) and any(replica.ndim != 1 for replica in replicas):
        raise ValueError("each replica of a list must be a 1-D array")
    shortest = min(sizes_of(replicas), default=0)
    if shortest < MIN_LENGTH:
        raise ValueError(f"error estimates need at least {MIN_LENGTH} configurations per chain, got {shortest}")
    return replicas


def as_replicas(series: Series) -> Sequence[Array]:
    """As split_replicas, and raises ValueError if a value is infinite or not a number (of lazy ones when it is met)."""
    replicas = split_replicas(series)
    if isinstance(replicas, LazyReplicas):
        return mapped(_finite, replicas)
    for replica in replicas:
        _finite(replica)
    return replicas


def _double(replica: np.ndarray) -> Array:
    return np.ascontiguousarray(replica, dtype=np.float64)


def _finite(replica: Array) -> Array:
    if not np.isfinite(replica).all():
        raise ValueError("the series holds values that are infinite or not a number")
    return replica


def require_equal_lengths(several: Sequence[Sequence[Array]]) -> None:
    """Raises ValueError unless all series have the same replicas."""
    lengths = {tuple(sizes_of(replicas)) for replicas in several}
    if len(lengths) != 1:
        raise ValueError(f"series measured on the same configurations have equal lengths, got {sorted(lengths)}")


def pooled_mean(replicas: Sequence[Array]) -> float:
    """The mean over all values of all replicas."""
    return float(sum(replica.sum() for replica in replicas) / sum(sizes_of(replicas)))


def largest(replicas: Sequence[Array]) -> float:
    """The largest absolute value."""
    return max(max(float(replica.max()), -float(replica.min())) for replica in replicas)


def fluctuations(replicas: Sequence[Array]) -> LazyReplicas:
    """Each replica minus its own mean, as in pyerrors (hep-lat/0306017 subtracts the common mean)."""
    return mapped(lambda replica: replica - replica.mean(), replicas)


def lagged_products(replicas: Sequence[Array], n_lags: int) -> Array:
    """sum_i x_i x_{i+t} for t = 0 .. n_lags - 1, over all replicas; x (n,) counts as zero beyond its end.

    Long series are cut into segments that fit the cache. What a segment, padded with zeros, has in itself is the
    inverse transform of |X|^2, and spectra add up before it: one inverse transform for all segments and replicas of
    one length. Products across the cuts come from the n_lags values on either side of each. Replicas that are shorter
    than a segment are transformed several at a time where they are equally long.
    """
    products = np.zeros(n_lags)
    powers: dict[tuple[int, int], Array] = {}  # by (length of the transform, lags wanted of it)
    for rows in _rows_of_equal_length(replicas, n_lags):
        n = rows.shape[1]
        lags = min(n_lags, n)
        length = _transform_length(n, lags)
        size = length - lags
        power = powers.setdefault((length, lags), np.zeros(2 * (length // 2 + 1)))  # squares of real, imaginary, ...
        if size >= n:
            power += _squares(rows, length)
            continue
        (values,) = rows
        n_full = n // size
        for first in range(0, n_full, _ROWS):
            last = min(first + _ROWS, n_full)
            power += _squares(values[first * size : last * size].reshape(-1, size), length)
        power += _squares(values[None, n_full * size :], length) if n_full * size < n else 0.0
        products += _products_across(values, np.arange(size, n, size), lags)
    for (length, lags), power in powers.items():
        products[:lags] += scipy.fft.irfft(power.reshape(-1, 2).sum(axis=1), length)[:lags]
    return products


def _transform_length(n: int, lags: int) -> int:
    """Of the segments of a replica of n values; n + lags, or a little more, where one segment holds it all."""
    length = max(_SEGMENT, 1 << (8 * lags).bit_length())
    return length if length - lags < n else int(scipy.fft.next_fast_len(n + lags, real=True))


def _rows_of_equal_length(replicas: Sequence[Array], n_lags: int) -> Iterator[Array]:
    """Replicas one by one, (1, n), or some of equal length together, (m, n), where each is one segment."""
    sizes = sizes_of(replicas)
    for n, group in groupby(range(len(sizes)), key=lambda k: sizes[k]):
        members = list(group)
        lags = min(n_lags, n)
        at_once = _ROWS_OF_REPLICAS if _transform_length(n, lags) - lags >= n else 1
        for first in range(0, len(members), at_once):
            some = [replicas[k] for k in members[first : first + at_once]]
            yield some[0][None] if len(some) == 1 else np.stack(some)


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
