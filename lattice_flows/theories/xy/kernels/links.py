"""The two potentials of planar spins, see `kernels.links`: both are even and have the period 2 pi."""

from typing import NamedTuple

import numpy as np
from numba import njit

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.elementary import PI, TWO_PI, fast_exp, fast_log, fast_sin_cos, wrap
from lattice_flows.kernels.links import derivatives, energy, on_links
from lattice_flows.kernels.molecular_dynamics import Couplings, store, store_wrapped
from lattice_flows.kernels.sweeps import standard


class Cosine(NamedTuple):
    """V(d) = -beta cos d."""

    beta: float


class Images(NamedTuple):
    """V(d) = -log sum_k exp(-beta/2 (d - 2 pi k)^2), |k| <= 3: what is beyond is below 1e-15 for beta >= 0.15.

    second = exp(-4 pi^2 beta) and third = exp(-12 pi^2 beta).
    """

    beta: float
    second: float
    third: float


@implements(energy, Cosine, fastmath={"contract"}, forceinline=True)
def _cosine(couplings: Cosine, d: float) -> float:
    return -couplings.beta * fast_sin_cos(d)[1]


@implements(derivatives, Cosine, fastmath={"contract"}, forceinline=True)
def _of_cosine(couplings: Cosine, d: float) -> tuple[float, float, float]:
    sine, cosine = fast_sin_cos(d)
    return couplings.beta * sine, couplings.beta * cosine, -cosine


@njit(fastmath={"contract"}, forceinline=True)
def _nearest(d: float) -> float:
    """The angle in [-pi, pi], to rounding: `wrap` would divide, which takes as long as an exponential."""
    return d - TWO_PI * np.rint(d * (1.0 / TWO_PI))


@njit(fastmath={"contract"}, forceinline=True)
def _powers(q: float, a: float, b: float, c: float) -> float:
    return q * (a + q * (b + q * c))


@njit(fastmath={"contract"}, forceinline=True, error_model="numpy")
def _moments(couplings: Images, d: float) -> tuple[float, float, float]:
    """sum_k w_k, and the means of k and k^2, for w_k = exp(-beta/2 [(d - 2 pi k)^2 - d^2]), d in [-pi, pi].

    For k > 0 that is exp(-2 pi^2 beta k (k - 1)) up^k, up = w_1 <= 1; for k < 0 the same of down = w_-1.
    """
    beta, second, third = couplings
    up, down = fast_exp(TWO_PI * beta * (d - PI)), fast_exp(-TWO_PI * beta * (d + PI))
    total = 1.0 + _powers(up, 1.0, second, third) + _powers(down, 1.0, second, third)
    first = _powers(up, 1.0, 2.0 * second, 3.0 * third) - _powers(down, 1.0, 2.0 * second, 3.0 * third)
    square = _powers(up, 1.0, 4.0 * second, 9.0 * third) + _powers(down, 1.0, 4.0 * second, 9.0 * third)
    return total, first / total, square / total


@implements(energy, Images, fastmath={"contract"}, forceinline=True)
def _villain(couplings: Images, d: float) -> float:
    d = _nearest(d)
    return 0.5 * couplings.beta * d * d - fast_log(_moments(couplings, d)[0])


@implements(derivatives, Images, fastmath={"contract"}, forceinline=True)
def _of_villain(couplings: Images, d: float) -> tuple[float, float, float]:
    """With the mean and the variance of the angle d - 2 pi k: beta mean, beta - beta^2 variance, <angle^2>/2."""
    d = _nearest(d)
    _, first, square = _moments(couplings, d)
    mean, variance = d - TWO_PI * first, TWO_PI * TWO_PI * (square - first * first)
    beta = couplings.beta
    return beta * mean, beta - beta * beta * variance, 0.5 * (mean * mean + variance)


on_links(Cosine, Images)
implements(store, Cosine, Images)(store_wrapped)


@implements(standard, Cosine, Images, fastmath={"contract"}, forceinline=True)
def _standard(couplings: Couplings, x: float) -> float:
    return wrap(x)
