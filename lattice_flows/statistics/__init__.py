"""Errors that account for autocorrelation, weights and how far to trust them, tests of agreement. No torch here."""

from lattice_flows.statistics.diagnostics import (
    ChiSquared,
    chi_squared,
    count_changes,
    covariance_of_means,
    pull,
    r_hat,
)
from lattice_flows.statistics.gamma import (
    AutocorrelationFunction,
    Estimate,
    autocorrelation,
    derived,
    gamma_method,
    ratio,
    reweighted,
)
from lattice_flows.statistics.weights import (
    ValueWithError,
    effective_sample_size,
    is_reliable,
    largest_weight_share,
    log_partition,
    pareto_k,
    weighted_mean,
)

__all__ = [
    "AutocorrelationFunction",
    "ChiSquared",
    "Estimate",
    "ValueWithError",
    "autocorrelation",
    "chi_squared",
    "count_changes",
    "covariance_of_means",
    "derived",
    "effective_sample_size",
    "gamma_method",
    "is_reliable",
    "largest_weight_share",
    "log_partition",
    "pareto_k",
    "pull",
    "r_hat",
    "ratio",
    "reweighted",
    "weighted_mean",
]
