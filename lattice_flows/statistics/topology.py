"""Topological sectors of a Markov chain: how often it changes them, means within them, and the theta dependence.

The charge is rounded to an integer here. Errors are those of the Gamma method on linearised fluctuations, as in
propagation.py; log_w, if given, weights the configurations and is shaped like the charge, and n_particles consecutive
chains are a population, whose errors are those of `populations`. Every function raises ValueError for values that are
not finite, for shapes that do not fit and for chains of fewer than 4 configurations.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lattice_flows.statistics.gamma import Estimate, estimate_mean, gamma_method
from lattice_flows.statistics.populations import population_means
from lattice_flows.statistics.replicas import (
    MIN_LENGTH,
    Array,
    LazyReplicas,
    Series,
    as_replicas,
    mapped,
)
from lattice_flows.statistics.sectors import (
    FEWEST_IN_SECTOR,
    Charges,
    Distribution,
    charge_range,
    charges_and_weights,
    frequent_sectors,
    integer_charges,
    known_sectors,
    require_same_configurations,
    sums_by_charge,
)
from lattice_flows.statistics.shares import largest, pooled_mean
from lattice_flows.statistics.windows import WindowRule

MIN_LENGTH_OF_SECTORS = MIN_LENGTH + 1  # configurations per chain: a rate needs MIN_LENGTH steps between them

_RESOLVED = 3.0  # errors


class FixedCharge(NamedTuple):
    """The fit <O>_Q = value + slope (Q^2 - <Q^2>) to sector means, and its chi^2."""

    value: float
    error: float
    slope: float
    slope_error: float
    chi2: float  # of sectors taken as independent
    n_dof: int  # sectors - 2


class SectorWeight(NamedTuple):
    """The share of one charge in all the weight of an ensemble, and the ESS of the weights within it."""

    charge: int
    n_configs: int
    share: float
    ess: float


def tunnelling_rate(charge: Series) -> Estimate:
    """Changes of the charge per configuration: the mean of [Q_t != Q_(t-1)] along chains of at least 5 configurations.

    charge: as for gamma_method. Without a change, value and error are zero and tau_int is nan.
    """
    charges = integer_charges(charge)
    steps = LazyReplicas([c.size - 1 for c in charges], lambda k: (np.diff(charges[k]) != 0).astype(np.float64))
    return gamma_method(steps)


def sector_probabilities(
    charge: Series,
    log_w: Series | None = None,
    fewest: float = FEWEST_IN_SECTOR,
    distribution: Distribution | None = None,
    n_particles: int = 1,
) -> dict[int, Estimate]:
    """P(Q) of the charges that the ensemble visits often enough, by charge.

    distribution: P(Q) as far as it is known beforehand, q_max -> (2 q_max + 1,) for Q = -q_max ... q_max, as
        ExactU1.charge_distribution; absent, that of |Q| > 1 is expected from the charges smaller than |Q| by the
        Gaussian of their width.

    This distribution chooses the charges, Q and -Q alike: those in which it expects at least `fewest` configurations,
    or effective ones (sum w)^2 / sum w^2, and MIN_CHANGES (20) entries from other sectors, if each were left as often
    as smaller charges are. A choice by what was found would show only those rare sectors that were found too often.
    Nevertheless, half as many entries must have been found. A frozen ensemble has none, so no probabilities are
    returned for it.
    """
    charges, weights = charges_and_weights(charge, log_w)
    first, last = charge_range(charges)
    known = known_sectors(charges, weights, fewest, distribution)
    tables = {q: (np.arange(first, last + 1) == q).astype(np.float64) for q in known}
    return _means_of(tables, charges, weights, n_particles)


def sector_means(
    charge: Series,
    series: Series,
    log_w: Series | None = None,
    fewest: float = FEWEST_IN_SECTOR,
    n_particles: int = 1,
) -> dict[int, Estimate]:
    """<O>_Q = <O 1_Q> / <1_Q> for every charge with at least `fewest` configurations, by charge.

    series: O on the configurations of the charge. n_eff = variance of O in the sector / error^2.

    A chain that never leaves its sector knows <O>_Q as well as others do, so entries do not matter here, and how often
    a sector was found does not shift the mean of O in it.
    """
    charges, weights = charges_and_weights(charge, log_w)
    values = as_replicas(series)
    require_same_configurations(charges, values)
    return _means_in(frequent_sectors(charges, weights, fewest), charges, values, weights, n_particles)


def fixed_charge_extrapolation(
    charge: Series,
    series: Series,
    means: Mapping[int, Estimate],
    log_w: Series | None = None,
    charge_squared: float | None = None,
    n_particles: int = 1,
) -> FixedCharge:
    """<O> from the sectors alone: the fit of <O>_Q = <O> + slope (Q^2 - <Q^2>) to the sector means.

    That is the first order in 1/V of the saddle point at fixed charge (Brower, Chandrasekharan, Negele and Wiese,
    hep-lat/0302005), <O>_Q = <O> + O'' / (2 V chi_t) (1 - Q^2 / (V chi_t)), with O'' = d^2 <O> / d theta^2 at zero,
    V chi_t = <Q^2> and slope = -O'' / (2 <Q^2>^2): at fixed Q, theta is a Gaussian about -i Q / (V chi_t) of variance
    1 / (V chi_t), over which O + O'' theta^2 / 2 is averaged. What it leaves out is of order 1/V^2, for V chi_t >> 1
    and |Q| << V chi_t.

    charge, series, log_w: as for sector_means, which gave `means`. Those with an error enter, weighted by 1/error^2.
    charge_squared: <Q^2> if known; absent, it is that of the ensemble and its error is propagated. Chains that never
        leave their sector know <O>_Q but not <Q^2>, and their errors here are right only if it is given.

    Errors know the autocorrelation, also between sectors, but not that of the fit's weights. Raises ValueError unless
    there are means with errors at two values of |Q|.
    """
    charges, weights = charges_and_weights(charge, log_w)
    values = as_replicas(series)
    require_same_configurations(charges, values)
    q = np.array(sorted(q for q, mean in means.items() if mean.error > 0))
    if np.unique(np.abs(q)).size < 2:
        raise ValueError("the extrapolation needs sector means with errors at two values of |Q|")
    squares = q.astype(np.float64) ** 2
    mean = np.array([means[k].value for k in q])  # (n_sectors,)
    precision = np.array([means[k].error for k in q]) ** -2.0
    total, centre = precision.sum(), float(precision @ squares / precision.sum())
    to_slope = precision * (squares - centre) / float(precision @ (squares - centre) ** 2)
    measured = pooled_mean(mapped(lambda w, c: w * c.astype(np.float64) ** 2, weights, charges))
    target = measured if charge_squared is None else charge_squared
    to_value = precision / total + (target - centre) * to_slope
    value, slope = float(to_value @ mean), float(to_slope @ mean)
    residuals = mean - value - slope * (squares - target)
    fluctuates = slope if charge_squared is None else 0.0
    table = _SectorTable(q, mean, charges, weights, n_particles)
    return FixedCharge(
        value,
        table.error(to_value, values, fluctuates, measured),
        slope,
        table.error(to_slope, values, 0.0, measured),
        float(precision @ residuals**2),
        q.size - 2,
    )


def theta_dependence(
    charge: Series, theta: ArrayLike, log_w: Series | None = None, n_particles: int = 1
) -> list[Estimate]:
    """<exp(i theta Q)> = Z(theta)/Z(0) at each theta, whose imaginary part is zero by symmetry: means of cos(theta Q).

    theta: (n,) angles in radians.

    The value falls like exp(-theta^2 <Q^2> / 2) while the error stays about sqrt(tau_int / N): the sign problem.
    `is_resolved` tells whether the value can still be distinguished from zero.
    """
    charges, weights = charges_and_weights(charge, log_w)
    first, last = charge_range(charges)
    tables = np.cos(np.multiply.outer(np.asarray(theta, dtype=np.float64), np.arange(first, last + 1)))
    return list(_means_of(dict(enumerate(tables)), charges, weights, n_particles).values())


def is_resolved(estimate: Estimate) -> bool:
    """Whether a positive mean such as <exp(i theta Q)> lies more than three errors above zero."""
    return estimate.value > _RESOLVED * estimate.error


def sector_weights(charge: Series, log_w: Series) -> list[SectorWeight]:
    """The share in the weight, sum_Q w / sum w, and the ESS within it, of every charge seen with some weight.

    ESS = (sum_Q w)^2 / (n_Q sum_Q w^2), in (0, 1]. A flow that covers a sector badly has a small ESS in it; one that
    covers it too rarely has much larger weights there, which show in the ESS of all weights but not in that within it.
    """
    charges, weights = charges_and_weights(charge, log_w)
    first, counts, sums, squares = sums_by_charge(charges, weights)
    total = sums.sum()
    return [
        SectorWeight(
            first + int(k), int(counts[k]), float(sums[k] / total), float(sums[k] ** 2 / (counts[k] * squares[k]))
        )
        for k in np.flatnonzero(squares)
    ]


def forward_ess(log_w: Series) -> Estimate:
    """The ESS of a flow's weights, from configurations of the target: 1 / (<w>_p <1/w>_p), in (0, 1].

    log_w: -S - log q up to a constant, of an ensemble x ~ p that the flow had no part in, as for gamma_method. With
    <h>_q = <h/w>_p / <1/w>_p, the ESS <w>_q^2 / <w^2>_q of the flow's own samples becomes 1 / (<w>_p <1/w>_p). Where q
    misses a part of the target, its own samples never show it and their ESS stays large; those of the target fall
    there, with a w as large as q is small, and this one collapses. A value far below the ESS of the flow's samples
    means that a mode is missing; its error is then unreliable.
    """
    log_weights = as_replicas(log_w)
    top, bottom = max(float(x.max()) for x in log_weights), min(float(x.min()) for x in log_weights)
    weights, inverses = [np.exp(x - top) for x in log_weights], [np.exp(bottom - x) for x in log_weights]
    mean, inverse = pooled_mean(weights), pooled_mean(inverses)
    value = min(1.0, math.exp(bottom - top) / mean / inverse)
    relative = [2.0 - w / mean - v / inverse for w, v in zip(weights, inverses)]
    estimate = estimate_mean(relative, 1.0 / mean + 1.0 / inverse, WindowRule())
    return estimate._replace(value=value, error=value * estimate.error)


class _SectorTable:
    """Linear combinations of sector means and their errors, from one fluctuation series each."""

    def __init__(
        self, q: NDArray[np.int64], mean: Array, charges: Charges, weights: Sequence[Array], n_particles: int
    ) -> None:
        self.charges, self.weights, self.n_particles = charges, weights, n_particles
        self.first, _, sums, _ = sums_by_charge(charges, weights)
        self.at = q - self.first
        self.mean = np.zeros(sums.size)
        self.mean[self.at] = mean
        self.probability = sums[self.at] / sum(c.size for c in charges)

    def error(self, coefficients: Array, values: Sequence[Array], of_square: float, square: float) -> float:
        """The error of sum_Q coefficient_Q <O>_Q + of_square <Q^2>, where <Q^2> = square."""
        factors = np.zeros(self.mean.size)  # by charge
        factors[self.at] = coefficients / self.probability
        shifts = of_square * ((self.first + np.arange(factors.size)) ** 2.0 - square)

        def fluctuation(charges: NDArray[np.integer], weights: Array, o: Array) -> Array:
            k = charges - self.first
            return weights * (factors[k] * (o - self.mean[k]) + shifts[k])

        scale = float(np.abs(factors).max() * largest(values) + np.abs(shifts).max()) * largest(self.weights)
        found = population_means(mapped(fluctuation, self.charges, self.weights, values), self.n_particles)
        return estimate_mean(found, scale, WindowRule(), 0.0).error


def _means_of(
    tables: Mapping[Any, Array], charges: Charges, weights: Sequence[Array], n_particles: int
) -> dict[Any, Estimate]:
    """<w v> of weights with the mean 1, v a function of the charge: tables of it from the lowest charge on, by name."""
    first, _, sums, _ = sums_by_charge(charges, weights)
    n, top = sum(c.size for c in charges), largest(weights)
    found = {}
    for name, table in tables.items():
        mean = float(sums @ table) / n
        variance = float(sums @ (table - mean) ** 2) / n
        of_particles = mapped(partial(_of_charge, first, table - mean), charges, weights)
        fluctuation = population_means(of_particles, n_particles)
        found[name] = _estimate(fluctuation, top * float(np.abs(table).max()), mean, variance)
    return found


def _of_charge(first: int, table: Array, charges: NDArray[np.integer], weights: Array) -> Array:
    return weights * table.take(charges - first)


def _means_in(
    sectors: Sequence[int], charges: Charges, values: Sequence[Array], weights: Sequence[Array], n_particles: int
) -> dict[int, Estimate]:
    """<w v 1_Q> / <w 1_Q> of these charges Q."""
    first, _, sums, _ = sums_by_charge(charges, weights)
    with np.errstate(invalid="ignore"):  # of sectors without weight, for which nobody asks
        means = _sums_in(first, sums.size, charges, mapped(np.multiply, weights, values)) / sums
        squares = mapped(lambda c, w, v: w * np.square(v - means.take(c - first)), charges, weights, values)
        variances = _sums_in(first, sums.size, charges, squares) / sums
    scale, n = largest(weights) * largest(values), sum(c.size for c in charges)
    found = {}
    for q in sectors:
        mean, probability = float(means[q - first]), float(sums[q - first]) / n
        of_particles = mapped(partial(_within, q, mean, 1.0 / probability), charges, weights, values)
        fluctuation = population_means(of_particles, n_particles)
        found[q] = _estimate(fluctuation, scale / probability, mean, float(variances[q - first]))
    return found


def _within(q: int, mean: float, factor: float, charges: NDArray[np.integer], w: Array, v: Array) -> Array:
    """w (v - mean) factor in the sector, zero outside, for one replica."""
    g = v - mean
    g *= (charges == q) * factor
    g *= w
    return g


def _sums_in(first: int, n: int, charges: Charges, values: Sequence[Array]) -> Array:
    """The sums of the values in each of n charges, (n,)."""
    return np.sum([np.bincount(c - first, v, minlength=n) for c, v in zip(charges, values)], axis=0)


def _estimate(fluctuation: Sequence[Array], scale: float, value: float, variance: float) -> Estimate:
    """The error of fluctuations about `value`; n_eff = variance / error^2."""
    estimate = estimate_mean(fluctuation, scale, WindowRule(), value)
    return estimate if math.isnan(estimate.tau_int) else estimate._replace(n_eff=variance / estimate.error**2)
