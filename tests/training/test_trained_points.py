"""Flows trained for a few seconds: what they sample, reweighted or in a chain, is the target whatever their quality."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import trained_hybrid, trained_tree
from numpy.typing import NDArray

from lattice_flows.flows import Flow
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import FlowMetropolis
from lattice_flows.statistics import effective_sample_size, gamma_method, log_partition, reliability, weighted_mean
from lattice_flows.theories import Action, ImprovedU1, WilsonU1
from lattice_flows.theories.u1.kernels.fields import mean_plaquette, topological_charge

Known = dict[str, tuple[float, float]]  # value and error by name
Shape = tuple[int, int]
POSITIVE, NEGATIVE = ImprovedU1(6.0, 1.0 / 12.0), ImprovedU1(3.0, -1.0 / 12.0)
CHARGES = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class Point:
    """A trained flow, its target, and what is known of that."""

    name: str
    action: Action
    shape: Shape
    build: Callable[[], Flow]
    known: Callable[[], Known]


def _closed_form(action: WilsonU1 | ImprovedU1, shape: Shape) -> Known:
    exact = action.closed_forms(shape)
    assert exact is not None
    shares = exact.charge_distribution(max(CHARGES))
    values = {"plaquette": exact.plaquette, "Q^2": exact.charge_squared, "log Z": exact.log_z}
    values |= {f"P({q})": float(share) for q, share in zip(CHARGES, shares, strict=True)}
    return {name: (value, 0.0) for name, value in values.items()}


def _tree(conditioner: str, shape: Shape) -> Point:
    return Point(
        f"{conditioner} {shape[0]}x{shape[1]}",
        WilsonU1(2.0),
        shape,
        lambda: trained_tree(shape, 2.0, conditioner, 150 if conditioner == "mlp" else 40),
        lambda: _closed_form(WilsonU1(2.0), shape),
    )


POINTS = [
    *(_tree(conditioner, shape) for conditioner in ("mlp", "structured") for shape in ((8, 8), (6, 10))),
    Point(
        "hybrid 4x4",
        POSITIVE,
        (4, 4),
        lambda: trained_hybrid((4, 4), POSITIVE, 4.0),
        lambda: _closed_form(POSITIVE, (4, 4)),
    ),
    Point(
        "hybrid 8x8",
        POSITIVE,
        (8, 8),
        lambda: trained_hybrid((8, 8), POSITIVE, 4.0),
        lambda: _closed_form(POSITIVE, (8, 8)),
    ),
    Point(
        "hybrid 8x8, c1 < 0",
        NEGATIVE,
        (8, 8),
        lambda: trained_hybrid((8, 8), NEGATIVE, 3.4),
        lambda: _closed_form(NEGATIVE, (8, 8)),
    ),
]
EVERY = pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)


def _quantities(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Each (N,), of links (N, 2, L0, L1)."""
    charge = np.rint(topological_charge(x))
    shares = {f"P({q})": (charge == q).astype(float) for q in CHARGES}
    return {"plaquette": mean_plaquette(x), "Q^2": charge**2, **shares}


def _pulls(found: Known, known: Known) -> dict[str, float]:
    """Without charges that no sample has."""
    assert found.keys() <= known.keys()
    seen = {name: (value, error) for name, (value, error) in found.items() if value or known[name][0] > 1e-3}
    return {name: (value - known[name][0]) / math.hypot(error, known[name][1]) for name, (value, error) in seen.items()}


@EVERY
def test_reweighted_samples_have_the_known_values_and_log_z(point: Point, generator: torch.Generator) -> None:
    """And a coupling 3 % off is seen in what they are reweighted to, without a look at log Z."""
    flow, known = point.build(), point.known()
    x, log_q = flow.sample(12_000, generator)
    s = point.action(x).numpy()
    log_w = -s - log_q.numpy()
    assert reliability(log_w).log_z
    assert effective_sample_size(log_w).value < 0.99999  # there is something to reweight
    quantities = _quantities(x.numpy())
    found: Known = {name: weighted_mean(values, log_w) for name, values in quantities.items()}
    pulls = _pulls({**found, "log Z": log_partition(log_w)}, known)
    assert max(map(abs, pulls.values())) < 4.5, pulls
    wrong = _pulls({name: weighted_mean(values, log_w - 0.03 * s) for name, values in quantities.items()}, known)
    assert max(map(abs, wrong.values())) > 4.5, wrong


@EVERY
def test_flow_metropolis_has_the_known_distribution_of_charges(
    point: Point, generator: torch.Generator, seed: int
) -> None:
    """And an accept step 3 % off in beta is caught."""
    flow, known = point.build(), point.known()
    start = flow.sample(100, generator).x.numpy()

    def estimates(action: Action) -> Known:
        sampler = FlowMetropolis(action, flow, batch_size=1000)
        state, _ = sampler.step(sampler.init(start, make_streams(seed, "test", range(100))), 20)
        series = []
        for _ in range(120):
            state, _ = sampler.step(state, 1)
            series.append(_quantities(state.x))
        return {
            name: (estimate.value, estimate.error)
            for name in series[0]
            if (estimate := gamma_method(np.stack([one[name] for one in series]))).n_eff > 1000
        }

    pulls = _pulls(estimates(point.action), known)
    assert pulls.keys() >= {"plaquette", "Q^2", "P(-1)", "P(0)", "P(1)"}
    assert max(map(abs, pulls.values())) < 4.5, pulls
    wrong = _pulls(estimates(point.action.scaled(1.03)), known)
    assert max(map(abs, wrong.values())) > 4.5, wrong
