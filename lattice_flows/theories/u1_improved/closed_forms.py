"""The partition function of 2D U(1) with rectangles, and what follows from it, by a tensor network of the plaquettes.

The links of a torus leave the plaquettes P(n) free but for their sum, a multiple of 2 pi:

    Z = sum_n z(n),    z(nu) = int prod_P dP/2pi exp(i nu sum P) exp(-S),    Z(theta) = sum_n z(n + theta/2pi),

with each angle from -pi to pi, so that sum P = 2 pi Q counts the charge. A rectangle couples two neighbours among the
plaquettes, and z(nu) is the partition function of a nearest-neighbour model, see `tensor_network`. With z at nu = j/m,
j = 0, 1, ..., Z(theta) is known at m angles, and P(Q) is its Fourier transform.

The bond dimension is raised, and the nodes of an angle with it, until log Z stays the same: up to 24, where a value of
log Z takes seconds and a quarter of a gigabyte. What takes long is kept in the user's cache folder (`cached_on_disk`).
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories import tensor_network
from lattice_flows.theories.cached_on_disk import cached_on_disk
from lattice_flows.theories.tensor_network import Bonds, Contraction, Neighbours, bonds, contract

Array = NDArray[np.float64]

MAX_COUPLING = 1e4
"""Of |beta c0| + 4 |beta c1|: beyond it an angle takes more nodes than are in use."""

_log = logging.getLogger(__name__)

_STILL = 1e-7  # changes of log Z on up to a thousand sites: at which it stays the same,
_KNOWN = 1e-5  # at which it is known,
_HOPELESS = 1e-3  # which the largest bond dimension does not make small
_LARGE = 16  # the bond dimension beyond which log Z takes many seconds
_NEGLIGIBLE = 1e-12  # of z(nu) beside z(0)
_STEP = 0.004  # of beta c0 and beta c1, in differences of log Z
_SMALL_ANGLE = 0.05  # theta / 2 pi at which the width of P(Q) is looked at
_MOST_ORDERS = 400
_DILUTE = 1e-5  # <Q^2> below which double charges have no weight
_SMALLEST_PROBABILITY = 1e-6


class _Rung(NamedTuple):
    """A bond dimension, and how many nodes go with it, in units of the fewest."""

    bond_dimension: int
    nodes: float


_RUNGS = (_Rung(6, 1.0), _Rung(8, 1.1), _Rung(12, 1.2), _Rung(16, 1.3), _Rung(24, 1.4))


@dataclass(frozen=True)
class ExactImprovedU1:
    """Expectation values at these couplings on a torus of this shape. Nothing is computed before it is asked for.

    plain, rectangle: beta c0 and beta c1. Raises ValueError for a shape that is not of two sides of 2 or more, and for
    |plain| + 4 |rectangle| > 1e4.
    """

    plain: float
    rectangle: float
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 2:
            raise ValueError(f"a torus has two sides of 2 or more, got the shape {list(self.shape)}")
        if not _size(self.plain, self.rectangle) <= MAX_COUPLING:
            raise ValueError(
                f"|beta c0| + 4 |beta c1| must be at most {MAX_COUPLING:g}, got {self.plain}, {self.rectangle}"
            )

    @property
    def n_sites(self) -> int:
        return math.prod(self.shape)

    def _kept(self, name: str, compute: Callable[[], Array]) -> Array:
        key = ["u1_improved", name, float(self.plain), float(self.rectangle), list(self.shape), _RUNGS]
        return cached_on_disk(key, (tensor_network, sys.modules[__name__]), compute)

    @cached_property
    def _ladder(self) -> tuple[Array, float]:
        """log Z at each bond dimension, three at least, until it stays the same; and what is left."""
        found = self._kept("log_z", self._climbed)
        return found, _left(list(found))

    def _climbed(self) -> Array:
        found: list[float] = []
        for rung in _RUNGS:
            found.append(self._log_z(rung, self.plain, self.rectangle))
            relative = _left(found) / self._scale
            if relative < _STILL or (relative > _HOPELESS and rung.bond_dimension >= _LARGE):
                break
            if rung.bond_dimension == _LARGE:
                _log.warning("u1_improved: closed forms that are hard to know; they can take a minute")
        return np.array(found)

    @property
    def converged(self) -> bool:
        """Whether log Z is known, to 1e-5 on up to a thousand sites; otherwise nothing here is."""
        return self._ladder[1] < _KNOWN * self._scale

    @property
    def _scale(self) -> float:
        return max(1.0, self.n_sites / 1000.0)

    @property
    def bond_dimension(self) -> int:
        """The largest that was used."""
        return _RUNGS[len(self._ladder[0]) - 1].bond_dimension

    @property
    def log_z(self) -> float:
        """log Z relative to the normalised Haar measure."""
        return float(self._ladder[0][-1])

    @property
    def log_z_uncertainty(self) -> float:
        """The last change of log Z as the bond dimension rose, and more where the changes hardly fall."""
        return self._ladder[1]

    @property
    def plaquette(self) -> float:
        """<cos P>."""
        return float(self._loops[0, 0])

    @property
    def action(self) -> float:
        """<S>."""
        plaquette, rectangle = self._loops[0]
        return float(self.n_sites * (self.plain * (1.0 - plaquette) + 2.0 * self.rectangle * (1.0 - rectangle)))

    def rectangular_loop(self, r: int, t: int) -> float | None:
        """<cos> of the r x t loops, the mean over both orientations; None but for 1x1 and 1x2."""
        area = r * t
        return float(self._loops[0, area - 1]) if area in (1, 2) else None

    @cached_property
    def _loops(self) -> Array:
        """<cos P> and <cos R>, and both again with twice the step at a smaller bond dimension, (2, 2)."""
        rung, before = self._rungs
        return self._kept("loops", lambda: np.array([self._slopes(rung, _STEP), self._slopes(before, 2.0 * _STEP)]))

    @property
    def _rungs(self) -> tuple[_Rung, _Rung]:
        """The last bond dimension but one, 12 at the least, and the one before: log Z is known there, and is cheap."""
        k = max(len(self._ladder[0]) - 2, 2)
        return _RUNGS[k], _RUNGS[k - 1]

    def _slopes(self, rung: _Rung, step: float) -> tuple[float, float]:
        """1 + d log Z / d(beta c0) / V and 1 + d log Z / d(beta c1) / 2V, by five-point differences."""
        size = step * max(1.0, self.plain + 8.0 * self.rectangle)

        def slope(plain: float, rectangle: float) -> float:
            values = [self._log_z(rung, self.plain + k * plain, self.rectangle + k * rectangle) for k in (-2, -1, 1, 2)]
            return (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * size * self.n_sites)

        return 1.0 + slope(size, 0.0), 1.0 + 0.5 * slope(0.0, size)

    def _log_z(self, rung: _Rung, plain: float, rectangle: float) -> float:
        sectors = _Sectors(plain, rectangle, self.shape, rung)
        central = sectors(0.0)
        return central.log_z + math.log(sum(sectors.ratios(central, 1)))

    @cached_property
    def _charges(self) -> Array:
        """P(Q) for Q = 0, 1 ..., and again at a smaller bond dimension, (2, n)."""
        return self._kept("charges", self._transformed)

    def _transformed(self) -> Array:
        n_angles = None
        rows = []
        for rung in self._rungs:
            sectors = _Sectors(self.plain, self.rectangle, self.shape, rung)
            central = sectors(0.0)
            if n_angles is None:
                n_angles = self._n_angles(sectors, central)
            ratios = np.array(list(sectors.ratios(central, n_angles)))  # of nu and -nu together
            phases = np.outer(np.arange(n_angles // 2 + 1), np.arange(len(ratios)) * (2.0 * np.pi / n_angles))
            rows.append(np.cos(phases) @ ratios / (n_angles * ratios[::n_angles].sum()))
        return np.array(rows)

    def _n_angles(self, sectors: "_Sectors", central: Contraction) -> int:
        """An odd number m of angles: up to m/2 lie six deviations of Q, and three more, or all |Q| that there are."""
        at = sectors(_SMALL_ANGLE)
        variance = max(0.0, central.log_z - at.log_z) / (2.0 * (math.pi * _SMALL_ANGLE) ** 2)
        all_charges = self.n_sites - 1 + self.n_sites % 2  # V angles below pi sum up to less than V pi: |Q| < V/2
        return min(2 * math.ceil(3.0 + 6.0 * math.sqrt(variance)) + 1, all_charges)

    @property
    def charge_squared(self) -> float:
        """<Q^2>."""
        return max(0.0, self._moment(2)[0])

    @property
    def susceptibility(self) -> float:
        """chi_top = <Q^2>/V."""
        return self.charge_squared / self.n_sites

    @property
    def b2(self) -> float:
        """-(<Q^4> - 3 <Q^2>^2) / (12 <Q^2>), see `ExactU1`."""
        second, fourth = self.charge_squared, self._moment(4)[0]
        if second < _DILUTE:
            return (3.0 * second - 1.0) / 12.0
        return (3.0 * second**2 - fourth) / (12.0 * second)

    def _moment(self, power: int) -> tuple[float, float]:
        last, before = 2.0 * self._charges @ (np.arange(self._charges.shape[1], dtype=float) ** power)
        return float(last), float(before)

    def charge_distribution(self, q_max: int) -> Array:
        """P(Q) for Q = -q_max ... q_max."""
        shares = np.zeros(q_max + 1)
        known = self._charges[0][: q_max + 1]
        shares[: len(known)] = known
        return np.concatenate([shares[:0:-1], shares])

    def theta_ratio(self, theta: float | Array) -> Array:
        """Z(theta)/Z(0) = <exp(i theta Q)>, shaped like theta."""
        shares = self._charges[0]
        cosines = np.cos(np.multiply.outer(np.asarray(theta, dtype=float), np.arange(len(shares))))
        return 2.0 * cosines @ shares - shares[0]

    @property
    def uncertainties(self) -> dict[str, float]:
        """Of each number by its name: log Z as above; the others by the bond dimension before, and twice the step."""
        plaquette, rectangle = np.abs(self._loops[1] - self._loops[0])
        last, before = self._moment(2)
        return {
            "plaquette": float(plaquette),
            "wilson_loop_1x2": float(rectangle),
            "topological_charge_squared": abs(before - last),
            "log_z": self.log_z_uncertainty,
        }

    def as_dict(self) -> dict[str, Any]:
        """What is printed."""
        q_max = max(1, min(self.n_sites // 2, int(8.0 * self.charge_squared**0.5) + 1))
        probabilities = zip(range(-q_max, q_max + 1), self.charge_distribution(q_max))
        return {
            "plaquette": self.plaquette,
            "wilson_loop_1x2": self.rectangular_loop(1, 2),
            "topological_charge_squared": self.charge_squared,
            "topological_susceptibility": self.susceptibility,
            "log_z": self.log_z,
            **{f"{name}_uncertainty": left for name, left in self.uncertainties.items()},
            "bond_dimension": self.bond_dimension,
            "charge_distribution": {str(q): float(p) for q, p in probabilities if p > _SMALLEST_PROBABILITY},
        }


@lru_cache(maxsize=64)
def exact_improved_u1(plain: float, rectangle: float, shape: tuple[int, ...]) -> ExactImprovedU1 | None:
    """The closed forms, the same object at every call; None, and a reason in the log, where they are out of reach.

    plain, rectangle: beta c0 and beta c1.
    """
    reason = ""
    try:
        exact = ExactImprovedU1(plain, rectangle, shape)
    except ValueError as error:
        reason = str(error)
    else:
        if exact.converged:
            return exact
        at = f"at beta c0 = {plain:g}, beta c1 = {rectangle:g} on {list(shape)}"
        left = f"{exact.log_z_uncertainty:.1g} with a bond dimension of {exact.bond_dimension}"
        reason = f"{at} log Z is known to no more than {left}"
    _log.warning("u1_improved: no closed forms: %s", reason)
    return None


def _left(found: list[float]) -> float:
    """The last change, or the sum of those that follow at the rate at which the last two fell, up to ten times it."""
    if len(found) < 3:
        return math.inf
    before, last = np.abs(np.diff(found))[-2:]
    return float(last * max(1.0, 1.0 / (1.0 - min(last / before, 0.9)) - 1.0)) if before > 0.0 else float(last)


def _size(plain: float, rectangle: float) -> float:
    return abs(plain) + 4.0 * abs(rectangle)


class _Sectors:
    """z(nu) at a bond dimension."""

    def __init__(self, plain: float, rectangle: float, shape: tuple[int, ...], rung: _Rung) -> None:
        rows, columns = shape
        self._shape, self._most = (rows, columns), rung.bond_dimension
        # An angle's width is 1/sqrt(beta); on a few sites z(nu) falls slowly, and large nu oscillate.
        fewest = 32.0 + 16.0 * math.sqrt(_size(plain, rectangle)) + 1600.0 / (rows * columns)
        nodes, weights = np.polynomial.legendre.leggauss(math.ceil(fewest * rung.nodes))
        self._angles = np.pi * nodes
        pairs = self._angles[:, None] + self._angles
        log_site = np.log(0.5 * weights) + plain * (np.cos(self._angles) - 1.0)
        self._bonds: Bonds = bonds(Neighbours(log_site, rectangle * (np.cos(pairs) - 1.0)), self._most)

    def __call__(self, nu: float) -> Contraction:
        return contract(self._bonds, self._shape, self._most, np.exp(1j * nu * self._angles))

    def ratios(self, central: Contraction, n_angles: int) -> Iterator[float]:
        """[z(nu) + z(-nu)] / z(0) for nu = 1/n_angles, 2/n_angles ..., after 1 for nu = 0, as far as it counts."""
        yield 1.0
        small = 0
        for j in count(1):
            found = self(j / n_angles)
            ratio = found.sign * central.sign * math.exp(found.log_z - central.log_z)
            yield 2.0 * ratio
            small = small + 1 if abs(ratio) < _NEGLIGIBLE else 0
            if small == min(3, 1 + n_angles) or j == _MOST_ORDERS:
                return
