"""What an ensemble says of its topological sectors, as summary.json holds it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lattice_flows.observables import Quantity
from lattice_flows.statistics import (
    MIN_CHANGES,
    Estimate,
    count_changes,
    fixed_charge_extrapolation,
    is_resolved,
    reweighted,
    sector_means,
    sector_probabilities,
    sector_weights,
    theta_dependence,
    tunnelling_rate,
)
from lattice_flows.workflows.assemble import oracle
from lattice_flows.workflows.replicas import LOG_W, Replicas

Summary = dict[str, Any]
Chains = list[np.ndarray]

CHARGE = "topological_charge"
N_THETA = 13  # angles in [0, pi]
_FEWEST_CONFIGS = 5  # which make the four steps that a tunnelling rate needs


def topology_summary(group: Replicas, observables: Mapping[str, Any]) -> Summary | None:
    """The sectors of an ensemble, `observables` its estimates by name; None where nothing can be said.

    That is where there is no charge, for fewer than 5 configurations in a chain, for weights that are not numbers, and
    for umbrella windows, whose chains know no common weights before MBAR.

    tunnelling_rate counts changes from one configuration that counts to the next. Of the estimates, those that are
    plain means of one series other than the charge are taken apart by sector, and put together again from the sectors
    alone (fixed_charge). That needs <Q^2>: the ensemble's own or, of a frozen ensemble, the exact one; where there is
    neither, fixed_charge is empty.
    """
    if not group.has(CHARGE) or group.sampler["name"] == "umbrella" or group.n_configs < _FEWEST_CONFIGS:
        return None
    log_w = group.series_like(LOG_W, CHARGE) if group.weighted else None
    if log_w is not None and not _are_weights(log_w):
        return None
    charge = [np.rint(chain).astype(np.int32) for chain in group.series(CHARGE)]
    exact = oracle(group.theory)
    found = sector_probabilities(charge, log_w)
    q_max = max([abs(q) for q in found], default=0)
    known = exact.charge_distribution(q_max) if exact else None
    square = _mean_square(charge, log_w)
    frozen = sum(count_changes(chain) for chain in charge) < MIN_CHANGES
    given = exact.charge_squared if frozen and exact else None
    by_sector: dict[str, dict[int, Estimate]] = {}
    fixed: Summary = {}
    for quantity in _plain_means(group, observables):
        there, series, weights = _measured_with_charge(group, quantity, charge, log_w)
        means = by_sector[quantity.name] = sector_means(there, series, weights)
        moving = {abs(q) for q, mean in means.items() if mean.error > 0}
        if len(moving) > 1 and (given is not None or not frozen):
            fixed[quantity.name] = _fixed_charge(there, series, means, weights, given)
    rate = tunnelling_rate(charge)
    return {
        "tunnelling_rate": {"value": _number(rate.value), "error": _number(rate.error)},
        "sectors": [
            {
                "charge": q,
                "probability": _number(probability.value),
                "probability_error": _number(probability.error),
                "exact": None if known is None else float(known[q + q_max]),
                "gaussian": _gaussian(q, square),
                "observables": {
                    name: {"value": _number(means[q].value), "error": _number(means[q].error)}
                    for name, means in by_sector.items()
                    if q in means
                },
            }
            for q, probability in found.items()
        ],
        "fixed_charge": fixed,
        "theta": _theta(charge, log_w, exact),
        "weights": None if log_w is None else _weights(charge, log_w, exact),
    }


def _plain_means(group: Replicas, observables: Mapping[str, Any]) -> list[Quantity]:
    return [
        quantity
        for quantity in group.quantities()
        if quantity.name in observables
        and quantity.function is None
        and len(quantity.terms) == 1
        and quantity.terms[0].series != CHARGE
    ]


def _measured_with_charge(
    group: Replicas, quantity: Quantity, charge: Chains, log_w: Chains | None
) -> tuple[Chains, Chains, Chains | None]:
    """The charge, the quantity's series and log_w on the configurations on which the quantity was measured."""
    (term,) = quantity.terms
    series = [term.transform(chain) for chain in group.series(term.series)]
    if [len(chain) for chain in series] == [len(chain) for chain in charge]:
        return charge, series, log_w
    there = [np.rint(chain).astype(np.int32) for chain in group.series_like(CHARGE, term.series)]
    return there, series, None if log_w is None else group.series_like(LOG_W, term.series)


def _fixed_charge(
    charge: Chains, series: Chains, means: dict[int, Estimate], log_w: Chains | None, given: float | None
) -> Summary:
    fit = fixed_charge_extrapolation(charge, series, means, log_w, given)
    return {
        "value": _number(fit.value),
        "error": _number(fit.error),
        "slope": _number(fit.slope),
        "slope_error": _number(fit.slope_error),
        "chi2_per_dof": _number(fit.chi2 / fit.n_dof) if fit.n_dof else None,
    }


def _theta(charge: Chains, log_w: Chains | None, exact: Any) -> list[Summary]:
    angles = np.linspace(0.0, math.pi, N_THETA)
    known = exact.theta_ratio(angles) if exact else [None] * N_THETA
    return [
        {
            "theta": float(theta),
            "value": _number(found.value),
            "error": _number(found.error),
            "exact": None if truth is None else float(truth),
            "resolved": bool(is_resolved(found)),
        }
        for theta, found, truth in zip(angles, theta_dependence(charge, angles, log_w), known)
    ]


def _weights(charge: Chains, log_w: Chains, exact: Any) -> list[Summary]:
    found = sector_weights(charge, log_w)
    q_max = max(abs(sector.charge) for sector in found)
    known = exact.charge_distribution(q_max) if exact else None
    return [
        {
            "charge": sector.charge,
            "share": sector.share,
            "exact": None if known is None else float(known[sector.charge + q_max]),
            "ess": sector.ess,
        }
        for sector in found
    ]


def _are_weights(log_w: Chains) -> bool:
    """Whether all weights are numbers and some are not zero."""
    return math.isfinite(np.max([chain.max() for chain in log_w]))  # nan if any is


def _mean_square(charge: Chains, log_w: Chains | None) -> float:
    squares = [chain.astype(np.float64) ** 2 for chain in charge]
    if log_w is not None:
        return reweighted(squares, log_w).value
    return float(sum(chain.sum() for chain in squares) / sum(chain.size for chain in squares))


def _gaussian(q: int, square: float) -> float:
    """P(Q) ~ exp(-Q^2 / (2 <Q^2>)) on the integers."""
    if square <= 0.0:
        return float(q == 0)
    reach = np.arange(-math.ceil(10.0 * math.sqrt(square)) - 1, math.ceil(10.0 * math.sqrt(square)) + 2)
    return math.exp(-0.5 * q * q / square) / float(np.exp(-0.5 * reach**2 / square).sum())


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
