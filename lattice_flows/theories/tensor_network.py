"""Partition functions of nearest-neighbour models on a 2D torus, by coarse-graining a network of tensors.

Z = int prod_x w(x) prod_<xy> W(x, y) of one variable on each site. The variable is summed over nodes, W is brought to
its diagonal form, and Z becomes a network: a tensor T[left, right, up, down] on every site, a sum over eigenfunctions
of W on every bond. Pairs of tensors are joined along the axes in turn, and the double bonds between them truncated to
chi values (HOTRG, Xie et al., arXiv:1201.1144). The truncation is the best one for a bond between two equal blocks: of
the product of what is left and right of it, the largest singular values are kept (the projectors of Iino, Morita and
Kawashima, arXiv:1905.02351), not of one side alone.

The sides need not be powers of two: a prime factor p is the p-th power of a tensor along an axis, built by squaring,
the largest factor last, when blocks are large and as high as wide: long and flat ones take more of a bond. The last two
rows of blocks are closed up without a truncation, and so are the columns: the trace of a power of a matrix.
Memory is of the order of 10 chi^5 numbers, time of chi^7.

Derivatives are those of log Z by differences: the truncation moves log Z smoothly. Derivatives of the tensors with
projectors held fixed were a hundred times less exact.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-15  # of the largest eigenvalue
_CANDIDATES = 6  # times the bond dimension: so many directions of a double bond are looked at


class Neighbours(NamedTuple):
    """A model with one variable on each site, on nodes: the logarithms of its weights.

    Node i and node n - 1 - i are mirror images, which neither weight tells apart.
    """

    log_site: Array
    """log w with the weights of the quadrature, (n,)"""
    log_bond: Array
    """log W, symmetric, (n, n), the same along both axes"""


class Bonds(NamedTuple):
    """The eigenfunctions of a bond, W(x, y) [w(x) w(y)]^(1/4) = exp(2 log_scale) sum_a signs[a] f_a(x) f_a(y).

    f_a is real where it is even under the reflection, and i times real where it is odd. So all tensors are real.
    """

    functions: NDArray[np.complex128]
    """f, (n, k)"""
    signs: Array
    """(k,)"""
    log_scale: float
    """Half of the logarithm of a factor taken out of each bond: that of a site is four times it."""


class Contraction(NamedTuple):
    """log |Z| and the sign of Z."""

    log_z: float
    sign: float


class _Block(NamedTuple):
    """exp(log_scale) times T[left, right, up, down] of some sites."""

    tensor: Array
    log_scale: float


def bonds(model: Neighbours, most: int) -> Bonds:
    """The eigenfunctions of the bond with the largest eigenvalues, `most` of them or as many as there are."""
    quarter = 0.25 * model.log_site
    log_weight = quarter[:, None] + model.log_bond + quarter
    top = float(log_weight.max())
    weight = np.exp(log_weight - top)
    values, vectors, odd = _mirrored_eigenvectors(weight)
    order = np.argsort(-np.abs(values), kind="stable")[:most]
    kept = order[np.abs(values[order]) > _ROUNDING * np.abs(values[order[0]])]
    g, v, phases = np.abs(values[kept]), vectors[:, kept], np.where(odd[kept], 1j, 1.0)
    signs = np.sign(values[kept]) * np.where(odd[kept], -1.0, 1.0)
    return Bonds(v * np.sqrt(g) * phases, signs, 0.5 * top)


def _mirrored_eigenvectors(weight: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Eigenvalues, eigenvectors (n, n), and which are odd, of a matrix that commutes with the reversal of the nodes."""
    n = len(weight)
    half = n // 2
    rows = np.arange(half)
    even, odd = np.zeros((n, n - half)), np.zeros((n, half))
    even[rows, rows] = even[n - 1 - rows, rows] = odd[n - 1 - rows, rows] = np.sqrt(0.5)
    odd[rows, rows] = -np.sqrt(0.5)
    if n % 2:
        even[half, half] = 1.0
    of_even, of_odd = np.linalg.eigh(even.T @ weight @ even), np.linalg.eigh(odd.T @ weight @ odd)
    vectors = np.concatenate([even @ of_even[1], odd @ of_odd[1]], axis=1)
    return np.concatenate([of_even[0], of_odd[0]]), vectors, np.arange(n) >= n - half


def contract(on: Bonds, shape: tuple[int, int], most: int, insertion: NDArray[np.complex128]) -> Contraction:
    """Z with the factor insertion(x) on every site of a torus of this shape, the sides 2 or more.

    most: the largest bond dimension; insertion: (n,), its mirror image is its complex conjugate.
    """
    rows, columns = sorted(shape)  # both axes have the same bonds
    block = _Block(_site_tensor(on, insertion), 4.0 * on.log_scale)
    row_factors, column_factors = _prime_factors(rows), _prime_factors(columns)
    for k, factor in enumerate(row_factors[:-1]):
        block = _power(block, factor, most)
        if k < len(column_factors) - 1:
            block = _turned(_power(_turned(block), column_factors[k], most))
            columns //= column_factors[k]
    last = row_factors[-1]
    return _closed(_power(block, last - last // 2, most), _power(block, last // 2, most), columns)


def _site_tensor(on: Bonds, insertion: NDArray[np.complex128]) -> Array:
    """T of one site, (k, k, k, k). The sign of a bond stands at its left or upper end."""
    n, k = on.functions.shape
    pairs = np.einsum("na,nb->nab", on.functions, on.functions).reshape(n, k * k)
    bare = np.real(pairs.T @ (insertion[:, None] * pairs)).reshape(k, k, k, k)
    return bare * on.signs[:, None, None, None] * on.signs[:, None]


def _prime_factors(number: int) -> list[int]:
    """The smallest first."""
    found, factor = [], 2
    while number > 1:
        if factor * factor > number:
            factor = number
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return found


def _turned(block: _Block) -> _Block:
    """The axes exchanged."""
    return _Block(block.tensor.transpose(2, 3, 0, 1), block.log_scale)


def _power(block: _Block, n: int, most: int) -> _Block:
    """n blocks on top of one another."""
    found = None
    while True:
        if n % 2:
            found = block if found is None else _joined(found, block, most)
        n //= 2
        if not n:
            assert found is not None
            return found
        block = _joined(block, block, most)


def _joined(upper: _Block, lower: _Block, most: int) -> _Block:
    """Two blocks on top of one another, with their double bonds to the left and right truncated."""
    a, b = upper.tensor, lower.tensor
    right, left = _projectors(_root(_gram(a, b, 1), most), _root(_gram(a, b, 0), most), most)
    half = np.tensordot(left.reshape(a.shape[0], b.shape[0], -1), a, ((0,), (0,)))  # (l_b, x, r_a, u, d_a)
    whole = np.tensordot(half, b, ((0, 4), (0, 2)))  # (x, r_a, u, r_b, d)
    found = np.tensordot(whole, right.reshape(a.shape[1], b.shape[1], -1), ((1, 3), (0, 1)))  # (x, u, d, y)
    scale = float(np.abs(found).max())
    return _Block(found.transpose(0, 3, 1, 2) / scale, upper.log_scale + lower.log_scale + math.log(scale))


def _gram(a: Array, b: Array, side: int) -> Array:
    """M M^T of what two blocks are as a matrix from the double bond at their left (0) or right (1) to all others."""
    across = 1 - side
    of_a = np.tensordot(a, a, ((across, 2), (across, 2)))  # (s, d, s', d')
    of_b = np.tensordot(b, b, ((across, 3), (across, 3)))  # (s, u, s', u')
    both = np.tensordot(of_a, of_b, ((1, 3), (1, 3)))  # (s_a, s_a', s_b, s_b')
    n = a.shape[side] * b.shape[side]
    return both.transpose(0, 2, 1, 3).reshape(n, n)


def _root(gram: Array, most: int) -> Array:
    """X with gram = X X^T, up to directions without weight."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[-_CANDIDATES * most :], vectors[:, -_CANDIDATES * most :]
    kept = values > _ROUNDING * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _projectors(right: Array, left: Array, most: int) -> tuple[Array, Array]:
    """P_right and P_left, (n, k): with P_right P_left^T put on a double bond, its k largest singular values remain.

    right and left are the roots of the blocks to the left of the bond, seen from their right ends, and to the right.
    """
    u, s, vt = np.linalg.svd(right.T @ left, full_matrices=False)
    k = min(most, int((s > _ROUNDING * s[0]).sum()))
    return left @ vt[:k].T / np.sqrt(s[:k]), right @ u[:, :k] / np.sqrt(s[:k])


def _closed(upper: _Block, lower: _Block, columns: int) -> Contraction:
    """Two rows of blocks closed up: Tr M^columns, M from the double bond at the left of a column to the next one."""
    a, b = upper.tensor, lower.tensor
    n = a.shape[0] * b.shape[0]
    m = np.tensordot(a, b, ((2, 3), (3, 2))).transpose(0, 2, 1, 3).reshape(n, n)
    power, log_scale = _matrix_power(m, columns - 1)
    trace = float(np.vdot(power.T, m))
    log_z = columns * (upper.log_scale + lower.log_scale) + log_scale + math.log(abs(trace)) if trace else -math.inf
    return Contraction(log_z, math.copysign(1.0, trace))


def _matrix_power(m: Array, n: int) -> tuple[Array, float]:
    """M^n but for a factor, and the logarithm of that."""
    found, log_scale, log_square = np.eye(len(m)), 0.0, 0.0
    while n:
        if n % 2:
            found, log_scale = found @ m, log_scale + log_square
            scale = float(np.abs(found).max())
            found, log_scale = found / scale, log_scale + math.log(scale)
        n //= 2
        if n:
            m = m @ m
            scale = float(np.abs(m).max())
            m, log_square = m / scale, 2.0 * log_square + math.log(scale)
    return found, log_scale
