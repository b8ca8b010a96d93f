"""Sweeps of single spin flips on a batch of chains (B, L0, L1) of int8, parallel over the chains.

A flip costs dS = 2 beta g, g = s(x) (sum of the four neighbours): along an extent of 2 the same site is a neighbour
twice. A sweep flips every spin with a probability p(g), sites without common links together: those of even and of odd
x0 + x1, and a third class where an extent is odd. Long loops over all sites compute a class and leave out the others.

A probability is a 64-bit integer, p 2^64. Its upper 16 bits are compared with 16 random bits of each site; only where
they are equal do the others decide.
"""

import math
from functools import cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.random import fill_words, philox
from lattice_flows.theories.phi4.kernels.fields import neighbours

Spins = NDArray[np.int8]
Marks = NDArray[np.uint8]
Digits = NDArray[np.uint16]
Words = NDArray[np.uint64]
Streams = NDArray[np.uint64]
Array = NDArray[np.float64]

_FLIP, _TIE = np.uint8(1), np.uint8(2)
_16, _48 = np.uint64(16), np.uint64(48)
_LOW = np.uint64(2**48 - 1)
_ONE = 2**64
_PROPOSED = 15.0 / 16.0


@cache
def metropolis_thresholds(beta: float) -> Words:
    """p(g) = (15/16) min(1, exp(-2 beta g)), g = -4, -2 ... 4, as 64-bit integers.

    One spin in 16 is left alone. If none were, flips that cost nothing would be certain, and configurations in which
    the neighbours of every site cancel would only turn over, for ever: on 2x2 a quarter of all.
    """
    return _words([int(_ONE * _PROPOSED * math.exp(-2.0 * beta * max(0, g))) for g in (-4, -2, 0, 2, 4)])


@cache
def heatbath_thresholds(beta: float) -> Words:
    """p(g) = 1 / (1 + exp(2 beta g)), g = -4, -2 ... 4, as 64-bit integers: the heat bath in terms of flips."""
    weights = math.exp(-8.0 * beta), math.exp(-4.0 * beta)
    four, two = (int(_ONE * (weight / (1.0 + weight))) for weight in weights)
    return _words([_ONE - four, _ONE - two, _ONE // 2, two, four])


def _words(numbers: list[int]) -> Words:
    words = np.array([min(number, _ONE - 1) for number in numbers], dtype=np.uint64)
    words.flags.writeable = False
    return words


@cache
def classes(shape: tuple[int, ...]) -> Spins:
    """A number 0, 1 or 2 for every site of a torus, (V,), that differs from those of all its neighbours."""
    odd = any(extent % 2 for extent in shape)
    total = np.zeros(shape, dtype=np.int64)
    for axis, extent in enumerate(shape):
        along = np.arange(extent) % 2
        along[-1] += 2 * (extent % 2)  # the last of an odd number, between an odd one and the first
        total += along.reshape([-1 if axis == other else 1 for other in range(len(shape))])
    return (total % (3 if odd else 2)).astype(np.int8).ravel()


@njit
def _decide(x: Spins, near: Spins, class_of: Spins, this: np.int8, digits: Digits, upper: Digits, out: Marks) -> bool:
    """Mark the sites of this class: _FLIP, 0, or _TIE where the digits are equal; returns whether there are ties."""
    u0, u1, u2, u3, u4 = upper[0], upper[1], upper[2], upper[3], upper[4]
    seen = np.uint8(0)
    for k in range(x.size):
        g = near[k] if x[k] > 0 else np.int8(-near[k])
        threshold = u0
        threshold = u1 if g == -2 else threshold
        threshold = u2 if g == 0 else threshold
        threshold = u3 if g == 2 else threshold
        threshold = u4 if g == 4 else threshold
        what = _FLIP if digits[k] < threshold else np.uint8(0)
        what = _TIE if digits[k] == threshold else what
        what = what if class_of[k] == this else np.uint8(0)
        out[k] = what
        seen |= what
    return seen & _TIE != 0


@njit
def _settle(x: Spins, near: Spins, thresholds: Words, stream: Streams, out: Marks) -> None:
    """Let the lower 48 bits decide where the upper ones were equal."""
    for k in range(x.size):
        if out[k] == _TIE:
            word, _ = philox(stream[0], stream[1])
            stream[1] += np.uint64(1)
            flips = word >> _16 < thresholds[(x[k] * near[k] + 4) // 2] & _LOW
            out[k] = _FLIP if flips else np.uint8(0)


@njit
def _flip(x: Spins, flips: Marks) -> int:
    """Flip the chosen spins of x (V,); returns their number."""
    for k in range(x.size):
        x[k] = np.int8(-x[k]) if flips[k] else x[k]
    n_flipped = 0
    for k in range(x.size):
        n_flipped += flips[k]
    return n_flipped


@kernel(parallel=True)
def _sweeps(
    x: Spins, shape: NDArray[np.int64], class_of: Spins, streams: Streams, thresholds: Words, n_sweeps: int
) -> Array:
    n, v = x.shape
    n_classes = class_of.max() + 1
    upper = (thresholds >> _48).astype(np.uint16)
    flipped = np.zeros(n)
    for b in prange(n):
        near, flips = np.empty(v, dtype=np.int8), np.empty(v, dtype=np.uint8)
        words = np.empty(2 * ((v + 7) // 8), dtype=np.uint64)
        digits = words.view(np.uint16)
        total = 0
        for _ in range(n_sweeps):
            fill_words(streams[b], words)
            for number in range(n_classes):
                neighbours(x[b], shape, near)
                if _decide(x[b], near, class_of, np.int8(number), digits, upper, flips):
                    _settle(x[b], near, thresholds, streams[b], flips)
                total += _flip(x[b], flips)
        flipped[b] = total / (n_sweeps * v)
    return flipped


def sweeps(
    x: Spins, streams: Streams, thresholds: Words, n_sweeps: int, backwards: bool = False
) -> tuple[Spins, Streams, Array]:
    """n_sweeps flips of every spin with these probabilities, see `metropolis_thresholds` and `heatbath_thresholds`;
    `backwards` goes through the classes in the opposite order.

    x (B, L0, L1) and streams (B, 2) are left as they are. Returns the new ones and the fraction of spins that flipped
    (B,).
    """
    new, streams = np.array(x, dtype=np.int8, order="C").reshape(len(x), -1), streams.copy()  # (B, V)
    shape, class_of = x.shape[1:], classes(x.shape[1:])
    class_of = class_of.max() - class_of if backwards else class_of
    flipped = _sweeps(new, np.array(shape, dtype=np.int64), class_of, streams, thresholds, n_sweeps)
    return new.reshape(x.shape), streams, flipped
