"""The weights of a scalar theory by the sign of the magnetisation, its two sectors."""

import numpy as np

from lattice_flows.estimates.replicas import LOG_W, Replicas
from lattice_flows.estimates.summary_types import SignShare
from lattice_flows.estimates.weights import log_w_tau_int, part_summary
from lattice_flows.samplers import windows_of
from lattice_flows.statistics import MIN_LENGTH_OF_SECTORS, reweighted

_MAGNETISATION = "magnetisation"


def signs_summary(group: Replicas) -> list[SignShare] | None:
    """A row for M > 0 and one for M < 0; None for an ensemble of equal weights, of populations, whose weights are not
    those of independent samples, or without a magnetisation.

    By Z2 symmetry each sign has half of the weight. A flow that describes one of two phases well and the other badly
    has shares that differ, or a much smaller ESS in one of them.
    """
    of_samples = group.weighted and not group.populations
    if not of_samples or not group.has(_MAGNETISATION) or windows_of(group.sampler):
        return None
    magnetisation, log_w = group.together(_MAGNETISATION, LOG_W)
    if min(map(len, log_w)) < MIN_LENGTH_OF_SECTORS or not np.isfinite(max(chain.max() for chain in log_w)):
        return None
    tau_int = log_w_tau_int(log_w)
    rows = [_row(sign, [np.sign(chain) == sign for chain in magnetisation], log_w, tau_int) for sign in (1, -1)]
    return [row for row in rows if row is not None]


def _row(sign: int, here: list[np.ndarray], log_w: list[np.ndarray], tau_int: float) -> SignShare | None:
    """The row of one sign, or None if it has no weight."""
    share = reweighted([inside.astype(np.float64) for inside in here], log_w)
    if not share.value > 0:
        return None
    part = np.concatenate([chain[inside] for chain, inside in zip(log_w, here)])
    return {
        "sign": sign,
        "share": share.value,
        "share_error": share.error,
        "exact": 0.5,
        **part_summary(part, tau_int),
    }
