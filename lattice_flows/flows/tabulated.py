"""A table of a density of one variable as a map: from normal deviates to that density, at every site."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp, ndtri_exp
from torch import Tensor

from lattice_flows.flows.line_spline import image_in_bin, origin_in_bin
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.site_coupling import score_of_sites
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL

Numbers = NDArray[np.float64]

_NODES = 8  # of the quadrature between two points of the table
_REACH = 45.0  # of a quartic density's table: how far log p falls
_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Tabulated(Transform):
    """x = F^-1(Phi(z / width)) for every number z of a field: normal deviates of this width become x of density p.

    F is the distribution function of the density p ~ exp(log_p), given at increasing points x, both (n,): log p is a
    cubic spline between them and a straight line beyond. The map is the monotone rational-quadratic spline
    (arXiv:1906.04032 eqs. (4)-(8)) with the right values and slopes at the table's points, and linear beyond them;
    log_det is that of the spline, and exact. There is nothing to learn. Once differentiable.

    Raises ValueError for fewer than four points, points that do not increase, numbers that are not finite, log p that
    does not rise at the lower end and fall at the upper one, gaps that no probability crosses, and a width that is not
    positive and finite.
    """

    domain = codomain = REAL
    knots: Tensor

    def __init__(self, x: Numbers, log_p: Numbers, width: float = 1.0) -> None:
        super().__init__()
        _check(x, log_p, width)
        u, log_slope = _normal_deviates(x, log_p)
        with np.errstate(over="ignore", under="ignore"):
            knots = np.stack([width * u, x, np.exp(log_slope) / width])  # z, x, dx/dz
        if not (np.isfinite(knots).all() and (knots[2] > 0).all() and (np.diff(u) > 0).all()):
            gap = int(np.argmin(np.diff(u)))
            raise ValueError(f"the table's density vanishes to rounding between x = {x[gap]:g} and {x[gap + 1]:g}")
        self.register_buffer("knots", torch.from_numpy(knots), persistent=False)  # (3, n)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x, log_slope = self.by_site(z)
        return x, log_slope.flatten(1).sum(1)

    def by_site(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dz, both shaped like z."""
        z_knots, x_knots, slopes = self.knots.to(z.dtype)
        inner = z.clamp(z_knots[0], z_knots[-1])
        x, log_slope = image_in_bin(inner, *_bin(inner, z_knots, z_knots, x_knots, slopes))
        return x + (z - inner) * torch.where(z > inner, slopes[-1], slopes[0]), log_slope

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z_knots, x_knots, slopes = self.knots.to(x.dtype)
        inner = x.clamp(x_knots[0], x_knots[-1])
        z, log_slope = origin_in_bin(inner, *_bin(inner, x_knots, z_knots, x_knots, slopes))
        return z + (x - inner) / torch.where(x > inner, slopes[-1], slopes[0]), -log_slope.flatten(1).sum(1)


def quartic_sites(a: float, b: float, width: float = 1.0, n_points: int = 401) -> Tabulated:
    """The map from normal deviates of this width to the density exp(-a x^2 - b x^4) at every site.

    The single-site density of phi^4 fields, where a = m2 + 2 D and b = lam. `n_points` are those of the table, equally
    spaced to where the density has fallen by exp(-45).

    Raises ValueError for a and b not finite, b not above 0, n_points outside 10 to 100,000, and two peaks so far apart
    that nothing crosses the gap.
    """
    if not (math.isfinite(a) and 0 < b < math.inf):
        raise ValueError(f"a quartic density has a finite and b > 0, got a = {a}, b = {b}")
    if not 10 <= n_points <= 100_000:
        raise ValueError(f"n_points must be between 10 and 100000, got {n_points}")
    deepest = 0.25 * min(a, 0.0) ** 2 / b  # of the action, below 0
    reach = math.sqrt((-a + math.sqrt(a * a + 4.0 * b * max(_REACH - deepest, 0.0))) / (2.0 * b))
    x = np.linspace(-reach, reach, n_points)
    return Tabulated(x, -a * x**2 - b * x**4, width)


@forward_with_score.register
def _(transform: Tabulated, z: Tensor, score: Tensor) -> ScoredField:
    return score_of_sites(transform.by_site, z, score)


def _bin(at: Tensor, knots: Tensor, *tables: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The values of each table at both ends of the bin of `knots` that holds `at`."""
    lower = torch.searchsorted(knots[1:-1].contiguous(), at.detach().contiguous(), right=True)
    return [(table[lower], table[lower + 1]) for table in tables]


def _normal_deviates(x: Numbers, log_p: Numbers) -> tuple[Numbers, Numbers]:
    """u = Phi^-1(F(x)) at the table's points and log dx/du, (n,) each: by logarithms, for the sake of the tails."""
    spline = CubicSpline(x, log_p)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(x)[:, None]
    places = x[:-1, None] + half * (1.0 + nodes)
    between = logsumexp(spline(places) + np.log(half * weights), axis=1)  # (n - 1,)
    rise, fall = spline(x[0], 1), -spline(x[-1], 1)
    if not (rise > 0 and fall > 0):
        raise ValueError(f"log p must rise at the table's lower end and fall at its upper one, got {rise:g}, {-fall:g}")
    below = np.logaddexp.accumulate(np.append(log_p[0] - np.log(rise), between))
    above = np.logaddexp.accumulate(np.append(log_p[-1] - np.log(fall), between[::-1]))[::-1]
    log_z = np.logaddexp(below[-1], log_p[-1] - np.log(fall))
    u = np.where(
        below < above, ndtri_exp(np.minimum(below, above) - log_z), -ndtri_exp(np.minimum(below, above) - log_z)
    )
    return u, -0.5 * u * u - _LOG_ROOT_TWO_PI - (log_p - log_z)


def _check(x: Numbers, log_p: Numbers, width: float) -> None:
    if x.ndim != 1 or x.shape != log_p.shape or len(x) < 4:
        raise ValueError(
            f"a table has x and log p of at least four points, got {list(x.shape)} and {list(log_p.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(log_p).all() and (np.diff(x) > 0).all()):
        raise ValueError("a table has finite numbers, and its x increase")
    if not 0 < width < math.inf:
        raise ValueError(f"width must be positive and finite, got {width}")
