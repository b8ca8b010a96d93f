"""Ranks and quantiles of all values of many chains together, without sorting them or holding them twice.

The values are counted in half a million equal bins between the lowest and the highest. A quantile is found exactly,
among the values of one bin. A rank is the mean rank of its bin, so it is wrong by at most half the number of values in
the bin: a few parts in a million of all, at random in its sign. Where values crowd together and this is not so small,
`is_fine` is False; equal values do no harm, since they share their mean rank anyway.
"""

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lattice_flows.statistics.replicas import Array, rows_of, sizes_of
from lattice_flows.statistics.shares import in_shares, of_replicas

N_BINS = 2**19
_AT_ONCE = 2**18  # values that are counted before the counts are added up
_CROWDED = 100.0  # values in the bin of a value, on average


class Pooled:
    """The values of replicas of any lengths, all of them finite.

    is_fine: whether the values share their bins with few others, or with none but their equals.
    """

    def __init__(self, replicas: Sequence[Array]) -> None:
        self._replicas = replicas
        self.size = sum(sizes_of(replicas))
        ends = of_replicas(lambda rows: np.stack([rows.min(axis=-1), rows.max(axis=-1)], axis=-1), replicas)
        self.low, self.high = float(ends[:, 0].min()), float(ends[:, 1].max())
        width = self.high - self.low
        self._scale = (N_BINS - 1) / width if width > 0 and math.isfinite((N_BINS - 1) / width) else 0.0
        self._counts = np.zeros(N_BINS, np.int64)
        self._adding = threading.Lock()
        in_shares(self._count, replicas)
        counts = self._counts.astype(np.float64)
        is_crowded = float(counts @ counts) > _CROWDED * self.size
        self._equals = self._only_equals() if is_crowded else None
        self.is_fine = not is_crowded or self._equals is not None

    def _count(self, blocks: list[range]) -> None:
        at_once: list[NDArray[np.int64]] = []
        for number, block in enumerate(blocks, 1):
            at_once.append(self._bins(rows_of(self._replicas, block)).ravel())
            if sum(bins.size for bins in at_once) >= _AT_ONCE or number == len(blocks):
                counts = np.bincount(np.concatenate(at_once), minlength=N_BINS)
                at_once.clear()
                with self._adding:
                    self._counts += counts

    def _bins(self, values: Array) -> NDArray[np.int64]:
        places = values - self.low
        places *= self._scale
        return places.astype(np.int64)

    def _only_equals(self) -> Array | None:
        """The value in each bin if every bin holds only equal values, else None."""
        example = np.full(N_BINS, np.nan)

        def is_same(blocks: list[range]) -> bool:
            for block in blocks:
                rows = rows_of(self._replicas, block)
                bins = self._bins(rows)
                with self._adding:
                    first = np.isnan(example[bins])
                    example[bins[first]] = rows[first]
                    if not (example[bins] == rows).all():
                        return False
            return True

        return example if all(in_shares(is_same, self._replicas)) else None

    def quantiles(self, fractions: Sequence[float]) -> list[float]:
        """The quantiles of these fractions, linear between the two nearest values as in np.quantile."""
        places = [fraction * (self.size - 1) for fraction in fractions]
        numbers = sorted({n for place in places for n in (math.floor(place), math.ceil(place))})
        values = dict(zip(numbers, self._ordered(numbers)))
        found = []
        for place in places:
            low, high = values[math.floor(place)], values[math.ceil(place)]
            found.append(low + (high - low) * (place - math.floor(place)))
        return found

    def _ordered(self, numbers: Sequence[int]) -> list[float]:
        """The values of these numbers in ascending order, counted from 0."""
        below = np.cumsum(self._counts)
        at = np.searchsorted(below, numbers, side="right")
        if self._equals is not None:
            return [float(self._equals[b]) for b in at]
        inside: dict[int, list[Array]] = {int(b): [] for b in at}

        def collect(blocks: list[range]) -> None:
            for block in blocks:
                rows = rows_of(self._replicas, block)
                bins = self._bins(rows)
                for b, values in inside.items():
                    values.append(rows[bins == b])  # in any order: they are sorted below

        in_shares(collect, self._replicas)
        ranks = [number - (int(below[b - 1]) if b else 0) for number, b in zip(numbers, at)]
        return [float(np.partition(np.concatenate(inside[int(b)]), rank)[rank]) for b, rank in zip(at, ranks)]

    def normal_scores(self) -> "NormalScores":
        """The normal score of every bin, at the mean rank of its values (arXiv:1903.08008, eq. 14)."""
        ranks = np.cumsum(self._counts) - 0.5 * (self._counts - 1)
        return NormalScores(self, ndtri((ranks - 0.375) / (self.size + 0.25)))


class NormalScores:
    """A function from values to normal scores, by the bins of a Pooled."""

    def __init__(self, pooled: Pooled, table: Array) -> None:
        self._pooled, self._table = pooled, table

    def __call__(self, values: Array) -> Array:
        return self._table[self._pooled._bins(values)]
