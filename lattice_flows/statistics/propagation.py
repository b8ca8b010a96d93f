"""Functions of several means, of plain and of weighted chains, by the Gamma method with linear error propagation.

f(<a>, <b>, ...) fluctuates to first order as the mean of g = df/d<a> (a - <a>) + df/d<b> (b - <b>) + ...
(hep-lat/0306017, section 2), and f(<w a>/<w>, <w b>/<w>, ...) as the mean of w g / <w>, where the means, and those in
g, are the weighted ones. That series is given to the Gamma method.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.statistics.gamma import Estimate, estimate_mean
from lattice_flows.statistics.populations import population_means
from lattice_flows.statistics.replicas import (
    Array,
    Series,
    as_replicas,
    mapped,
    require_equal_lengths,
    sizes_of,
    split_replicas,
)
from lattice_flows.statistics.shares import largest, pooled_mean
from lattice_flows.statistics.tails import made_by_weights
from lattice_flows.statistics.windows import WindowRule

Function = Callable[..., float]
Gradient = Callable[..., Sequence[float]]

_STEPS = (0.1, 0.01, 1e-3, 1e-4, 1e-5)  # of differences, in units of the naive error


def derived(
    function: Function,
    *series: Series,
    gradient: Gradient | None = None,
    s_tau: float = 1.5,
    tau_exp: float | None = None,
    n_sigma: float = 1.0,
) -> Estimate:
    """The Gamma method for function(<a>, <b>, ...) with linear error propagation (hep-lat/0306017).

    function: takes the means as floats and returns a float.
    series: one per argument, of equal shapes, as for gamma_method.
    gradient: takes the means, returns df/d<a>, df/d<b>, ...; if absent, differences on the scale of the errors, or
        smaller ones near the edge of the function's domain.
    s_tau, tau_exp, n_sigma: as for gamma_method.

    Raises what gamma_method raises, and ValueError if series differ in shape or function or gradient are not finite at
    the means.
    """
    rule = WindowRule(s_tau, tau_exp, n_sigma)
    several = _measured_together(series)
    ones = [np.ones(1)] * len(several[0])  # (1,), for each replica
    linear = _linearised(function, gradient, several, ones)
    return estimate_mean(linear.fluctuation, linear.scale, rule)._replace(value=linear.value)


def ratio(
    numerator: Series,
    denominator: Series,
    s_tau: float = 1.5,
    tau_exp: float | None = None,
    n_sigma: float = 1.0,
) -> Estimate:
    """<numerator> / <denominator> by `derived`; ZeroDivisionError if the denominator's mean is zero."""
    return derived(
        lambda a, b: a / b,
        numerator,
        denominator,
        gradient=lambda a, b: (1.0 / b, -a / b**2),
        s_tau=s_tau,
        tau_exp=tau_exp,
        n_sigma=n_sigma,
    )


def derived_reweighted(
    function: Function,
    log_w: Series,
    *series: Series,
    gradient: Gradient | None = None,
    s_tau: float = 1.5,
    tau_exp: float | None = None,
    n_sigma: float = 1.0,
    chains_per_set: int = 1,
    n_particles: int = 1,
) -> Estimate:
    """function(<w a>/<w>, <w b>/<w>, ...) along weighted chains.

    log_w: the log weights of the configurations on which the series were measured, shaped as they are. It may lack any
        constant, and -inf is a weight of zero.
    chains_per_set: chains k and k + chains_per_set sample the same distribution; those between them may differ.
    n_particles: so many consecutive chains are particles of one population, see `populations`: the error is that of
        populations, and so are tau_int and pareto_k.
    The other arguments as for derived; function and gradient take the weighted means.

    tau_int is that of the fluctuation w g / <w> (see the head of this file). n_eff = variance / error^2, where the
    variance is that of g in the target, <w g^2>/<w>: this many independent configurations of the target itself would
    give the same error. It falls with autocorrelation and with the unevenness of the weights. pareto_k is that of
    |w g|, see `made_by_weights`: above 1/2 there is no variance, and the error is too small.

    Raises what derived raises, and ValueError if a log weight is nan or +inf, or if all are -inf.
    """
    rule = WindowRule(s_tau, tau_exp, n_sigma)
    several = _measured_together(series)
    weights = unit_weights(log_w)
    require_equal_lengths([weights, *several])
    linear = _linearised(function, gradient, several, weights)
    weighted = mapped(np.multiply, weights, linear.fluctuation)
    largest_weight = max(float(w.max()) for w in weights)
    scale = largest_weight * linear.scale
    of_populations = population_means(weighted, n_particles)
    estimate = estimate_mean(of_populations, scale, rule, n_kinds=chains_per_set)._replace(value=linear.value)
    if math.isnan(estimate.tau_int):
        return estimate
    variance = pooled_mean(mapped(np.multiply, weighted, linear.fluctuation))
    unweighted = population_means(linear.fluctuation, n_particles)
    tail = made_by_weights(mapped(_log_size, unweighted), mapped(_log_size, of_populations))
    return estimate._replace(n_eff=variance / estimate.error**2, pareto_k=tail)


def reweighted(
    series: Series,
    log_w: Series,
    s_tau: float = 1.5,
    tau_exp: float | None = None,
    n_sigma: float = 1.0,
    n_particles: int = 1,
) -> Estimate:
    """<w O> / <w> along weighted chains: the series of O, and the log weights of the same configurations.

    The same as `derived_reweighted` with the identity; see there for n_particles, n_eff and tau_int and what is raised.
    """
    return derived_reweighted(
        lambda mean: mean,
        log_w,
        series,
        gradient=lambda mean: (1.0,),
        s_tau=s_tau,
        tau_exp=tau_exp,
        n_sigma=n_sigma,
        n_particles=n_particles,
    )


def normalised_in_sets(log_w: Array, chains_per_set: int) -> Array:
    """log_w (n, n_chains) of which each set of consecutive chains has a constant of its own, made such that <w> = 1 in
    each set.

    Averages over sets are then means of the ratios <w a>/<w> of the sets. Each has a bias of the order of its squared
    error, which more sets do not reduce. nan in a set without a weight > 0.

    Raises ValueError for less than one chain per set, and where the chains are no whole number of sets.
    """
    n, n_chains = log_w.shape
    if chains_per_set < 1:
        raise ValueError(f"chains_per_set must be >= 1, got {chains_per_set}")
    if n_chains % chains_per_set:
        raise ValueError(f"{n_chains} chains are not whole sets of {chains_per_set}")
    sets = log_w.reshape(n, -1, chains_per_set)
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = sets.max(axis=(0, 2), initial=-np.inf, keepdims=True)
        logs = largest + np.log(np.exp(sets - largest).mean(axis=(0, 2), keepdims=True))
        return (sets - logs).reshape(n, n_chains)


def jackknife_over_chains(
    function: Function, log_w: Series, *series: Series, chains_per_set: int | None = None
) -> float:
    """The error of function(<w a>/<w>, <w b>/<w>, ...) from leaving out one chain at a time, or one set of chains.

    The arguments are those of derived_reweighted, of two chains or sets or more. It assumes only that these are
    independent; with few of them it is not well known: its own relative error is 1 / sqrt(2 (n_chains - 1)). nan where
    the function is not defined without one of them. Raises ValueError if shapes do not fit, and for a single one.
    """
    several, weights = _measured_together(series), unit_weights(log_w)
    require_equal_lengths([weights, *several])
    firsts = np.arange(0, len(weights), chains_per_set or 1)
    if len(firsts) < 2:
        raise ValueError("the jackknife over chains needs two of them")
    norms = np.add.reduceat([w.sum() for w in weights], firsts)  # (n_sets,)
    of_chains = [[w @ values for w, values in zip(weights, replicas)] for replicas in several]
    sums = np.add.reduceat(of_chains, firsts, axis=1)
    without = (sums.sum(axis=1, keepdims=True) - sums) / (norms.sum() - norms)  # (n_series, n_sets)
    values = np.array([_or_nan(function, *map(float, means)) for means in without.T])
    return math.sqrt((values.size - 1) * float(values.var()))


def slopes_by_differences(function: Function, means: Sequence[float], errors: Sequence[float]) -> list[float]:
    """df/d<a>, df/d<b>, ... at the means by five-point differences on a tenth of each error: on that scale a function
    must be smooth for linear propagation to hold, and rounding is no concern.

    Near the edge of its domain, as of sqrt(a/b - 1), it may end within that step or bend. So smaller steps are tried
    too, and the step that agrees best with the next one is used. nan if no two steps give a number.
    """
    slopes = []
    for i, error in enumerate(errors):

        def along(shift: float, i: int = i) -> float:
            return _or_nan(function, *means[:i], means[i] + shift, *means[i + 1 :])

        slopes.append(_slope(along, error) if error > 0 else 0.0)
    return slopes


class _Linearised(NamedTuple):
    """A function at the means, its fluctuation g on every configuration of every replica, and the scale of rounding."""

    value: float
    fluctuation: Sequence[Array]
    scale: float


def _linearised(
    function: Function, gradient: Gradient | None, several: list[Sequence[Array]], weights: Sequence[Array]
) -> _Linearised:
    """The function linearised at the means; the weights have the mean 1."""
    means = [pooled_mean(mapped(lambda values, w: w * values, replicas, weights)) for replicas in several]
    with np.errstate(all="ignore"):
        value = float(function(*means))
    if gradient is not None:
        slopes = list(gradient(*means))
    else:
        errors = [_naive_error(replicas, weights, mean) for replicas, mean in zip(several, means)]
        slopes = slopes_by_differences(function, means, errors)
    if not math.isfinite(value) or not np.isfinite(slopes).all():
        raise ValueError(f"the function or its gradient is not finite at the means {means}")

    def fluctuation(*parts: Array) -> Array:
        """The fluctuation of one replica, from its part of every series."""
        return np.sum([slope * (part - mean) for slope, mean, part in zip(slopes, means, parts)], axis=0)

    scale = sum(abs(slope) * largest(replicas) for slope, replicas in zip(slopes, several))
    return _Linearised(value, mapped(fluctuation, *several), scale)


def _measured_together(series: Sequence[Series]) -> list[Sequence[Array]]:
    if not series:
        raise ValueError("a function of means needs at least one series")
    several = [as_replicas(one) for one in series]
    require_equal_lengths(several)
    return several


def unit_weights(log_w: Series) -> list[Array]:
    """The weights of all replicas, scaled to the mean 1. log_w: as for `derived_reweighted`; raises what it raises."""
    log_weights = split_replicas(log_w)
    top = float(np.max([replica.max() for replica in log_weights]))  # nan if any is nan
    if not math.isfinite(top):
        raise ValueError("log weights must be finite or -inf, and not all -inf")
    weights = [np.exp(replica - top) for replica in log_weights]
    mean = pooled_mean(weights)
    return [w / mean for w in weights]


def _naive_error(replicas: Sequence[Array], weights: Sequence[Array], mean: float) -> float:
    """The error of a weighted mean if its configurations were independent."""
    squares = sum(float(np.sum((w * (values - mean)) ** 2)) for w, values in zip(weights, replicas))
    return math.sqrt(squares) / sum(sizes_of(replicas))


def _log_size(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(np.abs(values))


def _slope(along: Callable[[float], float], error: float) -> float:
    """The derivative of `along` at 0."""
    slopes = np.array([_five_point(along, step * error) for step in _STEPS])
    slopes[~np.isfinite(slopes)] = np.nan
    changes = np.abs(np.diff(slopes))
    return float(slopes[np.nanargmin(changes)]) if np.isfinite(changes).any() else math.nan


def _five_point(along: Callable[[float], float], step: float) -> float:
    return (along(-2 * step) - 8 * along(-step) + 8 * along(step) - along(2 * step)) / (12 * step)


def _or_nan(function: Function, *arguments: float) -> float:
    """The function's value, or nan if it is undefined, whether shown by nan, a warning of numpy or an exception."""
    try:
        with np.errstate(all="ignore"):
            return float(function(*arguments))
    except (ValueError, ArithmeticError):
        return math.nan
