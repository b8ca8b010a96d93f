"""Errors that account for autocorrelation, weights and how far to trust them, tests of agreement. No torch here."""

from lattice_flows.statistics.diagnostics import (
    MIN_CHANGES,
    ChiSquared,
    chi_squared,
    count_changes,
    count_crossings,
    covariance_of_means,
    pull,
    r_hat,
)
from lattice_flows.statistics.gamma import AutocorrelationFunction, Estimate, autocorrelation, gamma_method
from lattice_flows.statistics.mbar import N_BLOCKS, JoinedWindows, Mbar, mbar
from lattice_flows.statistics.propagation import (
    derived,
    derived_reweighted,
    jackknife_over_chains,
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
    "MIN_CHANGES",
    "N_BLOCKS",
    "AutocorrelationFunction",
    "ChiSquared",
    "Estimate",
    "JoinedWindows",
    "Mbar",
    "ValueWithError",
    "autocorrelation",
    "chi_squared",
    "count_changes",
    "count_crossings",
    "covariance_of_means",
    "derived",
    "derived_reweighted",
    "effective_sample_size",
    "gamma_method",
    "is_reliable",
    "jackknife_over_chains",
    "largest_weight_share",
    "log_partition",
    "mbar",
    "pareto_k",
    "pull",
    "r_hat",
    "ratio",
    "reweighted",
    "weighted_mean",
]
