"""Histograms of phi and psi with errors, and their distance."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_BINS = 36  # of each torsion: 10 degrees
_N_BLOCKS = 10  # of each chain


class Histogram(NamedTuple):
    """The probability of each bin and its standard deviation, (N_BINS, N_BINS): phi, psi."""

    p: Array
    error: Array


def of_chains(phi: Array, psi: Array) -> Histogram:
    """Of equally weighted configurations (n_configs, n_chains); the error is that of blocks, a tenth of a chain each,
    which knows of autocorrelations that are shorter."""
    blocks = [
        _counts(phi[part, chain], psi[part, chain], None) / len(part)
        for chain in range(phi.shape[1])
        for part in np.array_split(np.arange(len(phi)), _N_BLOCKS)
    ]
    return Histogram(np.mean(blocks, 0), np.std(blocks, 0, ddof=1) / math.sqrt(len(blocks)))


def of_weights(phi: Array, psi: Array, log_w: Array) -> Histogram:
    """Of independent configurations with weights (n,)."""
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    p, squares = _counts(phi, psi, w), _counts(phi, psi, w * w)
    return Histogram(p, np.sqrt((1.0 - 2.0 * p) * squares + p * p * (w @ w)))  # of sum w (1 - p) over sum w


def _counts(phi: Array, psi: Array, weights: Array | None) -> Array:
    edges = np.linspace(-math.pi, math.pi, N_BINS + 1)
    return np.histogram2d(phi, psi, bins=(edges, edges), weights=weights)[0]


class Distance(NamedTuple):
    """The total variation sum |p - q| / 2, and what it would be on average if only the errors made it."""

    value: float
    floor: float


def total_variation(one: Histogram, other: Histogram) -> Distance:
    """Of two independent histograms: for normal errors the mean of |p - q| is sqrt(2 / pi) times that of p - q."""
    noise = np.sqrt(one.error**2 + other.error**2)
    floor = 0.5 * math.sqrt(2.0 / math.pi) * float(noise.sum())
    return Distance(0.5 * float(np.abs(one.p - other.p).sum()), floor)
