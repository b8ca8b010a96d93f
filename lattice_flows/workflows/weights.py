"""What weights say of themselves, as summary.json holds it."""

from typing import Any

import numpy as np

from lattice_flows.statistics import (
    MAX_PARETO_K,
    MIN_EFFECTIVE_SAMPLES,
    effective_sample_size,
    gamma_method,
    is_reliable,
    largest_weight_share,
    log_partition,
    pareto_k,
)
from lattice_flows.workflows.replicas import LOG_W, Replicas

Summary = dict[str, Any]


def weights_summary(log_w: np.ndarray) -> Summary:
    """ESS, log Z and how far to trust them, from weights of independent samples (m,); not-a-number counts as zero."""
    log_w = np.nan_to_num(log_w, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    ess, log_z = effective_sample_size(log_w), log_partition(log_w)
    reliable = is_reliable(log_w)
    k = pareto_k(log_w)
    text = f"weights are unreliable: ESS * N = {ess.value * log_w.size:.0f}, Pareto k-hat = {k:.2f}"
    return {
        "ess": ess.value,
        "ess_error": ess.error,
        "log_z": log_z.value,
        "log_z_error": log_z.error,
        "n_samples": log_w.size,
        "pareto_k": k,
        "largest_weight_share": largest_weight_share(log_w),
        "reliable": reliable,
        "warnings": [] if reliable else [text],
    }


def reweighting_summary(group: Replicas) -> Summary:
    """How far chains overlap with the target that they are reweighted to.

    n_effective is ESS * N over the 2 tau_int of log w: correlated configurations do not fill the tail of the weights
    that their number promises. tau_int of w itself would hide just that.
    """
    chains = group.series(LOG_W)
    figures = weights_summary(np.concatenate(chains))
    tau_int = _tau_int(chains)
    n_effective = figures["ess"] * figures["n_samples"] / (2.0 * tau_int)
    return {
        "from": group.sampled_theory,
        "ess": figures["ess"],
        "ess_error": figures["ess_error"] * np.sqrt(2.0 * tau_int),
        "n_samples": figures["n_samples"],
        "n_effective": n_effective,
        "pareto_k": figures["pareto_k"],
        "largest_weight_share": figures["largest_weight_share"],
        "reliable": bool(n_effective >= MIN_EFFECTIVE_SAMPLES and figures["pareto_k"] <= MAX_PARETO_K),
    }


def _tau_int(log_w: list[np.ndarray]) -> float:
    """Of log weights; 1/2 where they are all equal or where some are of weight zero, as of independent samples."""
    if not all(np.isfinite(chain).all() for chain in log_w) or np.ptp(np.concatenate(log_w)) == 0:
        return 0.5
    tau_int = gamma_method(log_w).tau_int
    return max(0.5, tau_int) if np.isfinite(tau_int) else float(min(map(len, log_w)))
