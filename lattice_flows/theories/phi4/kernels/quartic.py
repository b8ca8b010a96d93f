"""Exact draws from the quartic density exp(b phi - quad phi^2 - quart phi^4), by rejection from Gaussian envelopes.

Of two envelopes the one of smaller mass serves; here b >= 0, the density of -b is the mirror image:

- whole: phi^4 >= 2 t phi^2 - t^2, one Gaussian of precision A = quad + 2 quart t, accepted with
  exp(-quart (phi^2 - t)^2). The best t is <phi^2> of that Gaussian.
- halves: r^4 >= 3 s^2 r^2 - 2 s^3 r for r = |phi|, one Gaussian of precision A = quad + 3 quart s^2 on either side of
  zero (a draw of the wrong sign is rejected), accepted with exp(-quart r (r - s)^2 (r + 2 s)). The best s is
  <r^2> / <r> of that Gaussian, near the bottom of the well.

Any t and s give exact draws, so they come from a table over b by interpolation. The fraction accepted is 0.5 at the
worst (two deep wells of equal depth), 0.71 in one deep well, 0.80 for phi^4 alone and 1 at quart = 0: integrated
numerically over quart = 1e-3 ... 1e3, quad = -2000 ... 200, b = 0 ... 2000.
"""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import bits_to_float, fast_log, float_to_bits

Array = NDArray[np.float64]

_OCTAVES = 20  # of 1 + |b| / scale, with 64 knots each; beyond them t and s are solved for
_KNOT_BITS = np.uint64(46)
_FIRST_KNOT = np.uint64(1023 << 6)
_BELOW_KNOT = np.uint64((1 << 46) - 1)
_6 = np.uint64(6)
_ONE_BITS = np.uint64(0x3FF0000000000000)


@njit(error_model="numpy")
def _excess(halves: bool, u: float, b: float, quad: float, quart: float) -> float:
    """<phi^2> - t of the Gaussian over the whole line for u = t; of one over a half, <r^2> / <r> - s for u = s."""
    if halves:
        a = quad + 3.0 * quart * u * u
        mean = 0.5 * (b + 2.0 * quart * u * u * u) / a
        return mean + 0.5 / (a * mean) - u if a > 0.0 and mean > 0.0 else np.inf
    a = quad + 2.0 * quart * u
    mean = 0.5 * b / a
    return mean * mean + 0.5 / a - u if a > 0.0 else np.inf


@njit
def _root(halves: bool, low: float, step: float, b: float, quad: float, quart: float) -> float:
    """Where the excess, positive just above `low`, falls through zero."""
    high = low + step
    while high < np.inf and _excess(halves, high, b, quad, quart) > 0.0:  # b may be not a number
        step *= 2.0
        high = low + step
    for _ in range(50):
        middle = 0.5 * (low + high)
        if _excess(halves, middle, b, quad, quart) > 0.0:
            low = middle
        else:
            high = middle
    return high


@njit(error_model="numpy")
def _log_mass(s: float, b: float, quad: float, quart: float) -> float:
    """Of the Gaussian exp(-A r^2 + (b + 2 quart s^3) r), over sqrt(pi)."""
    a = quad + 3.0 * quart * s * s
    mean = (0.5 * b + quart * s * s * s) / a
    return a * mean * mean - 0.5 * fast_log(a)


@njit(error_model="numpy")
def _solve(b: float, quad: float, quart: float) -> tuple[float, float, float, float]:
    """t, s on the side of b >= 0, s on the other side, and whether the halves have the smaller mass."""
    if quart == 0.0:
        return 0.0, 0.0, 0.0, 0.0
    well = max(0.0, -quad) / quart
    step = quart**-0.25
    t = _root(False, 0.5 * well, step * step, b, quad, quart)
    s = _root(True, np.sqrt(well / 3.0), step, b, quad, quart)
    other_low = max(np.sqrt(well / 3.0), (0.5 * b / quart) ** (1.0 / 3.0))
    other = _root(True, other_low, step, -b, quad, quart)
    a = quad + 2.0 * quart * t
    whole_mass = quart * t * t + 0.25 * b * b / a - 0.5 * fast_log(a)
    half_mass = _log_mass(s, b, quad, quart)
    half_mass += np.log1p(np.exp(_log_mass(other, -b, quad, quart) - half_mass))
    return t, s, other, 1.0 if half_mass < whole_mass else 0.0


@kernel
def _solve_all(quad: float, quart: float) -> tuple[float, Array]:
    """The scale of |b|, and the solutions at the knots, (64 _OCTAVES + 1, 4)."""
    scale = np.sqrt(quad + 2.0 * quart * _solve(0.0, quad, quart)[0])
    table = np.empty((64 * _OCTAVES + 1, 4))
    for k in range(len(table)):
        b = scale * ((1.0 + (k % 64) / 64.0) * 2.0 ** (k // 64) - 1.0)
        table[k, 0], table[k, 1], table[k, 2], table[k, 3] = _solve(b, quad, quart)
    return scale, table


@lru_cache(maxsize=1024)  # 41 kB each; beyond so many steps an annealing makes one for each sweep, as dear as that
def solutions(quad: float, quart: float) -> tuple[float, Array]:
    """The scale and the table that `envelope` and `reflection_centre` ask for.

    Raises ValueError for quart < 0 and for quart = 0 without quad > 0.
    """
    if not (quart > 0.0 or (quart == 0.0 and quad > 0.0)):
        raise ValueError(f"the action has no lower bound: quart must be > 0, or 0 with quad > 0, got {quart}, {quad}")
    return _solve_all(quad, quart)


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def _solution(b: float, quad: float, quart: float, scale: float, table: Array) -> tuple[float, float, float, float]:
    """What `_solve` gives at b >= 0, interpolated. The top bits of 1 + b / scale number the knots."""
    bits = float_to_bits(1.0 + b / scale)
    k = np.int64((bits >> _KNOT_BITS) - _FIRST_KNOT)
    if k >= len(table) - 1:
        return _solve(b, quad, quart)
    f = bits_to_float(((bits & _BELOW_KNOT) << _6) | _ONE_BITS) - 1.0
    t = table[k, 0] + f * (table[k + 1, 0] - table[k, 0])
    s = table[k, 1] + f * (table[k + 1, 1] - table[k, 1])
    other = table[k, 2] + f * (table[k + 1, 2] - table[k, 2])
    return t, s, other, table[k, 3]


Envelope = tuple[bool, float, float, float, float, float, float, float]


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def envelope(b: float, quad: float, quart: float, scale: float, table: Array) -> Envelope:
    """Of b >= 0: whether it is the whole Gaussian; tangent point, mean and deviation of the Gaussian there or on the
    side of b; the log odds of that side; tangent point, mean and deviation on the other side."""
    t, s, other, halves = _solution(b, quad, quart, scale, table)
    if halves == 0.0:
        a = quad + 2.0 * quart * t
        return True, t, 0.5 * b / a, np.sqrt(0.5 / a), np.inf, 0.0, 0.0, 0.0
    a = quad + 3.0 * quart * s * s
    mean = (0.5 * b + quart * s * s * s) / a
    other_a = quad + 3.0 * quart * other * other
    other_mean = (quart * other * other * other - 0.5 * b) / other_a
    odds = a * mean * mean - other_a * other_mean * other_mean + 0.5 * fast_log(other_a / a)
    return False, s, mean, np.sqrt(0.5 / a), odds, other, other_mean, np.sqrt(0.5 / other_a)


@njit(forceinline=True, fastmath={"contract"})
def propose(envelope: Envelope, quart: float, normal: float, logit: float) -> tuple[float, float]:
    """A draw from the envelope, and minus the log of the probability to accept it.

    normal: a standard normal deviate. logit: log u/(1 - u) of a uniform one.
    """
    whole, tangent, mean, deviation, odds, other, other_mean, other_deviation = envelope
    if whole:
        phi = mean + deviation * normal
        miss = phi * phi - tangent
        return phi, quart * miss * miss
    sign = 1.0
    if logit > odds:
        sign, tangent, mean, deviation = -1.0, other, other_mean, other_deviation
    r = mean + deviation * normal
    miss = r - tangent
    return sign * r, quart * r * miss * miss * (r + 2.0 * tangent) if r > 0.0 else np.inf


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def reflection_centre(b: float, quad: float, quart: float, scale: float, table: Array) -> float:
    """The mean of the envelope's Gaussian at b >= 0, of the one on the side of b where there are two."""
    t, s, _, halves = _solution(b, quad, quart, scale, table)
    if halves == 0.0:
        return 0.5 * b / (quad + 2.0 * quart * t)
    return (0.5 * b + quart * s * s * s) / (quad + 3.0 * quart * s * s)
