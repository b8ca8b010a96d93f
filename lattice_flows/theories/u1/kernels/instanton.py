"""The instanton hop of 2D U(1): add or take away one uniform unit of flux, and ask Metropolis.

The field A with A_1(i, j) = 2 pi i / V and A_0(L0 - 1, j) = -2 pi j / L1 shifts every plaquette by c = 2 pi / V modulo
2 pi, and every rectangle by 2 c. After k hops upward sum_P cos(P + k c) = C cos kc - S sin kc with C = sum cos P and
S = sum sin P, and alike for rectangles, so that a hop costs a few operations whatever the volume; the links are changed
once, at the end.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_cos, fast_log, fast_sin, wrap
from lattice_flows.kernels.random import uniform_pair
from lattice_flows.theories.u1.kernels.fields import plaquettes
from lattice_flows.theories.u1_improved.kernels.fields import column_pairs, row_pairs

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@njit(fastmath=True)
def _flux_sums(p: Array) -> tuple[float, float]:
    """sum cos P and sum sin P."""
    cosines, sines = 0.0, 0.0
    for k in range(p.size):
        cosines += fast_cos(p[k])
        sines += fast_sin(p[k])
    return cosines, sines


@njit(fastmath={"contract"})
def _add_flux(t0: Array, t1: Array, hops: int) -> None:
    """Links + hops * A, wrapped."""
    l0, l1 = t1.shape
    if hops == 0:
        return
    for i in range(l0):
        angle = TWO_PI * (i * hops) / (l0 * l1)
        for j in range(l1):
            t1[i, j] = wrap(t1[i, j] + angle)
    for j in range(l1):
        t0[l0 - 1, j] = wrap(t0[l0 - 1, j] - TWO_PI * (j * hops) / l1)


@njit
def _pair_sums(p: Array, l1: int) -> tuple[float, float]:
    """sum cos R and sum sin R over the rectangles of both orientations."""
    pairs = np.empty_like(p)
    row_pairs(p, l1, pairs)
    cosines, sines = _flux_sums(pairs)
    column_pairs(p, l1, pairs)
    more_cosines, more_sines = _flux_sums(pairs)
    return cosines + more_cosines, sines + more_sines


@njit(fastmath={"contract"})
def _rise(coupling: float, sums: tuple[float, float], start: float, step: float) -> float:
    """coupling sum_P [ cos(P + start) - cos(P + start + step) ]."""
    cosines, sines = sums
    middle = start + 0.5 * step
    return 2.0 * coupling * fast_sin(0.5 * step) * (cosines * fast_sin(middle) + sines * fast_cos(middle))


@njit
def _hops(
    couplings: tuple[float, ...],
    sums: tuple[tuple[float, float], ...],
    v: int,
    stream: NDArray[np.uint64],
    n: int,
) -> tuple[int, int]:
    """The net number of hops upward after n proposals, and how many were accepted.

    couplings and sums are those of the plaquettes and, where there are more, of loops around two of them, and so on.
    """
    step = TWO_PI / v
    net, n_accepted = 0, 0
    for _ in range(n):
        u, w = uniform_pair(stream)
        sign = 1 if u < 0.5 else -1
        rise = 0.0
        for k in range(len(couplings)):
            area = k + 1.0
            rise += _rise(couplings[k], sums[k], area * net * step, area * sign * step)
        if fast_log(w) < -rise:
            net = (net + sign) % v  # V hops are a gauge transformation
            n_accepted += 1
    return net, n_accepted


@kernel(parallel=True)
def instanton(
    links: Array, streams: Streams, plain: float, rectangle: float, n_updates: int
) -> tuple[Array, Streams, Array]:
    """n_updates hops by +A or -A, equally likely, each with a Metropolis test.

    S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R), see `u1_improved.kernels.fields`; the Wilson action has
    rectangle = 0. Returns the new links (wrapped), the advanced streams and the accepted fraction (B,). The charge need
    not change by exactly one. The arguments are not changed.
    """
    n, _, l0, l1 = links.shape
    links, streams, accepted = links.copy(), streams.copy(), np.zeros(n)
    for b in prange(n):
        p = np.empty(l0 * l1)
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
        sums = (_flux_sums(p), _pair_sums(p, l1) if rectangle != 0.0 else (0.0, 0.0))
        net, n_accepted = _hops((plain, rectangle), sums, p.size, streams[b], n_updates)
        _add_flux(links[b, 0], links[b, 1], net)
        accepted[b] = n_accepted / n_updates
    return links, streams, accepted
