"""Lattice phi^4 fields (N, *lattice_shape) in any dimension: neighbours and measurements, parallel over N.

    S = sum_x [ -2 hop phi(x) sum_mu phi(x+mu) + quad phi(x)^2 + quart phi(x)^4 ]

The inner functions take one configuration as a flat array and the lattice shape as an int64 array, so that one
compiled function serves all dimensions. Along an axis of extent L with `stride` sites between neighbours the field is
blocks of L * stride sites, in which neighbours are slices shifted by the stride: long loops that vectorise.
Extents are 2 or more; for L = 2 the neighbours at +mu and -mu are one site, counted twice.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI

Array = NDArray[np.float64]
Shape = NDArray[np.int64]


def flat(phi: Array) -> tuple[Array, Shape]:
    """The field as (N, V) and the lattice shape as an array.

    Raises ValueError for an extent below 2.
    """
    shape = phi.shape[1:]
    if not shape or min(shape) < 2:
        raise ValueError(f"a phi^4 lattice has extents of 2 or more, got {shape}")
    return np.ascontiguousarray(phi).reshape(len(phi), math.prod(shape)), np.array(shape, dtype=np.int64)


@njit(fastmath={"contract"})
def _add_pair(up: Array, down: Array, out: Array) -> None:
    for k in range(out.size):
        out[k] += up[k] + down[k]


@njit(fastmath={"contract"})
def _neighbours_along_last(x: Array, extent: int, out: Array) -> None:
    v = x.size
    for k in range(1, v - 1):
        out[k] = x[k + 1] + x[k - 1]
    for start in range(0, v, extent):
        end = start + extent - 1
        out[start] = x[start + 1] + x[end]
        out[end] = x[start] + x[end - 1]


@njit(fastmath={"contract"})
def neighbours(x: Array, shape: Shape, out: Array) -> None:
    """out(x) = sum_mu [ phi(x+mu) + phi(x-mu) ], flat arrays of V sites."""
    _neighbours_along_last(x, shape[-1], out)
    s = shape[-1]  # the stride
    for mu in range(shape.size - 2, -1, -1):
        block = s * shape[mu]
        for a in range(0, x.size, block):
            b = a + block
            _add_pair(x[a + 2 * s : b], x[a : b - 2 * s], out[a + s : b - s])
            _add_pair(x[a + s : a + 2 * s], x[b - s : b], out[a : a + s])
            _add_pair(x[a : a + s], x[b - 2 * s : b - s], out[b - s : b])
        s = block


@njit(fastmath={"contract", "reassoc", "nsz"})
def action_of_neighbours(x: Array, near: Array, hop: float, quad: float, quart: float) -> float:
    """S, with `near` the sums over neighbours: they count each link from both ends."""
    total = 0.0
    for k in range(x.size):
        total += x[k] * (x[k] * (quad + quart * x[k] * x[k]) - hop * near[k])
    return total


@kernel(fastmath={"contract", "reassoc", "nsz"}, parallel=True)
def _mean(x: Array) -> Array:
    n, v = x.shape
    out = np.empty(n)
    for b in prange(n):
        total = 0.0
        for k in range(v):
            total += x[b, k]
        out[b] = total / v
    return out


@kernel(parallel=True)
def _link_energy(x: Array, shape: Shape) -> Array:
    n, v = x.shape
    out = np.empty(n)
    for b in prange(n):
        near = np.empty(v)
        neighbours(x[b], shape, near)
        out[b] = -action_of_neighbours(x[b], near, 1.0, 0.0, 0.0) / (2 * shape.size * v)
    return out


@njit(fastmath={"contract", "reassoc", "nsz"})
def _add_slices(x: Array, stride: int, out: Array) -> None:
    """out[t] += the sum over the slice t along the axis of this stride and of extent out.size."""
    extent = out.size
    for a in range(0, x.size, extent * stride):
        if stride == 1:
            for t in range(extent):
                out[t] += x[a + t]
        else:
            for t in range(extent):
                total = 0.0
                for k in range(a + t * stride, a + (t + 1) * stride):
                    total += x[k]
                out[t] += total


@kernel(parallel=True)
def _time_slice_correlator(x: Array, shape: Shape, distance: int) -> Array:
    n, v = x.shape
    extent = shape[0]
    out = np.empty(n)
    for b in prange(n):
        slices = np.zeros(extent)
        _add_slices(x[b], v // extent, slices)
        total = 0.0
        for t in range(extent):
            total += slices[t] * slices[(t + distance) % extent]
        out[b] = total / v
    return out


@kernel(parallel=True)
def _lowest_mode_squared(x: Array, shape: Shape) -> Array:
    n, v = x.shape
    out = np.zeros(n)
    for b in prange(n):
        stride = v
        for mu in range(shape.size):
            extent = shape[mu]
            stride //= extent
            slices = np.zeros(extent)
            _add_slices(x[b], stride, slices)
            real, imaginary = 0.0, 0.0
            for t in range(extent):
                angle = TWO_PI * t / extent
                real += slices[t] * np.cos(angle)
                imaginary += slices[t] * np.sin(angle)
            out[b] += (real * real + imaginary * imaginary) / (v * shape.size)
    return out


def magnetisation(phi: Array) -> Array:
    """The mean of phi over the sites of each configuration, (N,)."""
    return _mean(flat(phi)[0])


def link_energy(phi: Array) -> Array:
    """The mean of phi(x) phi(x+mu) over sites and directions, (N,): the "Ising energy density" of arXiv:1904.12072."""
    return _link_energy(*flat(phi))


def time_slice_correlator(phi: Array, distance: int) -> Array:
    """The zero-momentum two-point function along axis 0 at this distance, (N,).

    C(t) = mean over x0 of V_s M(x0) M(x0 + t), with M(x0) the mean of phi over the slice x0 and V_s its number of
    sites; its expectation value is sum_x <phi(0, 0) phi(t, x)>.
    """
    return _time_slice_correlator(*flat(phi), distance)


def lowest_mode_squared(phi: Array) -> Array:
    """|sum_x phi(x) exp(2 pi i x_mu / L_mu)|^2 / V, averaged over the axes mu, (N,)."""
    return _lowest_mode_squared(*flat(phi))
