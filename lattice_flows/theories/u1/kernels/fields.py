"""2D U(1) link fields: plaquettes, charge and loops of a batch (N, 2, L0, L1), parallel over N.

The inner functions take one configuration as two flat arrays, the links along axis 0 and 1. They run over all sites
as if n + 1 were always n's neighbour along axis 1, and then mend the ends of the rows: long loops vectorise, short
rows with a modulo do not.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_cos, fast_sin, wrap

Array = NDArray[np.float64]


@njit(fastmath={"contract"})
def plaquettes(t0: Array, t1: Array, l1: int, out: Array) -> None:
    """P(n) = theta_0(n) + theta_1(n+0) - theta_0(n+1) - theta_1(n), flat arrays of V = L0 * l1 sites."""
    v = t0.size
    for k in range(v - l1):
        out[k] = t0[k] + t1[k + l1] - t0[k + 1] - t1[k]
    for k in range(l1 - 1):
        last = v - l1 + k
        out[last] = t0[last] + t1[k] - t0[last + 1] - t1[last]
    for end in range(l1 - 1, v, l1):
        above = end + l1 if end + l1 < v else l1 - 1
        out[end] = t0[end] + t1[above] - t0[end + 1 - l1] - t1[end]


@njit(fastmath=True)
def action_of_plaquettes(p: Array, beta: float) -> float:
    """beta sum (1 - cos P), as 2 sin^2(P/2) to keep the digits of small P."""
    total = 0.0
    for k in range(p.size):
        half = fast_sin(0.5 * p[k])
        total += half * half
    return 2.0 * beta * total


@njit(fastmath={"contract"})
def to_scaled_sines(p: Array, scale: float) -> None:
    """P -> scale * sin P, in place: a second array that may be the same one would cost the vector loop."""
    for k in range(p.size):
        p[k] = scale * fast_sin(p[k])


@njit(fastmath={"contract"})
def add_force(s: Array, l1: int, p0: Array, p1: Array) -> None:
    """Add the force of s = beta sin P: p0(n) -= s(n) - s(n-1), p1(n) += s(n) - s(n-0)."""
    v = s.size
    for k in range(1, v):
        p0[k] -= s[k] - s[k - 1]
    for start in range(l1, v, l1):
        p0[start] += s[start + l1 - 1] - s[start - 1]
    p0[0] -= s[0] - s[l1 - 1]
    for k in range(l1):
        p1[k] += s[k] - s[v - l1 + k]
    for k in range(l1, v):
        p1[k] += s[k] - s[k - l1]


@kernel(fastmath=True, parallel=True)
def mean_plaquette(links: Array) -> Array:
    """The mean of cos P over the sites of each configuration, (N,)."""
    n, _, l0, l1 = links.shape
    out = np.empty(n)
    for b in prange(n):
        p = np.empty(l0 * l1)
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
        out[b] = 1.0 - action_of_plaquettes(p, 1.0) / p.size
    return out


@kernel(fastmath={"contract", "reassoc"}, parallel=True)
def topological_charge(links: Array) -> Array:
    """Q = (1/2pi) sum_P wrap(P) of each configuration, (N,)."""
    n, _, l0, l1 = links.shape
    out = np.empty(n)
    for b in prange(n):
        p = np.empty(l0 * l1)
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
        total = 0.0
        for k in range(p.size):
            total += wrap(p[k])
        out[b] = total / TWO_PI
    return out


@njit(fastmath={"contract"})
def _windows(sums: Array, width: int, out: Array) -> None:
    """out(i, j) = the sum of `width` entries of row i from column j on, periodic."""
    l0, l1 = sums.shape
    for i in range(l0):
        total = 0.0
        for k in range(width):
            total += sums[i, k % l1]
        for j in range(l1):
            out[i, j] = total
            total += sums[i, (j + width) % l1] - sums[i, j]


@njit(fastmath={"contract"})
def _stacks(p: Array, height: int, out: Array) -> None:
    """out(i, j) = the sum of `height` entries of column j from row i on, periodic."""
    l0, l1 = p.shape
    for i in range(l0):
        for j in range(l1):
            out[i, j] = p[i, j]
        for k in range(1, height):
            row = (i + k) % l0
            for j in range(l1):
                out[i, j] += p[row, j]


@kernel(fastmath={"contract", "reassoc"}, parallel=True)
def mean_wilson_loop(links: Array, r: int, t: int) -> Array:
    """The mean over sites of cos of the r x t loop, r links along axis 0 and t along axis 1, (N,).

    The loop's angle is the sum of the plaquettes inside (Stokes), so that loops wound around the torus are right too.
    """
    n, _, l0, l1 = links.shape
    out = np.empty(n)
    for b in prange(n):
        p, stacked, loops = np.empty((l0, l1)), np.empty((l0, l1)), np.empty((l0, l1))
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p.reshape(-1))
        _stacks(p, r, stacked)
        _windows(stacked, t, loops)
        flat = loops.reshape(-1)
        total = 0.0
        for k in range(flat.size):
            total += fast_cos(flat[k])
        out[b] = total / flat.size
    return out


@kernel(fastmath={"contract", "reassoc"}, parallel=True)
def mean_polyakov_correlator(links: Array, mu: int, distance: int) -> Array:
    """The mean over positions of cos(P_mu(x) - P_mu(x + distance)) of the Polyakov loops along axis mu, (N,)."""
    n = links.shape[0]
    out = np.empty(n)
    for b in prange(n):
        lines = links[b, 0].sum(axis=0) if mu == 0 else links[b, 1].sum(axis=1)
        total = 0.0
        for x in range(lines.size):
            total += fast_cos(lines[x] - lines[(x + distance) % lines.size])
        out[b] = total / lines.size
    return out
