"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11, doi:10.1145/2063384.2063405).

A stream is a row (key, counter) of a uint64 array, so a set of chains is an array (B, 2) that can be copied, stored and
resumed. Each counter value yields one block of two 64-bit words. Blocks are independent of each other, so bulk
deviates are made eight at a time by the vector units.
"""

import hashlib

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import bits_to_float, fast_log, fast_sin

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
Word = np.uint64

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_12 = np.uint64(12)
_ONE_BITS = np.uint64(0x3FF0000000000000)
_HALF_ULP = 2.0**-53
_TWO_PI = 2.0 * np.pi


def make_streams(seed: int, name: str, chains: range) -> NDArray[np.uint64]:
    """One stream per chain, (B, 2) uint64, counters at zero.

    `name` must contain everything that distinguishes one set of chains from another: equal names give equal numbers.
    `chains` counts over the whole ensemble, so that grouping chains into jobs changes nothing.
    """
    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    keys = [np.random.SeedSequence(seed, spawn_key=(tag, k)).generate_state(1, np.uint64)[0] for k in chains]
    return np.stack([np.array(keys, dtype=np.uint64), np.zeros(len(keys), dtype=np.uint64)], axis=1)


@njit(forceinline=True)
def _round(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    p0 = _M0 * c0
    p1 = _M1 * c2
    return (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW


@njit(forceinline=True)
def philox4x32(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Ten rounds on four 32-bit counter words and two key words, all held in uint64."""
    for _ in range(10):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@njit(forceinline=True)
def philox(key: Word, counter: Word) -> tuple[Word, Word]:
    """The block of this counter: two uint64 words."""
    c0, c1, c2, c3 = philox4x32(counter & _LOW, counter >> _32, np.uint64(0), np.uint64(0), key & _LOW, key >> _32)
    return c0 | (c1 << _32), c2 | (c3 << _32)


@njit(forceinline=True)
def to_unit(word: Word) -> float:
    """A uniform deviate in the open interval (0, 1), on the 2^52 midpoints of a regular grid."""
    return bits_to_float((word >> _12) | _ONE_BITS) - 1.0 + _HALF_ULP


@njit(forceinline=True)
def uniform_pair(stream: NDArray[np.uint64]) -> tuple[float, float]:
    """Two uniform deviates; advances the stream (key, counter) by one block."""
    w0, w1 = philox(stream[0], stream[1])
    stream[1] += np.uint64(1)
    return to_unit(w0), to_unit(w1)


@njit(forceinline=True)
def fill_words(stream: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Fill the 1D array, of even size n, with random words; advances the stream by n / 2 blocks."""
    half = out.size // 2
    key, start = stream[0], stream[1]
    for i in range(half):
        out[i], out[half + i] = philox(key, start + np.uint64(i))
    stream[1] = start + np.uint64(half)


@njit(forceinline=True)
def fill_uniforms(stream: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    """Fill the 1D array with uniform deviates in (0, 1); advances the stream by ceil(n / 2) blocks."""
    n = out.size
    half = n // 2
    key, start = stream[0], stream[1]
    for i in range(half):
        w0, w1 = philox(key, start + np.uint64(i))
        out[i] = to_unit(w0)
        out[half + i] = to_unit(w1)
    if n % 2 == 1:
        out[n - 1] = to_unit(philox(key, start + np.uint64(half))[0])
    stream[1] = start + np.uint64((n + 1) // 2)


@njit(fastmath={"contract"})
def fill_normals(stream: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    """Fill the 1D array with standard normals (Box-Muller); advances the stream by ceil(n / 2) blocks."""
    n = out.size
    half = n // 2
    fill_uniforms(stream, out[: 2 * half])
    for i in range(half):
        radius = np.sqrt(-2.0 * fast_log(out[i]))
        angle = _TWO_PI * out[half + i]
        out[i] = radius * fast_sin(angle + 0.5 * np.pi)
        out[half + i] = radius * fast_sin(angle)
    if n % 2 == 1:
        u, v = uniform_pair(stream)
        out[n - 1] = np.sqrt(-2.0 * fast_log(u)) * fast_sin(_TWO_PI * v)


@kernel(parallel=True)
def _normals(streams: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    for b in prange(out.shape[0]):
        fill_normals(streams[b], out[b])


@kernel(parallel=True)
def _uniforms(streams: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    for b in prange(out.shape[0]):
        fill_uniforms(streams[b], out[b])


_SPLIT = np.uint64(2**63)  # counters that no chain reaches


@kernel
def split_streams(streams: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """The k-th child of each stream, (B, 2): new keys, counters at zero."""
    parts = np.zeros_like(streams)
    for b in range(len(streams)):
        parts[b, 0] = philox(streams[b, 0], _SPLIT + np.uint64(k))[0]
    return parts


def normals(streams: NDArray[np.uint64], n: int) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """n standard normals per stream, (B, n), and the advanced streams."""
    streams, out = streams.copy(), np.empty((len(streams), n))
    _normals(streams, out)
    return out, streams


def uniforms(streams: NDArray[np.uint64], n: int) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """n uniform deviates in (0, 1) per stream, (B, n), and the advanced streams."""
    streams, out = streams.copy(), np.empty((len(streams), n))
    _uniforms(streams, out)
    return out, streams
