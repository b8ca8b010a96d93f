"""The quality of a flow, measured by fresh samples and by configurations that it did not make."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.flows import Flow
from lattice_flows.statistics import effective_sample_size, largest_weight_share, log_partition
from lattice_flows.statistics.weights import ValueWithError
from lattice_flows.theories.action import Action
from lattice_flows.training.evaluate import evaluate, evaluate_on
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.source import Source

_UNKNOWN = ValueWithError(math.nan, math.nan)


@dataclass(frozen=True)
class Validation:
    """The figures of a validation with their errors. `lower` = <log w>_q = log Z - KL(q|p) and, where there are data,
    `upper` = <log w>_p = log Z + KL(p|q) enclose log Z; `upper` is None without data.
    """

    finite: bool  # all log weights of the samples; the other figures are nan where they are not
    n_samples: int
    ess: ValueWithError
    largest_share: float  # of a single weight
    log_z: ValueWithError
    lower: ValueWithError
    upper: ValueWithError | None


def validate(
    flow: Flow,
    action: Action,
    n: int,
    generator: torch.Generator,
    dtype: torch.dtype,
    data: Source | None = None,
    ranks: Ranks = ALONE,
) -> Validation:
    """Validate by n >= 2 fresh samples, and by n configurations of `data` that the flow did not learn from."""
    log_w = evaluate(flow, action, n, generator, dtype=dtype, ranks=ranks)
    upper = None
    if data is not None:
        upper = _mean(evaluate_on(flow, action, data.draw(n, generator), dtype=dtype, ranks=ranks))
    if not np.isfinite(log_w).all():
        return Validation(False, n, _UNKNOWN, math.nan, _UNKNOWN, _UNKNOWN, upper)
    return Validation(
        finite=True,
        n_samples=n,
        ess=effective_sample_size(log_w),
        largest_share=largest_weight_share(log_w),
        log_z=log_partition(log_w),
        lower=_mean(log_w),
        upper=upper,
    )


def _mean(log_w: NDArray[np.float64]) -> ValueWithError:
    return ValueWithError(float(log_w.mean()), float(log_w.std(ddof=1)) / math.sqrt(log_w.size))
