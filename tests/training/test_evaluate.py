"""Weights of fresh samples against the exact partition function."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import projection_flow, spline_flow
from scipy.special import ive

from lattice_flows.flows import Flow
from lattice_flows.statistics import log_partition
from lattice_flows.theories import WilsonU1
from lattice_flows.training import evaluate


def _log_z(beta: float, n_sites: int) -> float:
    """-beta V + log sum_n I_n(beta)^V; ive carries the factor e^-beta."""
    return math.log(sum(ive(n, beta) ** n_sites for n in range(-60, 61)))


@pytest.mark.parametrize("build", [projection_flow, spline_flow])
def test_mean_weight_is_the_partition_function(build: Callable[..., Flow], generator: torch.Generator) -> None:
    """Whatever the flow. 1 % of beta is seen."""
    beta = 0.25
    flow = build((4, 4))
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.02)
    log_w = evaluate(flow, WilsonU1(beta), 12_000, generator, batch=1000)
    assert log_w.shape == (12_000,)
    assert log_w.dtype == np.float64
    value, error = log_partition(log_w)
    assert abs(value - _log_z(beta, 16)) < 4 * error
    assert abs(value - _log_z(1.01 * beta, 16)) > 2 * error


def test_samples_do_not_depend_on_the_batch_beyond_order_of_draws(seed: int) -> None:
    flow, action = projection_flow((4, 4)), WilsonU1(1.0)
    one, other = (evaluate(flow, action, 50, torch.Generator().manual_seed(seed), batch=batch) for batch in (50, 32))
    np.testing.assert_allclose(one, other, atol=1e-9)
