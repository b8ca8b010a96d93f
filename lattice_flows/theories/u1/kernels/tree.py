"""The plaquette fluxes of a tree of regions, each split by a rational-quadratic spline: forward, inverse, gradients.

A tree over V plaquettes has V - 1 nodes, parents before children. Row i of `nodes` holds the node's table and its two
halves: the number of a node, or -1 - k for plaquette k. A region with flux s (an angle) has the latent `share` and
gives its halves the fluxes s/2 + u' and s/2 - u', where u' is a monotone function of u = wrap(share - s/2), with
parameters that depend on |s|. `tables` (n_tables, n_knots, 3, n_bins + 1) holds the ends of the bins in u and in u'
and the slopes du'/du there, at equally spaced |s| from 0 to pi, between which they are interpolated linearly. An odd
table is a map of |u| on [0, pi]; any other one is a map of sign(s) u on [-pi, pi].

Gradients are sums over the batch, taken in a fixed number of parts: the bits do not depend on the number of threads.
"""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import PI, TWO_PI, fast_log, wrap

Array = NDArray[np.float64]
Nodes = NDArray[np.int32]

_PARTS = 16

_Place = tuple[float, int, float]
_Bin = tuple[float, float, float, float, float, float]


@njit(forceinline=True, error_model="numpy")
def _place(s: float, u: float, odd: bool, n_knots: int) -> _Place:
    """The sign, the row of the table below |s|, the fraction of the way to the next one."""
    sign = 1.0
    if (odd and u < 0.0) or (not odd and s < 0.0):
        sign = -1.0
    position = abs(s) * ((n_knots - 1) / PI)
    row = int(position) if position < n_knots - 2 else n_knots - 2  # also where it is not a number
    return sign, row, position - row


@njit(forceinline=True, fastmath={"contract"})
def _log(x: float) -> float:
    """log x, not a number where x is no positive number: fast_log would give one."""
    return fast_log(x) if 0.0 < x < np.inf else np.nan


@njit(forceinline=True)
def _poison(x: Array) -> float:
    """0, or not a number where any of x is not finite: an angle that is wrapped no longer shows it."""
    total = 0.0
    for k in range(x.size):
        total += 0.0 * x[k]
    return total


@njit(forceinline=True)
def _between(table: Array, row: int, r: float, which: int, k: int) -> float:
    low = table[row, which, k]
    return low + r * (table[row + 1, which, k] - low)


@njit(forceinline=True, fastmath={"contract"})
def _find(table: Array, row: int, r: float, which: int, x: float) -> int:
    """The bin that holds x, counted by its ends in u (which = 0) or u' (which = 1): no branch to mispredict."""
    low, high = table[row, which], table[row + 1, which]
    count = 0
    for k in range(1, low.size - 1):
        count += 1 if x >= low[k] + r * (high[k] - low[k]) else 0
    return count


@njit(forceinline=True)
def _bin(table: Array, row: int, r: float, k: int) -> _Bin:
    """x0, x1, y0, y1, d0, d1 of bin k."""
    return (
        _between(table, row, r, 0, k),
        _between(table, row, r, 0, k + 1),
        _between(table, row, r, 1, k),
        _between(table, row, r, 1, k + 1),
        _between(table, row, r, 2, k),
        _between(table, row, r, 2, k + 1),
    )


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def _image(x: float, b: _Bin) -> tuple[float, float]:
    """y and dy/dx, arXiv:1906.04032 eqs. (4) and (5)."""
    x0, x1, y0, y1, d0, d1 = b
    h = y1 - y0
    s = h / (x1 - x0)
    xi = (x - x0) / (x1 - x0)
    m = xi * (1.0 - xi)
    inverse = 1.0 / (s + (d0 + d1 - 2.0 * s) * m)
    y = y0 + h * (s * xi * xi + d0 * m) * inverse
    slope = s * s * (d1 * xi * xi + 2.0 * s * m + d0 * (1.0 - xi) * (1.0 - xi)) * inverse * inverse
    return y, slope


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def _preimage(y: float, b: _Bin) -> float:
    """x of y, eqs. (6) to (8)."""
    x0, x1, y0, y1, d0, d1 = b
    h = y1 - y0
    s = h / (x1 - x0)
    eta = (y - y0) / h
    curvature = eta * (d0 + d1 - 2.0 * s)
    p, q, c = s - d0 + curvature, d0 - curvature, -s * eta
    xi = -2.0 * c / (q + np.sqrt(max(q * q - 4.0 * p * c, 0.0)))
    return x0 + min(max(xi, 0.0), 1.0) * (x1 - x0)


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def _log_slope_derivative(x: float, b: _Bin) -> float:
    """d log(dy/dx) / dx."""
    x0, x1, y0, y1, d0, d1 = b
    s = (y1 - y0) / (x1 - x0)
    xi = (x - x0) / (x1 - x0)
    m, dm = xi * (1.0 - xi), 1.0 - 2.0 * xi
    numerator = d1 * xi * xi + 2.0 * s * m + d0 * (1.0 - xi) * (1.0 - xi)
    denominator = s + (d0 + d1 - 2.0 * s) * m
    d_numerator = 2.0 * (d1 * xi - d0 * (1.0 - xi) + s * dm)
    return (d_numerator / numerator - 2.0 * (d0 + d1 - 2.0 * s) * dm / denominator) / (x1 - x0)


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def _pull(x: float, b: _Bin, g_y: float, g_log: float) -> _Bin:
    """The gradient of g_y y + g_log log(dy/dx) with respect to x0, x1, y0, y1, d0, d1, at fixed x."""
    x0, x1, y0, y1, d0, d1 = b
    w, h = x1 - x0, y1 - y0
    s = h / w
    xi = (x - x0) / w
    m, rest = xi * (1.0 - xi), 1.0 - xi
    inverse = 1.0 / (s + (d0 + d1 - 2.0 * s) * m)
    top = s * xi * xi + d0 * m
    g_top = g_y * h * inverse
    g_numerator = g_log / (d1 * xi * xi + 2.0 * s * m + d0 * rest * rest)
    g_denominator = -(g_top * top + 2.0 * g_log) * inverse
    g_m = 2.0 * s * g_numerator + d0 * g_top + (d0 + d1 - 2.0 * s) * g_denominator
    g_s = 2.0 * g_log / s + 2.0 * m * g_numerator + xi * xi * g_top + (1.0 - 2.0 * m) * g_denominator
    g_d0 = rest * rest * g_numerator + m * (g_top + g_denominator)
    g_d1 = xi * xi * g_numerator + m * g_denominator
    g_xi = 2.0 * (d1 * xi - d0 * rest) * g_numerator + 2.0 * s * xi * g_top + (1.0 - 2.0 * xi) * g_m
    g_h = g_y * top * inverse + g_s / w
    g_w = -(g_s * s + g_xi * xi) / w
    return -g_xi / w - g_w, g_w, g_y - g_h, g_h, g_d0, g_d1


@njit(forceinline=True)
def _spread(table: Array, g_table: Array, row: int, r: float, k: int, g: _Bin, wanted: bool) -> float:
    """Add the gradient of a bin's numbers to the table's; returns that with respect to r."""
    g_x0, g_x1, g_y0, g_y1, g_d0, g_d1 = g
    g_r = g_x0 * (table[row + 1, 0, k] - table[row, 0, k])
    g_r += g_x1 * (table[row + 1, 0, k + 1] - table[row, 0, k + 1])
    g_r += g_y0 * (table[row + 1, 1, k] - table[row, 1, k])
    g_r += g_y1 * (table[row + 1, 1, k + 1] - table[row, 1, k + 1])
    g_r += g_d0 * (table[row + 1, 2, k] - table[row, 2, k])
    g_r += g_d1 * (table[row + 1, 2, k + 1] - table[row, 2, k + 1])
    if wanted:
        for side in range(2):
            weight = r if side == 1 else 1.0 - r
            g_table[row + side, 0, k] += weight * g_x0
            g_table[row + side, 0, k + 1] += weight * g_x1
            g_table[row + side, 1, k] += weight * g_y0
            g_table[row + side, 1, k + 1] += weight * g_y1
            g_table[row + side, 2, k] += weight * g_d0
            g_table[row + side, 2, k + 1] += weight * g_d1
    return g_r


@njit(forceinline=True)
def turn(x: float) -> float:
    """The angle in [-pi, pi] of |x| <= 3 pi."""
    if x >= PI:
        return x - TWO_PI
    if x < -PI:
        return x + TWO_PI
    return x


@njit(forceinline=True, error_model="numpy")
def split_image(s: float, u: float, table: Array, odd: bool) -> tuple[float, float]:
    """u' and du'/du in a region with flux s, by its split's splines."""
    sign, row, r = _place(s, u, odd, table.shape[0])
    x = sign * u
    y, slope = _image(x, _bin(table, row, r, _find(table, row, r, 0, x)))
    return sign * y, slope


@njit(forceinline=True, error_model="numpy")
def split_preimage(s: float, image: float, table: Array, odd: bool) -> tuple[float, float]:
    """u of u' and du'/du there, the inverse of split_image."""
    sign, row, r = _place(s, image, odd, table.shape[0])
    y = sign * image
    numbers = _bin(table, row, r, _find(table, row, r, 1, y))
    x = _preimage(y, numbers)
    return sign * x, _image(x, numbers)[1]


@kernel(parallel=True, error_model="numpy")
def forward(shares: Array, tables: Array, odd: NDArray[np.bool_], nodes: Nodes) -> tuple[Array, Array, Array]:
    """Plaquettes (B, V) of latent shares (B, V - 1); the nodes' log du'/du, whose sum is log_det, and their fluxes."""
    n, n_nodes = shares.shape
    plaquettes, log_slopes, fluxes = np.empty((n, n_nodes + 1)), np.empty(shares.shape), np.empty(shares.shape)
    for b in prange(n):
        flux, p = fluxes[b], plaquettes[b]
        flux[0] = 0.0
        for i in range(n_nodes):
            s, which = flux[i], nodes[i, 0]
            image, slope = split_image(s, wrap(shares[b, i] - 0.5 * s), tables[which], odd[which])
            log_slopes[b, i] = slope
            for side in range(1, 3):
                child = nodes[i, side]
                half = turn(0.5 * s + (image if side == 1 else -image))
                if child >= 0:
                    flux[child] = half
                else:
                    p[-1 - child] = half
        for i in range(n_nodes):
            log_slopes[b, i] = _log(log_slopes[b, i])
        log_slopes[b, 0] += _poison(shares[b])
    return plaquettes, log_slopes, fluxes


@kernel(parallel=True, error_model="numpy")
def forward_gradient(
    shares: Array,
    fluxes: Array,
    tables: Array,
    odd: NDArray[np.bool_],
    nodes: Nodes,
    g_plaquettes: Array,
    g_log_det: Array,
    tables_wanted: bool,
) -> tuple[Array, Array]:
    """The gradients with respect to the shares (B, V - 1) and the tables (zero unless wanted), leaves to root."""
    n, n_nodes = shares.shape
    n_knots = tables.shape[1]
    g_shares, g_tables = np.empty_like(shares), _parts(tables, tables_wanted)
    for part in prange(_PARTS):
        g_flux = np.empty(n_nodes)
        for b in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            for i in range(n_nodes - 1, -1, -1):
                s, which = fluxes[b, i], nodes[i, 0]
                first, second = nodes[i, 1], nodes[i, 2]
                g_first = g_flux[first] if first >= 0 else g_plaquettes[b, -1 - first]
                g_second = g_flux[second] if second >= 0 else g_plaquettes[b, -1 - second]
                u = wrap(shares[b, i] - 0.5 * s)
                sign, row, r = _place(s, u, odd[which], n_knots)
                table, x = tables[which], sign * u
                k = _find(table, row, r, 0, x)
                numbers = _bin(table, row, r, k)
                g_y, g_log = sign * (g_first - g_second), g_log_det[b]
                g = _pull(x, numbers, g_y, g_log)
                g_r = _spread(table, g_tables[part, which], row, r, k, g, tables_wanted)
                g_u = sign * (g_y * _image(x, numbers)[1] + g_log * _log_slope_derivative(x, numbers))
                g_shares[b, i] = g_u
                g_size = g_r * ((n_knots - 1) / PI)
                g_flux[i] = 0.5 * (g_first + g_second - g_u) + (-g_size if s < 0.0 else g_size)
    return g_shares, g_tables


@kernel(parallel=True, error_model="numpy")
def inverse(plaquettes: Array, tables: Array, odd: NDArray[np.bool_], nodes: Nodes) -> tuple[Array, Array, Array]:
    """Latent shares (B, V - 1) and log_det (B,) of plaquettes (B, V) that sum to zero; and the nodes' fluxes."""
    n, n_nodes = plaquettes.shape[0], nodes.shape[0]
    shares, log_det, fluxes = np.empty((n, n_nodes)), np.empty(n), np.empty((n, n_nodes))
    for b in prange(n):
        flux, p = fluxes[b], plaquettes[b]
        total, product = _poison(p), 1.0
        for i in range(n_nodes - 1, -1, -1):
            first, second = nodes[i, 1], nodes[i, 2]
            one = flux[first] if first >= 0 else p[-1 - first]
            other = flux[second] if second >= 0 else p[-1 - second]
            s = wrap(one + other) if i > 0 else 0.0
            flux[i] = s
            which = nodes[i, 0]
            u, slope = split_preimage(s, wrap(one - 0.5 * s), tables[which], odd[which])
            product *= slope
            if not 1e-100 < product < 1e100:
                total -= _log(product)
                product = 1.0
            shares[b, i] = turn(u + 0.5 * s)
        log_det[b] = total - _log(product)
    return shares, log_det, fluxes


@kernel(parallel=True, error_model="numpy")
def inverse_gradient(
    shares: Array,
    fluxes: Array,
    tables: Array,
    odd: NDArray[np.bool_],
    nodes: Nodes,
    g_shares: Array,
    g_log_det: Array,
    tables_wanted: bool,
) -> tuple[Array, Array]:
    """The gradients of `inverse` with respect to the plaquettes (B, V) and the tables, root to leaves."""
    n, n_nodes = shares.shape
    n_knots = tables.shape[1]
    g_plaquettes, g_tables = np.empty((n, n_nodes + 1)), _parts(tables, tables_wanted)
    for part in prange(_PARTS):
        g_region = np.empty(n_nodes)
        for b in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            g_region[0] = 0.0
            for i in range(n_nodes):
                s, which = fluxes[b, i], nodes[i, 0]
                u = wrap(shares[b, i] - 0.5 * s)
                sign, row, r = _place(s, u, odd[which], n_knots)
                table, x = tables[which], sign * u
                k = _find(table, row, r, 0, x)
                numbers = _bin(table, row, r, k)
                g_log = -g_log_det[b]  # of log(du'/du)
                g_x = sign * g_shares[b, i] + g_log * _log_slope_derivative(x, numbers)
                g_y = g_x / _image(x, numbers)[1]
                # At fixed y the root x moves by -dy/slope when the table changes.
                g = _pull(x, numbers, -g_y, g_log)
                g_r = _spread(table, g_tables[part, which], row, r, k, g, tables_wanted)
                g_size = g_r * ((n_knots - 1) / PI)
                g_image = sign * g_y
                g_s = g_region[i] + 0.5 * (g_shares[b, i] - g_image) + (-g_size if s < 0.0 else g_size)
                if i == 0:
                    g_s = 0.0  # the torus has no flux
                for side in range(1, 3):
                    child = nodes[i, side]
                    g_half = g_s + g_image if side == 1 else g_s
                    if child >= 0:
                        g_region[child] = g_half
                    else:
                        g_plaquettes[b, -1 - child] = g_half
    return g_plaquettes, g_tables


@kernel(parallel=True, error_model="numpy")
def density_gradient(
    shares: Array, fluxes: Array, tables: Array, odd: NDArray[np.bool_], nodes: Nodes, weights: Array
) -> Array:
    """The gradient of sum weights log q(u'|s) with respect to the tables at fixed u' and s; weights (B, V - 1)."""
    n, n_nodes = shares.shape
    n_knots = tables.shape[1]
    g_tables = _parts(tables, True)
    for part in prange(_PARTS):
        for b in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            for i in range(n_nodes):
                s, which, weight = fluxes[b, i], nodes[i, 0], weights[b, i]
                u = wrap(shares[b, i] - 0.5 * s)
                sign, row, r = _place(s, u, odd[which], n_knots)
                table, x = tables[which], sign * u
                k = _find(table, row, r, 0, x)
                numbers = _bin(table, row, r, k)
                g = _pull(x, numbers, weight * _log_slope_derivative(x, numbers) / _image(x, numbers)[1], -weight)
                _spread(table, g_tables[part, which], row, r, k, g, True)
    return g_tables


@njit
def _parts(tables: Array, wanted: bool) -> Any:
    n_tables, n_knots, three, n_ends = tables.shape
    return np.zeros((_PARTS, n_tables, n_knots, three, n_ends) if wanted else (_PARTS, n_tables, 0, three, n_ends))
