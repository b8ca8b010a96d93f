"""Closed forms of periodic 2D U(1) with the Wilson action on V plaquettes, by characters.

The plaquette weight exp(-beta (1 - cos P)) has Fourier coefficients f(n) = exp(-beta) I_n(beta). In two dimensions
the plaquettes are independent but for their product, which is one, so Z = sum_n f(n)^V and a loop of area A raises
the representation inside it: <W_A> = sum_n f(n)^(V-A) f(n+1)^A / Z (Migdal 1975; Bonati and Rossi, arXiv:1901.09830).
With a theta term the coefficient is f(n - theta / 2 pi), for f continued to real order by its integral
f(nu) = (1/pi) int_0^pi cos(nu P) exp(-beta (1 - cos P)) dP, which counts each plaquette's wrapped angle.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive

Array = NDArray[np.float64]

_SMALLEST_PROBABILITY = 1e-6
MAX_BETA = 1e6  # beyond it a plaquette's angle has no digits left in a double


@dataclass(frozen=True)
class ExactU1:
    """Expectation values at coupling beta on `n_sites` sites.

    Raises ValueError for beta < 0 or n_sites < 1.
    """

    beta: float
    n_sites: int

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= MAX_BETA:
            raise ValueError(f"beta must be a number between 0 and {MAX_BETA:g}, got {self.beta}")
        if self.n_sites < 1:
            raise ValueError(f"n_sites must be >= 1, got {self.n_sites}")

    @cached_property
    def _orders(self) -> NDArray[np.int64]:
        # f(n)/f(0) falls like exp(-n^2 / 2 beta) and then faster: beyond this it is below 1e-300.
        n_max = int(np.ceil(250.0 + 40.0 * np.sqrt(self.beta)))
        return np.arange(-n_max, n_max + 1)

    @cached_property
    def _log_ratios(self) -> Array:
        """log f(n) - log f(0)."""
        with np.errstate(divide="ignore"):
            return np.log(ive(np.abs(self._orders), self.beta)) - np.log(ive(0, self.beta))

    def _character_sum(self, area: int) -> float:
        """sum_n f(n)^(V-A) f(n+1)^A / f(0)^V."""
        inside = np.append(self._log_ratios[1:], -np.inf)
        outside = self._log_ratios
        with np.errstate(invalid="ignore"):
            exponents = (self.n_sites - area) * outside + (area * inside if area else 0.0)
        if area == self.n_sites:  # nothing outside: 0 * log 0 above
            exponents = area * inside
        return float(np.exp(exponents[~np.isnan(exponents)]).sum())

    @property
    def log_z(self) -> float:
        """log Z relative to the normalised Haar measure."""
        return self.n_sites * float(np.log(ive(0, self.beta))) + float(np.log(self._character_sum(0)))

    @property
    def plaquette(self) -> float:
        """<cos P>."""
        return self.wilson_loop(1)

    @property
    def action(self) -> float:
        """<S> = beta V (1 - <cos P>)."""
        return self.beta * self.n_sites * (1.0 - self.plaquette)

    def wilson_loop(self, area: int) -> float:
        """<cos> of a loop around `area` plaquettes, or of two Polyakov loops with `area` plaquettes between them.

        Raises ValueError for an area outside 0 ... V.
        """
        if not 0 <= area <= self.n_sites:
            raise ValueError(f"the area must be between 0 and {self.n_sites}, got {area}")
        return self._character_sum(area) / self._character_sum(0)

    def rectangular_loop(self, r: int, t: int) -> float:
        """<cos> of an r x t Wilson loop."""
        return self.wilson_loop(r * t)

    @cached_property
    def _quadrature(self) -> tuple[Array, Array]:
        """Gauss-Legendre nodes on [0, pi] and weights that include exp(-beta (1 - cos P)) / pi."""
        nodes, weights = _legendre()
        reach = min(np.pi, 13.0 / np.sqrt(max(self.beta, 1e-9)))  # beyond it the weight is below 1e-30
        p = 0.5 * reach * (nodes + 1.0)
        return p, 0.5 * reach / np.pi * weights * np.exp(-2.0 * self.beta * np.sin(0.5 * p) ** 2)

    @cached_property
    def _relevant(self) -> NDArray[np.int64]:
        """The orders whose (f(n)/f(0))^(V-1) is not below 1e-35, and one more at either end."""
        if self.n_sites < _FEW_SITES and self.beta < _SMALL_BETA:
            return self._orders  # at real orders f falls like a power only, which a few sites do not make small
        seen = (self.n_sites - 1) * self._log_ratios > -80.0
        return self._orders[seen | np.roll(seen, 1) | np.roll(seen, -1)]

    def theta_ratio(self, theta: float | Array) -> Array:
        """Z(theta)/Z(0) = <exp(i theta Q)>, shaped like theta."""
        angles = np.atleast_1d(np.asarray(theta, dtype=float))
        nu = self._relevant - angles[:, None] / (2.0 * np.pi)  # (angles, orders)
        p, weights = self._quadrature
        f = np.cos(np.multiply.outer(nu, p)) @ (weights / weights.sum())
        sums = _signed_power(f, self.n_sites).sum(axis=1)
        return (sums / self._character_sum(0)).reshape(np.shape(theta))

    @property
    def charge_squared(self) -> float:
        """<Q^2> = -Z''(0)/Z(0) in theta = (1/2pi)^2 times the second derivative in nu."""
        v, orders = self.n_sites, self._relevant
        p, weights = self._quadrature
        phase = np.multiply.outer(orders, p)
        f = np.exp(self._log_ratios[np.isin(self._orders, orders)])
        df = -np.sin(phase) @ (weights * p) / weights.sum()
        ddf = -np.cos(phase) @ (weights * p * p) / weights.sum()
        second = v * f ** (v - 1) * ddf + v * (v - 1) * f ** max(v - 2, 0) * df**2
        value = float(-second.sum() / self._character_sum(0) / (4.0 * np.pi**2))
        return max(0.0, value)  # rounding can leave a tiny charge below zero

    @property
    def susceptibility(self) -> float:
        """chi_top = <Q^2>/V."""
        return self.charge_squared / self.n_sites

    @property
    def b2(self) -> float:
        """-(<Q^4> - 3 <Q^2>^2) / (12 <Q^2>), of the free energy density chi_top theta^2 / 2 (1 + b2 theta^2 + ...).

        It is Q's departure from a Gaussian: 1/120 for many sites at beta = 0, falling like 1/beta^2 from there, and
        -1/12 for a dilute gas of charges. nan for one or two sites, where there is no charge.
        """
        if self.n_sites < 3:
            return math.nan
        second = self.charge_squared
        if self.n_sites <= _SITES_OF_ONE_CHARGE or second < _DILUTE:  # |Q| <= 1, or P(2) ~ P(1)^4: <Q^4> = <Q^2>
            return (3.0 * second - 1.0) / 12.0
        quadratic, quartic = self._log_theta_series()
        return quartic / quadratic / (4.0 * np.pi**2)

    def _log_theta_series(self) -> tuple[float, float]:
        """The coefficients of nu^2 and nu^4 in log Z(theta), nu = theta / 2 pi.

        The term of n = 0, which is all of Z in a large volume, is taken out before the logarithm: its own logarithm is
        V log f(nu), so that nothing of order V^2 has to cancel in <Q^4> - 3 <Q^2>^2.
        """
        v, orders = self.n_sites, self._relevant
        p, weights = self._quadrature
        phase = np.multiply.outer(orders, p)
        even, odd = np.cos(phase), np.sin(phase)
        weights = weights / weights.sum()
        # f(n + nu) / f(0), coefficients of nu^0 ... nu^4
        f = np.array(
            [
                np.exp(self._log_ratios[np.isin(self._orders, orders)]),
                -odd @ (weights * p),
                -even @ (weights * p**2) / 2.0,
                odd @ (weights * p**3) / 6.0,
                even @ (weights * p**4) / 24.0,
            ]
        )
        central = orders == 0
        g2, g4 = float(f[2, central][0]), float(f[4, central][0])
        log2, log4 = v * g2, v * (g4 - g2**2 / 2.0)
        r0, r2, r4 = _power_series(f[:, ~central], v).sum(axis=1)  # of all other terms
        z2, z4 = log2, log4 + log2**2 / 2.0  # of the term n = 0, which is 1 at nu = 0
        t2 = r2 - r0 * z2  # others / central = r0 + t2 nu^2 + t4 nu^4
        t4 = r4 - r0 * z4 - t2 * z2
        whole = 1.0 + r0
        return log2 + t2 / whole, log4 + t4 / whole - (t2 / whole) ** 2 / 2.0

    def charge_distribution(self, q_max: int) -> Array:
        """P(Q) for Q = -q_max ... q_max: the Fourier transform of Z(theta)/Z(0).

        The trapezoidal sum over n angles adds up all charges that agree modulo n; n is large enough for the others to
        have no weight.
        """
        beyond = min(self.n_sites // 2, int(12.0 * np.sqrt(self.charge_squared)) + 12)
        n_angles = 2 * (q_max + beyond) + 3
        theta = 2.0 * np.pi * np.arange(n_angles) / n_angles
        ratio = np.concatenate([self.theta_ratio(part) for part in np.array_split(theta, 1 + n_angles // 64)])
        charges = np.arange(-q_max, q_max + 1)
        return np.cos(np.multiply.outer(charges, theta)) @ ratio / n_angles

    def as_dict(self) -> dict[str, Any]:
        """What is printed: plaquette, Wilson loops, <Q^2>, chi_top, log Z, and P(Q) where it is above 1e-6."""
        q_max = max(1, min(self.n_sites // 2, int(8.0 * self.charge_squared**0.5) + 1))
        probabilities = zip(range(-q_max, q_max + 1), self.charge_distribution(q_max))
        areas = [area for area in (1, 2, 4, 9) if area <= self.n_sites]
        return {
            "plaquette": self.plaquette,
            **{f"wilson_loop_area_{area}": self.wilson_loop(area) for area in areas},
            "topological_charge_squared": self.charge_squared,
            "topological_susceptibility": self.susceptibility,
            "log_z": self.log_z,
            "charge_distribution": {str(q): float(p) for q, p in probabilities if p > _SMALLEST_PROBABILITY},
        }


_FEW_SITES, _SMALL_BETA = 33, 20.0
_SITES_OF_ONE_CHARGE = 4  # V angles below pi sum up to less than V pi: |Q| < V/2
_DILUTE = 1e-5  # <Q^2> below which the digits of Z''(0) are few, and double charges without weight


@cache
def _legendre() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(400)


def _signed_power(x: Array, n: int) -> Array:
    """x^n without overflow of the sign: |x|^n sign(x)^n."""
    return np.abs(x) ** n * (np.sign(x) if n % 2 else 1.0)


def _power_series(f: Array, v: int) -> Array:
    """(f_0 + f_1 x + ... + f_4 x^4)^v, v >= 5, of every column of f (5, n): the coefficients of 1, x^2, x^4, (3, n)."""
    f0, f1, f2, f3, f4 = f
    pairs, triples, fours = math.comb(v, 2), math.comb(v, 3), math.comb(v, 4)
    products = 2.0 * pairs * f1 * f3 + pairs * f2**2
    return np.array(
        [
            f0**v,
            v * f0 ** (v - 1) * f2 + pairs * f0 ** (v - 2) * f1**2,
            v * f0 ** (v - 1) * f4
            + f0 ** (v - 2) * products
            + f0 ** (v - 3) * 3.0 * triples * f1**2 * f2
            + f0 ** (v - 4) * fours * f1**4,
        ]
    )
