"""Lagged products of replicas, by fast Fourier transforms of segments."""

from collections.abc import Sequence

import numpy as np
import scipy.fft

from lattice_flows.statistics.replicas import Array, rows_of
from lattice_flows.statistics.shares import in_shares

_SEGMENT = 2**14
_ROWS = 4  # segments transformed at once: they fill the vector units and stay in the cache

Powers = dict[tuple[int, int], Array]  # squares of real, imaginary, ... by (length of the transform, lags wanted of it)


def lagged_products(replicas: Sequence[Array], n_lags: int) -> Array:
    """sum_i x_i x_{i+t} for t = 0 .. n_lags - 1, over all replicas; x (n,) counts as zero beyond its end.

    Long series are cut into segments that fit the cache. The products within a segment, padded with zeros, are the
    inverse transform of |X|^2, and spectra are summed first: one inverse transform serves all segments and replicas of
    one length. Products across the cuts come from the n_lags values on either side of each. Replicas that are shorter
    than a segment are transformed several at a time where they are equally long.
    """

    def of_share(blocks: list[range]) -> tuple[Powers, Array]:
        sums = _Sums(n_lags)
        for block in blocks:
            sums.add(rows_of(replicas, block))
        return sums.powers, sums.across

    powers: Powers = {}
    products = np.zeros(n_lags)
    for some, across in in_shares(of_share, replicas):
        products += across
        for key, power in some.items():
            powers[key] = powers.get(key, 0.0) + power
    for (length, lags), power in powers.items():
        products[:lags] += scipy.fft.irfft(power.reshape(-1, 2).sum(axis=1), length)[:lags]
    return products


class _Sums:
    """Sums over the segments of some replicas: the spectra, and the products across their cuts."""

    def __init__(self, n_lags: int) -> None:
        self._n_lags = n_lags
        self.powers: Powers = {}
        self.across = np.zeros(n_lags)

    def add(self, rows: Array) -> None:
        n = rows.shape[1]
        lags = min(self._n_lags, n)
        length = _transform_length(n, lags)
        if (length, lags) not in self.powers:
            self.powers[length, lags] = np.zeros(2 * (length // 2 + 1))
        if length - lags >= n:
            self._add_squares(rows, length, lags)
            return
        for values in rows:
            self._add_segments(values, length, lags)

    def _add_segments(self, values: Array, length: int, lags: int) -> None:
        size = length - lags
        n_full = values.size // size
        for first in range(0, n_full, _ROWS):
            last = min(first + _ROWS, n_full)
            self._add_squares(values[first * size : last * size].reshape(-1, size), length, lags)
        if n_full * size < values.size:
            self._add_squares(values[None, n_full * size :], length, lags)
        self.across[:lags] += _products_across(values, np.arange(size, values.size, size), lags)

    def _add_squares(self, rows: Array, length: int, lags: int) -> None:
        """Add the squares of real and imaginary parts, alternating, of the padded transforms, summed over the rows."""
        if not rows.any():
            return
        parts = scipy.fft.rfft(rows, length).view(np.float64)  # (row, length + 2)
        self.powers[length, lags] += np.square(parts, out=parts).sum(axis=0)


def _transform_length(n: int, lags: int) -> int:
    """The transform length for the segments of n values: n + lags, or a little more, if one segment holds all."""
    length = max(_SEGMENT, 1 << (8 * lags).bit_length())
    return length if length - lags < n else int(scipy.fft.next_fast_len(n + lags, real=True))


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
