"""The quality of a flow, measured by fresh samples and by configurations that it did not make."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows import Flow, Proposer, reduced
from lattice_flows.statistics import effective_sample_size, largest_weight_share, log_partition
from lattice_flows.statistics.weights import ValueWithError
from lattice_flows.theories.action import Action
from lattice_flows.training.evaluate import evaluate, evaluate_on
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.source import Source

MAX_ROUND_TRIP = 1e-4  # an error of log w beyond is told
_TRIPS = 256  # samples, of those that a validation begins with

_UNKNOWN = ValueWithError(math.nan, math.nan)


@dataclass(frozen=True)
class Validation:
    """The figures of a validation with their errors. `lower` = <log w>_q = log Z - KL(q|p) and, where there are data,
    `upper` = <log w>_p = log Z + KL(p|q) enclose log Z; `upper` is None without data. For `round_trip` see there.
    """

    finite: bool  # no log weight is nan, and some weight is above 0; the other figures are nan otherwise
    n_samples: int
    ess: ValueWithError
    largest_share: float  # of a single weight
    log_z: ValueWithError
    lower: ValueWithError
    upper: ValueWithError | None
    round_trip: float | None


def validate(
    flow: Proposer,
    action: Action,
    n: int,
    generator: torch.Generator,
    dtype: torch.dtype,
    data: Source | None = None,
    ranks: Ranks = ALONE,
) -> Validation:
    """Validate by n >= 2 fresh samples, and by n configurations of `data` that the flow did not learn from."""
    error = round_trip(flow, action, min(n, _TRIPS), generator, ranks)
    log_w = evaluate(flow, action, n, generator, dtype=dtype, ranks=ranks)
    upper = None
    if data is not None:
        upper = _mean(evaluate_on(flow, action, data.draw(n, generator), generator, dtype=dtype, ranks=ranks))
    if not np.isfinite(log_w.max()):  # which is nan where one is
        return Validation(False, n, _UNKNOWN, math.nan, _UNKNOWN, _UNKNOWN, upper, error)
    return Validation(
        finite=True,
        n_samples=n,
        ess=effective_sample_size(log_w),
        largest_share=largest_weight_share(log_w),
        log_z=log_partition(log_w),
        lower=_mean(log_w),
        upper=upper,
        round_trip=error,
    )


def round_trip(
    flow: Proposer, action: Action, n: int, generator: torch.Generator, ranks: Ranks = ALONE
) -> float | None:
    """The largest difference of log q of n samples x, by the map and by its inverse at x, in double precision: what
    log w is off by where the map has become ill-conditioned, though every number is finite.

    It is infinite where the inverse is not finite, and None for a flow without one, as a stochastic one. The samples
    are those that `evaluate` begins with: the generator is left as it was.
    """
    same = torch.Generator(generator.device)
    same.set_state(generator.get_state())
    flow, _ = reduced(flow, action)
    if not isinstance(flow, Flow):
        return None
    z = flow.prior.sample(n, same)[ranks.rows(n)]
    try:
        own = _differences(flow, z).nan_to_num(nan=math.inf, posinf=math.inf)
    except NotImplementedError:
        return None
    return float(ranks.gathered(own, n).max())


def _differences(flow: Flow, z: Tensor) -> Tensor:
    """|log q - log q| of the images of z (n, *event) by map and inverse, (n,); n may be 0."""
    if len(z) == 0:
        return z.new_zeros(0)
    with torch.no_grad():
        x, log_q = flow.image(z)
        return (log_q - flow.log_prob(x)).abs()


def _mean(log_w: NDArray[np.float64]) -> ValueWithError:
    """-inf where a configuration has no weight."""
    if not np.isfinite(log_w).all():
        return ValueWithError(float(log_w.mean()), math.nan)
    return ValueWithError(float(log_w.mean()), float(log_w.std(ddof=1)) / math.sqrt(log_w.size))
