"""Monte Carlo series as replicas.

A replica is one Markov chain. An array (config, chain) holds one replica per column; a list holds replicas of any
lengths. What follows from replicas value by value is computed on demand (`LazyReplicas`), for several equally long
replicas at once, so that a thousand chains of which one series fits into memory can be analysed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Series: TypeAlias = np.ndarray | Sequence[np.ndarray] | Sequence[float]

MIN_LENGTH = 4  # configurations per chain that an error estimate needs: with fewer not even rho(1) is known


class LazyReplicas(Sequence[Array]):
    """Replicas of these lengths, number k being compute(k): no more than a few of them are in memory.

    rows: computes a range of equally long replicas at once, (m, n); absent, they are computed one by one. Threads may
        call compute and rows at the same time.
    """

    def __init__(
        self, sizes: Sequence[int], compute: Callable[[int], Array], rows: Callable[[range], Array] | None = None
    ) -> None:
        self.sizes = sizes
        self._compute = compute
        self._rows = rows

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

    def rows(self, numbers: range) -> Array:
        """Some equally long replicas, (m, n)."""
        return _stacked([self._compute(k) for k in numbers]) if self._rows is None else self._rows(numbers)


def sizes_of(replicas: Sequence[np.ndarray]) -> list[int]:
    """The lengths of the replicas; computes none of them."""
    return list(replicas.sizes) if isinstance(replicas, LazyReplicas) else [replica.size for replica in replicas]


def rows_of(replicas: Sequence[np.ndarray], numbers: range) -> np.ndarray:
    """Equally long replicas of consecutive numbers, (m, n); not to be changed."""
    if isinstance(replicas, LazyReplicas):
        return replicas.rows(numbers)
    return _stacked(replicas[numbers.start : numbers.stop])


def _stacked(replicas: Sequence[np.ndarray]) -> np.ndarray:
    """The replicas as rows, without a copy if they are contiguous in memory or hold one number each."""
    first, whole = replicas[0], replicas[0].base
    if len(replicas) == 1:
        return first[None]
    if isinstance(whole, np.ndarray) and whole.ndim == 1 and whole.dtype == first.dtype and whole.flags.c_contiguous:
        start = (_address(first) - _address(whole)) // max(whole.itemsize, 1)
        places = [_address(first) + k * first.nbytes for k in range(len(replicas))]
        if all(r.base is whole and r.flags.c_contiguous and r.dtype == first.dtype for r in replicas) and places == [
            _address(r) for r in replicas
        ]:
            return whole[start : start + len(replicas) * first.size].reshape(len(replicas), -1)
    if all(replica.strides == (0,) for replica in replicas):  # one number each, as of weights that are all equal
        return np.broadcast_to(np.array([replica[:1] for replica in replicas]), (len(replicas), replicas[0].size))
    return np.stack(replicas)


def _address(values: np.ndarray) -> int:
    return values.__array_interface__["data"][0]


def mapped(function: Callable[..., Any], *several: Sequence[np.ndarray]) -> LazyReplicas:
    """function(a, b, ...) of the replicas a of the first series, b of the second, ..., of equal lengths.

    It returns one value for each value of a replica, and takes single replicas (n,) and rows of them (m, n) alike.
    """
    return LazyReplicas(
        sizes_of(several[0]),
        lambda k: function(*[replicas[k] for replicas in several]),
        lambda numbers: function(*[rows_of(replicas, numbers) for replicas in several]),
    )


def require_plain(series: Any) -> None:
    """Raise ValueError for a series, or a part of a list, that would lose its meaning in double precision."""
    for part in series if isinstance(series, (list, tuple)) else [] if isinstance(series, LazyReplicas) else [series]:
        if np.ma.isMaskedArray(part):
            raise ValueError("a series is masked: an error needs every configuration in its place; give what is whole")
        if np.iscomplexobj(part):
            raise ValueError("a series is complex: give its real and its imaginary part, one at a time")


def split_replicas(series: Series) -> Sequence[Array]:
    """The replicas of a series as contiguous 1-D arrays in double precision; values are not looked at.

    series: (n_configs,), (n_configs, n_chains), or a list of 1-D arrays, each at least 4 long; ValueError otherwise,
        and for masked arrays and complex numbers.
    """
    require_plain(series)
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
    """The same as split_replicas, with a check (of lazy replicas as they are computed) that every value is finite.

    Raises ValueError for a value that is infinite or not a number.
    """
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


def n_pairs(lengths: Sequence[int], n_lags: int) -> Array:
    """Number of pairs at each lag t = 0 .. n_lags - 1, summed over replicas and at least 1."""
    lags = np.arange(n_lags)
    lengths_seen, times = np.unique(np.asarray(lengths), return_counts=True)
    pairs = np.zeros(n_lags)
    for length, n in zip(lengths_seen, times):
        pairs += n * np.maximum(length - lags, 0)
    return np.maximum(pairs, 1.0)
