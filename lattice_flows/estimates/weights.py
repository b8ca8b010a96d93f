"""The quality of weights, in the form of summary.json."""

import math
from typing import NamedTuple

import numpy as np

from lattice_flows.errors import InputError
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Integration, PartESS, Reliable, Reweighting, Weights
from lattice_flows.flows import MAX_STEP_ERROR
from lattice_flows.samplers import SAMPLERS
from lattice_flows.statistics import (
    FEWEST_POPULATIONS,
    MAX_PARETO_K_OF_ESS,
    MAX_PARETO_K_OF_MEAN,
    MIN_EFFECTIVE_SAMPLES,
    effective_sample_size,
    gamma_method,
    is_dominated,
    largest_weight_share,
    log_partition,
    pareto_k,
    reliability,
    share_of_squares,
)
from lattice_flows.terminal.numbers import number
from lattice_flows.training.validate import MAX_ROUND_TRIP


class Unit(NamedTuple):
    """What each weight is that of: how many of them tell an error, and what to do where they do not."""

    name: str
    few: str  # what is so of fewer than
    fewest: int  # effective ones
    more: str
    better: str


SAMPLES = Unit("sample", "weights are unreliable", MIN_EFFECTIVE_SAMPLES, "draw more samples", "train a better flow")
PATHS = Unit(
    "path",
    "weights are unreliable",
    MIN_EFFECTIVE_SAMPLES,
    "make more configurations",
    "take more n_steps, or an initial that is nearer to the target",
)
POPULATIONS = Unit(
    "population",
    "errors are not known",
    FEWEST_POPULATIONS,
    "make more configurations",
    "take more particles or steps (of a flow: or train it better)",
)


def unit_of(n_particles: int, sampler: str) -> Unit:
    """Populations of several particles, paths of a sampler (its card name) that has no flow, or else samples."""
    if n_particles > 1:
        return POPULATIONS
    return PATHS if sampler in SAMPLERS and SAMPLERS[sampler].independent else SAMPLES


def weights_summary(log_w: np.ndarray, unit: Unit = SAMPLES) -> Weights:
    """ESS, log Z and whether to trust them, from the log weights of independent samples (m,), or of populations; nan is
    a weight of zero. Raises InputError where no weight is above zero."""
    log_w = np.nan_to_num(log_w, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    if not log_w.max() > -np.inf:
        raise InputError(
            f"none of {log_w.size} {unit.name}s has a weight: -S - log q is nowhere a finite number; take smaller "
            "steps of what is integrated or random in the flow, or train with a lower training.learning_rate"
        )
    ess, log_z = effective_sample_size(log_w), log_partition(log_w)
    share, k = largest_weight_share(log_w), pareto_k(log_w)
    return {
        "ess": ess.value,
        "ess_error": ess.error,
        "log_z": log_z.value,
        "log_z_error": log_z.error,
        "n_samples": log_w.size,
        "pareto_k": k,
        "largest_weight_share": share,
        "largest_weight_over_mean": share * log_w.size,
        **_reliable(log_w, unit),
        "dominated": is_dominated(ess.value, log_w.size, share),
    }


def _reliable(log_w: np.ndarray, unit: Unit, tau_int: float = 0.5) -> Reliable:
    log_z, ess = reliability(log_w, tau_int, unit.fewest)
    return {"log_z_reliable": log_z, "ess_reliable": ess, "reliable": log_z and ess}


def weights_warnings(weights: Weights, unit: Unit = SAMPLES) -> list[str]:
    """The reason to doubt weights, or nothing. weights: from `weights_summary`, so k-hat may still be infinite."""
    ess, n, share = weights["ess"], weights["n_samples"], weights["largest_weight_share"]
    k = -math.inf if weights["pareto_k"] is None else weights["pareto_k"]
    if (effective := ess * n) < unit.fewest:
        return [
            f"{unit.few}: {int(effective)} effective {unit.name}s (ESS * N), fewer than {unit.fewest}; "
            f"{unit.more}, or {unit.better}"
        ]
    if k == math.inf:
        return [f"weights are unreliable: too few stand out to tell their tail (Pareto k-hat); {unit.more}"]
    if k > MAX_PARETO_K_OF_MEAN:
        return [
            f"weights are unreliable: a heavy tail, Pareto k-hat = {k:.2f} above {MAX_PARETO_K_OF_MEAN}; log Z is at "
            f"least {number(weights['log_z'], 4)}, the ESS at most {ess:.2g}; {unit.better}"
        ]
    if is_dominated(ess, n, share):
        part = 100.0 * min(1.0, share_of_squares(ess, n, share))
        return [
            f"one weight of {n} is {share * n:.0f} times the mean and has {part:.0f} % of the sum of squares: "
            f"the ESS hangs on this one {unit.name}; {unit.more}"
        ]
    if k > MAX_PARETO_K_OF_ESS:
        return [
            f"the ESS is at most {ess:.2g}: the tail of the weights, Pareto k-hat = {k:.2f} above "
            f"{MAX_PARETO_K_OF_ESS}, is too heavy for an error; log Z and averages hold. {unit.better.capitalize()}"
        ]
    return []


def round_trip_warnings(error: float | None) -> list[str]:
    """The reason to doubt a flow's map; none where its error is not known."""
    if error is None or error <= MAX_ROUND_TRIP:
        return []
    return [
        f"the map is ill-conditioned: map and inverse differ in log q, and so in log w, by up to {error:.2g}, above "
        f"{MAX_ROUND_TRIP:g}; train again with a lower training.learning_rate, or a flow of fewer layers"
    ]


def step_warnings(integration: Integration | None) -> list[str]:
    """The reason to doubt the integral of a flow's density, where it is one."""
    if integration is None or integration["step_error"] <= MAX_STEP_ERROR:
        return []
    return [
        f"the flow is integrated too coarsely: log w changes by up to {integration['step_error']:.2g}, above "
        f"{MAX_STEP_ERROR:g}, with twice its {integration['n_steps']} steps; train again with a lower "
        "training.learning_rate, or more steps"
    ]


def reweighting_summary(group: Replicas) -> Reweighting:
    """The overlap of chains with the target to which they are reweighted.

    n_effective is ESS * N / (2 tau_int) with the tau_int of log w: correlated configurations fill less of the weights'
    tail than their number suggests. The tau_int of w itself would hide just that.
    """
    chains, unit = group.independent_log_w(), unit_of(group.n_particles, str(group.sampler.get("name", "")))
    figures = weights_summary(np.concatenate(chains), unit)
    tau_int = 0.5 if group.populations else log_w_tau_int(chains)
    return {
        "from": group.sampled_theory,
        "ess": figures["ess"],
        "ess_error": figures["ess_error"] * np.sqrt(2.0 * tau_int),
        "n_samples": figures["n_samples"],
        "n_effective": figures["ess"] * figures["n_samples"] / (2.0 * tau_int),
        "pareto_k": figures["pareto_k"],
        "largest_weight_share": figures["largest_weight_share"],
        **_reliable(np.concatenate(chains), unit, tau_int),
    }


def part_summary(log_w: np.ndarray, tau_int: float) -> PartESS:
    """The ESS within a part of the configurations, from log weights (m,), at least one of a weight above zero.

    The error takes the autocorrelation into account; it is None for a single configuration.
    """
    if log_w.size < 2:
        return {"n_configs": log_w.size, "ess": 1.0, "ess_error": None}
    ess = effective_sample_size(log_w)
    return {"n_configs": log_w.size, "ess": ess.value, "ess_error": ess.error * math.sqrt(2.0 * tau_int)}


def log_w_tau_int(log_w: list[np.ndarray]) -> float:
    """tau_int of log weights; 1/2, as for independent samples, if all are equal or some weights are zero."""
    if not all(np.isfinite(chain).all() for chain in log_w) or np.ptp(np.concatenate(log_w)) == 0:
        return 0.5
    tau_int = gamma_method(log_w).tau_int
    return max(0.5, tau_int) if np.isfinite(tau_int) else float(min(map(len, log_w)))
