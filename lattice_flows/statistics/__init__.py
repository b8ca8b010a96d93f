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
from lattice_flows.statistics.free_energy import log_z_differences
from lattice_flows.statistics.gamma import AutocorrelationFunction, Estimate, autocorrelation, gamma_method
from lattice_flows.statistics.mbar import N_BLOCKS, JoinedWindows, Mbar, mbar
from lattice_flows.statistics.propagation import (
    derived,
    derived_reweighted,
    jackknife_over_chains,
    ratio,
    reweighted,
)
from lattice_flows.statistics.replicas import LazyReplicas, mapped, sizes_of
from lattice_flows.statistics.sectors import FEWEST_IN_SECTOR, gaussian_distribution
from lattice_flows.statistics.thermalisation import find_thermalisation, most_dropped
from lattice_flows.statistics.topology import (
    FixedCharge,
    SectorWeight,
    fixed_charge_extrapolation,
    forward_ess,
    is_resolved,
    sector_means,
    sector_probabilities,
    sector_weights,
    theta_dependence,
    tunnelling_rate,
)
from lattice_flows.statistics.weights import (
    MAX_PARETO_K,
    MIN_EFFECTIVE_SAMPLES,
    ValueWithError,
    effective_sample_size,
    is_reliable,
    largest_weight_share,
    log_partition,
    pareto_k,
    weighted_mean,
)

__all__ = [
    "FEWEST_IN_SECTOR",
    "MAX_PARETO_K",
    "MIN_CHANGES",
    "MIN_EFFECTIVE_SAMPLES",
    "N_BLOCKS",
    "AutocorrelationFunction",
    "ChiSquared",
    "Estimate",
    "FixedCharge",
    "JoinedWindows",
    "LazyReplicas",
    "Mbar",
    "SectorWeight",
    "ValueWithError",
    "autocorrelation",
    "chi_squared",
    "count_changes",
    "count_crossings",
    "covariance_of_means",
    "derived",
    "derived_reweighted",
    "effective_sample_size",
    "find_thermalisation",
    "fixed_charge_extrapolation",
    "forward_ess",
    "gamma_method",
    "gaussian_distribution",
    "is_reliable",
    "is_resolved",
    "jackknife_over_chains",
    "largest_weight_share",
    "log_partition",
    "log_z_differences",
    "mapped",
    "mbar",
    "most_dropped",
    "pareto_k",
    "pull",
    "r_hat",
    "ratio",
    "reweighted",
    "sector_means",
    "sector_probabilities",
    "sector_weights",
    "sizes_of",
    "theta_dependence",
    "tunnelling_rate",
    "weighted_mean",
]
