"""The topological sectors of an ensemble, in the form of summary.json."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import chdtrc

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates.replicas import LOG_W, Replicas, are_same
from lattice_flows.estimates.summary_types import (
    FixedCharge,
    Observables,
    Sector,
    SectorWeight,
    ThetaPoint,
    Topology,
)
from lattice_flows.estimates.weights import log_w_tau_int, part_summary
from lattice_flows.samplers import windows_of
from lattice_flows.statistics import (
    MIN_CHANGES,
    MIN_LENGTH_OF_SECTORS,
    Estimate,
    count_changes,
    fixed_charge_extrapolation,
    gaussian_distribution,
    is_resolved,
    mapped,
    reweighted,
    sector_means,
    sector_probabilities,
    sector_weights,
    sizes_of,
    theta_dependence,
    tunnelling_rate,
)
from lattice_flows.theories.observable import Quantity

Chains = list[np.ndarray]

CHARGE, CHARGE_SQUARED = "topological_charge", "topological_charge_squared"
N_THETA = 13  # angles in [0, pi]
_FITS_INT16 = 10_000
_LEAST_PROBABILITY = 0.001  # of a chi^2 at least as large, where a fit is not refused


def topology_summary(group: Replicas, observables: Observables) -> Topology | None:
    """The sectors of an ensemble with these estimates by name, or None if nothing can be said about them.

    That is so without a charge, with fewer than 5 values of it in a chain, if weights are not numbers, and for chains
    in windows, which have no common weights before MBAR.

    tunnelling_rate counts changes between successive selected configurations. A sector's probability is null if it is
    visited too rarely for an estimate (sector_probabilities), as are all sectors of a frozen ensemble, although its
    means may be known. Estimates that are plain means of one series other than the charge are split by sector, and
    reconstructed from the sectors alone (fixed_charge). That needs <Q^2>: the ensemble's own or, for a frozen
    ensemble, the exact one, as its "charge_squared" tells; if there is neither, fixed_charge is empty. The weights by
    sector are those of independent samples: there are none of particles of populations.

    trusted is taken from <Q^2> in `observables`: without it no angle counts as resolved.
    """
    if not group.has(CHARGE) or windows_of(group.sampler):
        return None
    charge = _rounded(group.series(CHARGE))
    if min(len(chain) for chain in charge) < MIN_LENGTH_OF_SECTORS:
        return None
    log_w = group.series_like(LOG_W, CHARGE) if group.weighted else None
    if log_w is not None and not _are_weights(log_w):
        return None
    exact = closed_forms_of(group.theory)
    trusted = bool(CHARGE_SQUARED in observables and observables[CHARGE_SQUARED]["trusted"])
    distribution = exact.charge_distribution if exact else None
    found = sector_probabilities(charge, log_w, distribution=distribution, n_particles=group.n_particles)
    by_sector, fixed = _by_sector(group, observables, charge, log_w, exact)
    rate = tunnelling_rate(charge)
    return {
        "tunnelling_rate": {"value": _number(rate.value), "error": _number(rate.error)},
        "sectors": _sectors(found, by_sector, _mean_square(charge, log_w), exact),
        "fixed_charge": fixed,
        "theta": _theta(charge, log_w, exact, trusted, group.n_particles),
        "weights": None if log_w is None or group.populations else _weights(charge, log_w, found, exact),
        "trusted": trusted,
    }


def _rounded(charge: Chains) -> Chains:
    """The charge as small integers: it is kept in memory beside each series that is split by it."""
    largest = max((float(np.abs(chain).max()) for chain in charge), default=0.0)
    return [np.rint(chain).astype(np.int16 if largest < _FITS_INT16 else np.int32) for chain in charge]


def _by_sector(
    group: Replicas, observables: Observables, charge: Chains, log_w: Chains | None, exact: Any
) -> tuple[dict[str, dict[int, Estimate]], dict[str, FixedCharge]]:
    """The means of every plain mean by sector, and the fixed-charge fits to them, both by the quantity's name."""
    frozen = sum(count_changes(chain) for chain in charge) < MIN_CHANGES
    given = exact.charge_squared if frozen and exact else None
    by_sector: dict[str, dict[int, Estimate]] = {}
    fixed: dict[str, FixedCharge] = {}
    for quantity in _plain_means(group, observables):
        means, fit = _in_sectors(group, quantity, charge, log_w, given, frozen)
        if means is not None:
            by_sector[quantity.name] = means
        if fit is not None:
            fixed[quantity.name] = fit
    return by_sector, fixed


def _in_sectors(
    group: Replicas, quantity: Quantity, charge: Chains, log_w: Chains | None, given: float | None, frozen: bool
) -> tuple[dict[int, Estimate] | None, FixedCharge | None]:
    """The quantity's means by charge and the fixed-charge fit to them; each is None if it cannot be determined."""
    there, series, weights = _measured_with_charge(group, quantity, charge, log_w)
    if min(len(chain) for chain in there) < MIN_LENGTH_OF_SECTORS:
        return None, None
    means = sector_means(there, series, weights, n_particles=group.n_particles)
    moving = {abs(q) for q, mean in means.items() if mean.error > 0}
    if len(moving) < 2 or (given is None and frozen):
        return means, None
    return means, _fixed_charge(there, series, means, weights, given, group.n_particles)


def _sectors(
    found: Mapping[int, Estimate], by_sector: Mapping[str, Mapping[int, Estimate]], square: float, exact: Any
) -> list[Sector]:
    """A row for every charge with a known probability or mean."""
    charges = sorted({*found, *(q for means in by_sector.values() for q in means)})
    q_max = max([abs(q) for q in charges], default=0)
    known, gaussian = _known(exact, q_max), gaussian_distribution(square, q_max)
    return [
        {
            "charge": q,
            "probability": _number(found[q].value) if q in found else None,
            "probability_error": _number(found[q].error) if q in found else None,
            "exact": None if known is None else float(known[q + q_max]),
            "gaussian": float(gaussian[q + q_max]),
            "observables": {
                name: {"value": _number(means[q].value), "error": _number(means[q].error)}
                for name, means in by_sector.items()
                if q in means
            },
        }
        for q in charges
    ]


def _plain_means(group: Replicas, observables: Observables) -> list[Quantity]:
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
    """The charge, the quantity's series and log_w on the configurations on which both are measured."""
    (term,) = quantity.terms
    series = [term.transform(chain) for chain in group.series(term.series)]
    rows = list(zip(group.rows(CHARGE), group.rows(term.series)))
    if all(are_same(a, b) for a, b in rows):
        return charge, series, log_w
    both = [np.intersect1d(a, b, assume_unique=True, return_indices=True)[1:] for a, b in rows]
    return (
        [chain[here] for chain, (here, _) in zip(charge, both)],
        [chain[here] for chain, (_, here) in zip(series, both)],
        None if log_w is None else [chain[here] for chain, (here, _) in zip(log_w, both)],
    )


def _fixed_charge(
    charge: Chains,
    series: Chains,
    means: dict[int, Estimate],
    log_w: Chains | None,
    given: float | None,
    n_particles: int,
) -> FixedCharge:
    fit = fixed_charge_extrapolation(charge, series, means, log_w, given, n_particles)
    return {
        "value": _number(fit.value),
        "error": _number(fit.error),
        "slope": _number(fit.slope),
        "slope_error": _number(fit.slope_error),
        "chi2_per_dof": _number(fit.chi2 / fit.n_dof) if fit.n_dof else None,
        "linear": not fit.n_dof or bool(chdtrc(fit.n_dof, fit.chi2) > _LEAST_PROBABILITY),
        "charge_squared": "ensemble" if given is None else "exact",
    }


def _theta(charge: Chains, log_w: Chains | None, exact: Any, trusted: bool, n_particles: int) -> list[ThetaPoint]:
    angles = np.linspace(0.0, math.pi, N_THETA)
    known = exact.theta_ratio(angles) if exact else [None] * N_THETA
    return [
        {
            "theta": float(theta),
            "value": _number(found.value),
            "error": _number(found.error),
            "exact": None if truth is None else float(truth),
            "resolved": trusted and bool(is_resolved(found)),
        }
        for theta, found, truth in zip(angles, theta_dependence(charge, angles, log_w, n_particles), known)
    ]


def _weights(charge: Chains, log_w: Chains, estimates: Mapping[int, Estimate], exact: Any) -> list[SectorWeight]:
    """A row for every charge; a sector's share is its probability, with the same error if there is one."""
    found = sector_weights(charge, log_w)
    q_max = max(abs(sector.charge) for sector in found)
    known = _known(exact, q_max)
    every, of_every, tau_int = np.concatenate(log_w), np.concatenate(charge), log_w_tau_int(log_w)
    return [
        {
            "charge": sector.charge,
            "share": sector.share,
            "exact": None if known is None else float(known[sector.charge + q_max]),
            "share_error": _number(estimates[sector.charge].error) if sector.charge in estimates else None,
            **part_summary(every[of_every == sector.charge], tau_int),
        }
        for sector in found
    ]


def _known(exact: Any, q_max: int) -> np.ndarray | None:
    """The closed form of P(Q), with rounding below zero far in the tail removed."""
    return np.maximum(exact.charge_distribution(q_max), 0.0) if exact else None


def _are_weights(log_w: Chains) -> bool:
    """Whether all weights are numbers and some are not zero."""
    return math.isfinite(np.max([chain.max() for chain in log_w]))  # nan if any is


def _mean_square(charge: Chains, log_w: Chains | None) -> float:
    squares = mapped(lambda chain: chain.astype(np.float64) ** 2, charge)
    if log_w is not None:
        return reweighted(squares, log_w).value
    return float(sum(chain.sum() for chain in squares) / sum(sizes_of(squares)))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
