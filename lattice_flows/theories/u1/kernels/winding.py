"""The winding step of arXiv:2106.14234 for 2D U(1) links (B, 2, L0, L1): a jump between topological sectors.

In a square of `size` x `size` plaquettes, (size + 1)^2 sites, the links become Omega(n) U_mu(n) Omega(n + mu)^*, where
Omega = 1 inside and winds once around the 4 size sites of the boundary, by pi / (2 size) from each to the next. Inside
the square this is a gauge transformation: each plaquette stays what it was. The 4 size plaquettes that share a link
with the square from outside turn by s pi / (2 size), 2 pi in all, so Q changes by s = +-1 less s for each of them that
crosses the cut at pi. A cold field gains S = 4 size beta (1 - cos(pi / (2 size))): wide squares are accepted most.

Exactness. For a given place the step adds s A to the angles, with an A that does not depend on the field: a translation
of the torus of all links, which preserves the Haar measure, and whose inverse is the step of the opposite sign at the
same place. Places are uniform and both signs equally likely, whatever the field, so a move and its inverse are proposed
equally often, and the Metropolis test min(1, exp(-delta S)) gives detailed balance. With a single sign it would not.

The step alone is not ergodic; it belongs between updates that are. The erratum of the paper (Eur. Phys. J. C 83 (2023)
508) was not at hand: everything above is derived here and tested against the closed forms.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_log, fast_sin, wrap
from lattice_flows.kernels.random import uniform_pair

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@njit
def _phases(size: int) -> Array:
    """The angle of Omega on the sites of the square, (size + 1, size + 1); along the boundary it grows as P is read."""
    angle = np.zeros((size + 1, size + 1))
    step = 0.5 * np.pi / size
    for k in range(size):
        angle[k, 0] = k * step
        angle[size, k] = (size + k) * step
        angle[size - k, size] = (2 * size + k) * step
        angle[0, size - k] = (3 * size + k) * step
    return angle


@njit
def _turn(t0: Array, t1: Array, i0: int, j0: int, angle: Array, sign: float) -> None:
    """theta_mu(n) += sign (angle(n) - angle(n + mu)) in the square whose lower corner is (i0, j0), in place."""
    l0, l1 = t0.shape
    size = angle.shape[0] - 1
    for a in range(size + 1):
        i = (i0 + a) % l0
        for b in range(size + 1):
            j = (j0 + b) % l1
            if a < size:
                t0[i, j] = wrap(t0[i, j] + sign * (angle[a, b] - angle[a + 1, b]))
            if b < size:
                t1[i, j] = wrap(t1[i, j] + sign * (angle[a, b] - angle[a, b + 1]))


@njit
def _plaquette(t0: Array, t1: Array, i: int, j: int) -> float:
    up, right = (i + 1) % t0.shape[0], (j + 1) % t0.shape[1]
    return t0[i, j] + t1[up, j] - t0[i, right] - t1[i, j]


@njit(fastmath={"contract"})
def _sum_of_cosines_lost(t0: Array, t1: Array, i0: int, j0: int, size: int, sign: float) -> float:
    """sum [cos P - cos P'] of the plaquettes that turn, as 2 sin(d/2) sin(P + d/2) each.

    A square that spans the lattice but for one row of plaquettes meets that row from both sides: it turns twice as far.
    """
    l0, l1 = t0.shape
    step = 0.5 * np.pi / size
    turn0 = 0.5 * sign * (2 * step if size == l0 - 1 else step)  # half the angle
    turn1 = 0.5 * sign * (2 * step if size == l1 - 1 else step)
    left, right, below, above = (i0 - 1) % l0, (i0 + size) % l0, (j0 - 1) % l1, (j0 + size) % l1
    sum0 = sum1 = 0.0
    for k in range(size):
        i, j = (i0 + k) % l0, (j0 + k) % l1
        sum0 += fast_sin(_plaquette(t0, t1, left, j) + turn0)
        sum1 += fast_sin(_plaquette(t0, t1, i, below) + turn1)
        if left != right:
            sum0 += fast_sin(_plaquette(t0, t1, right, j) + turn0)
        if below != above:
            sum1 += fast_sin(_plaquette(t0, t1, i, above) + turn1)
    return 2.0 * (math.sin(turn0) * sum0 + math.sin(turn1) * sum1)


@kernel(parallel=True)
def winding(links: Array, streams: Streams, beta: float, size: int, n_updates: int) -> tuple[Array, Streams, Array]:
    """n_updates winding steps of every chain, each at a random place with a random sign and a Metropolis test.

    `size` must be between 1 and min(L0, L1) - 1; the caller sees to it. Returns the new links (wrapped), streams and
    the accepted fraction (B,). The arguments are left as they are.
    """
    n, _, l0, l1 = links.shape
    links, streams = links.copy(), streams.copy()
    accepted = np.zeros(n)
    for b in prange(n):
        t0, t1 = links[b, 0], links[b, 1]
        angle = _phases(size)
        n_accepted = 0
        for _ in range(n_updates):
            u, v = uniform_pair(streams[b])
            i0, j0 = int(u * l0), int(v * l1)
            u, v = uniform_pair(streams[b])
            sign = 1.0 if u < 0.5 else -1.0
            if fast_log(v) < -beta * _sum_of_cosines_lost(t0, t1, i0, j0, size, sign):
                n_accepted += 1
                _turn(t0, t1, i0, j0, angle, sign)
        accepted[b] = n_accepted / n_updates
    return links, streams, accepted


@kernel(parallel=True)
def wind(links: Array, i0: int, j0: int, size: int, sign: float) -> Array:
    """The links (B, 2, L0, L1) after the step of this sign (+1 or -1) at this place, untested; wrapped."""
    links = links.copy()
    for b in prange(links.shape[0]):
        _turn(links[b, 0], links[b, 1], i0, j0, _phases(size), sign)
    return links
