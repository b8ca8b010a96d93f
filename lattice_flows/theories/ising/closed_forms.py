"""The partition function of the Ising model on a torus (Kaufman, Phys. Rev. 76 (1949) 1232), with derivatives.

With K = beta, s = sinh 2K and m columns of n spins, Z is a sum of four products over momenta theta_l = pi l / n,

    Z = (1/2) (2 s)^(mn/2) [ prod_odd 2 cosh(m gamma_l / 2) + prod_odd 2 sinh(m gamma_l / 2)
                           + prod_even 2 cosh(m gamma_l / 2) + prod_even 2 sinh(m gamma_l / 2) ],

with l = 1, 3 ... 2n - 1 or 0, 2 ... 2n - 2, cosh gamma_l = s + 1/s - cos theta_l and gamma_l > 0, but for
gamma_0 = 2K + log tanh K, which changes its sign at beta_c = log(1 + sqrt 2) / 2, s = 1. gamma does not change under
s -> 1/s (Kramers and Wannier): with q = min(s, 1/s) <= 1 and C = 1 + q^2 - q cos theta,

    q exp(gamma) = C + R,    R = sqrt(C^2 - q^2) = sqrt(((1 - q)^2 + q (1 - cos theta)) (1 + q^2 + q (1 - cos theta))),

in which nothing cancels or overflows at any K >= 0. Energies are derivatives of log Z, and so all is computed with
truncated Taylor series in K: arrays (3, ...) of the value, the first and half of the second derivative.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CRITICAL_BETA = 0.5 * math.log(1.0 + math.sqrt(2.0))
"""Of the infinite lattice: Kramers and Wannier, Phys. Rev. 60 (1941) 252."""


@dataclass(frozen=True)
class ExactIsing:
    """Expectation values at coupling beta on a torus of this shape, with two extents.

    On an extent of 2 a site has the same neighbour on both sides, and the pair counts twice.

    Raises ValueError for beta < 0 and for a shape that is not of two extents of 2 or more.
    """

    beta: float
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be a number >= 0, got {self.beta}")
        if len(self.shape) != 2 or min(self.shape) < 2:
            raise ValueError(f"a torus has two extents of 2 or more, got the shape {list(self.shape)}")

    @property
    def n_sites(self) -> int:
        return math.prod(self.shape)

    @property
    def log_z(self) -> float:
        """log Z, the sum over all configurations: V log 2 at beta = 0."""
        return float(self._log_z[0])

    @property
    def energy(self) -> float:
        """e = -<sum_mu s(x) s(x+mu)> per site, -(1/V) d log Z / d beta."""
        return 0.0 - float(self._log_z[1]) / self.n_sites

    @property
    def action(self) -> float:
        """<S> = beta V e."""
        return self.beta * self.n_sites * self.energy

    @property
    def specific_heat(self) -> float:
        """c = beta^2 V (<e^2> - <e>^2) per site, (beta^2 / V) d^2 log Z / d beta^2."""
        second = max(0.0, 2.0 * float(self._log_z[2]))  # rounding can leave a tiny variance below zero
        return self.beta**2 * second / self.n_sites

    @cached_property
    def _log_z(self) -> Array:
        """log Z and its derivatives, (3,)."""
        m, n = self.shape
        ordered = self.beta > CRITICAL_BETA
        theta = np.pi * np.arange(2 * n) / n
        growth, decay = _modes(self.beta, theta)
        odd, even = slice(1, None, 2), slice(2, None, 2)
        first, ratio = _zero_mode(self.beta)
        # log of the product over odd l of (2 s e^gamma)^(m/2), and over even l; in the ordered phase 2 s = 2 q s^2.
        of_odd, of_even = m * growth[:, odd].sum(axis=1), m * (growth[:, even].sum(axis=1) + first)
        if ordered:
            log_s = _log_sinh(self.beta)
            of_odd, of_even = of_odd + n * m * log_s, of_even + (n - 1) * m * log_s
        power = _power(ratio, m)  # exp(-m |gamma_0|)
        cosh, sinh = _one_plus(power), (1.0 if ordered else -1.0) * _one_plus(-power)
        odd_sum = _exp(_log_product(_power(decay[:, odd], m))) + _exp(_log_product(-_power(decay[:, odd], m)))
        even_sum = _times(cosh, _exp(_log_product(_power(decay[:, even], m)))) + _times(
            sinh, _exp(_log_product(-_power(decay[:, even], m)))
        )
        # The two large exponents almost agree, with their derivatives: only their difference is exponentiated.
        total = odd_sum + _times(_exp(of_even - of_odd), even_sum)
        return of_odd + _log(total) - np.array([math.log(2.0), 0.0, 0.0])


def _modes(beta: float, theta: Array) -> tuple[Array, Array]:
    """(1/2) log(2 q e^gamma) and e^-gamma of the momenta theta > 0, each (3, n)."""
    q = _q(beta)[:, None] * np.ones_like(theta)
    lift = 2.0 * np.sin(0.5 * theta) ** 2  # 1 - cos theta
    below = _times(_one_plus(-q), _one_plus(-q)) + lift * q  # C - q
    above = _one_plus(_times(q, q)) + lift * q  # C + q
    with np.errstate(divide="ignore", invalid="ignore"):  # theta = 0 at beta_c, which is not used
        grown = 0.5 * (below + above) + _sqrt(_times(below, above))  # q e^gamma
        return 0.5 * _log(2.0 * grown), _times(q, _power(grown, -1))


def _zero_mode(beta: float) -> tuple[Array, Array]:
    """log of the larger of P and Q, and the ratio of the smaller to it, each (3,): (2 s)^(m/2) 2 cosh(m gamma_0 / 2) is
    P^m + Q^m, and that of sinh P^m - Q^m, with P = e^2K - 1 and Q = 1 + e^-2K; they are equal at beta_c.
    """
    decayed = _decayed(beta)  # e^-2K
    if beta > CRITICAL_BETA:
        gap = _one_plus(-decayed)
        ratio = _times(_times(decayed, _one_plus(decayed)), _power(gap, -1))
        return np.array([2.0 * beta, 2.0, 0.0]) + _log(gap), ratio
    grown = math.exp(2.0 * beta)
    p = np.array([math.expm1(2.0 * beta), 2.0 * grown, 2.0 * grown])
    return _log(_one_plus(decayed)), _times(p, _power(_one_plus(decayed), -1))


def _q(beta: float) -> Array:
    """min(s, 1/s) of s = sinh 2K, (3,)."""
    if beta > CRITICAL_BETA:
        decayed = _decayed(beta)
        return _times(2.0 * decayed, _power(_one_plus(-_times(decayed, decayed)), -1))
    s, c = math.sinh(2.0 * beta), math.cosh(2.0 * beta)
    return np.array([s, 2.0 * c, 2.0 * s])


def _log_sinh(beta: float) -> Array:
    """log sinh 2K for beta > 0, (3,)."""
    decayed = _decayed(beta)
    return np.array([2.0 * beta - math.log(2.0), 2.0, 0.0]) + _log(_one_plus(-_times(decayed, decayed)))


def _decayed(beta: float) -> Array:
    """e^-2K, (3,)."""
    return math.exp(-2.0 * beta) * np.array([1.0, -2.0, 2.0])


def _log_product(powers: Array) -> Array:
    """log of the product of 1 + powers (3, n), (3,)."""
    slope = 1.0 / (1.0 + powers[0])
    return _composed(powers, np.log1p(powers[0]), slope, -(slope**2)).sum(axis=1)


def _one_plus(a: Array) -> Array:
    return np.concatenate([1.0 + a[:1], a[1:]])


def _times(a: Array, b: Array) -> Array:
    return np.stack([a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[1] * b[1] + a[2] * b[0]])


def _composed(a: Array, value: Array, first: Array, second: Array) -> Array:
    """f(a), from f and its derivatives at a[0]."""
    return np.stack([value, first * a[1], first * a[2] + 0.5 * second * a[1] ** 2])


def _exp(a: Array) -> Array:
    value = np.exp(a[0])
    return _composed(a, value, value, value)


def _log(a: Array) -> Array:
    return _composed(a, np.log(a[0]), 1.0 / a[0], -1.0 / a[0] ** 2)


def _sqrt(a: Array) -> Array:
    root = np.sqrt(a[0])
    return _composed(a, root, 0.5 / root, -0.25 / (root * a[0]))


def _power(a: Array, m: int) -> Array:
    return _composed(a, a[0] ** m, m * a[0] ** (m - 1), m * (m - 1) * a[0] ** (m - 2))
