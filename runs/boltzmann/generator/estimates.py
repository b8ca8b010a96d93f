"""log Z, the probability of the basin and free energies by each method, beside what quadrature gives."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from generator.finished import Finished
from generator.systems import Array, Mask

from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.statistics.free_energy import bennett
from lattice_flows.statistics.gamma import gamma_method
from lattice_flows.statistics.profiles import by_weights, region_difference
from lattice_flows.statistics.propagation import derived, derived_reweighted
from lattice_flows.statistics.two_sides import flow_difference, log_z_interval
from lattice_flows.statistics.weights import ValueWithError

COLUMNS = ("| quantity | method | value | exact | pull |", "|---|---|---|---|---|")


class Row(NamedTuple):
    """A line of the table; `exact` is None where the value is a bound or no estimate of it."""

    quantity: str
    method: str
    found: ValueWithError
    exact: float | None

    def __str__(self) -> str:
        value, error = self.found
        shown = f"{value:.5f} +- {error:.5f}"
        if self.exact is None:
            return f"| {self.quantity} | {self.method} | {shown} | | |"
        return f"| {self.quantity} | {self.method} | {shown} | {self.exact:.6f} | {(value - self.exact) / error:+.1f} |"


def rows_of(run: Finished) -> Iterator[str]:
    """The lines of the table, and below it what the run cost."""
    for row in (*_log_z(run), *_probability(run), *_difference(run)):
        yield str(row)
    ess = effective_sample_size(run.log_w)
    seconds = {name: entry["seconds"] for name, entry in run.summary["ensembles"].items()}
    seconds["training"] = run.summary["flow"]["train_seconds"]
    yield f"\nESS {ess.value:.4f} +- {ess.error:.4f} of {len(run.log_w)} samples\n"
    yield "| | evaluations of S or its force | seconds |\n|---|---|---|"
    for name, n in run.evaluations.items():
        yield f"| {name} | {n:.3g} | {seconds[name]:.1f} |"


def _log_z(run: Finished) -> Iterator[Row]:
    exact = run.system.action.closed_forms(()).log_z
    lower, upper = log_z_interval(run.log_w, run.chain_log_w)
    yield Row("log Z", "lower end, log Z - KL(q\\|p)", lower, None)
    yield Row("log Z", "upper end, log Z + KL(p\\|q)", upper, None)
    yield Row("log Z", "weights", log_partition(run.log_w), exact)
    found = bennett(run.log_w, run.chain_log_w)
    yield Row("log Z", "both sides (BAR)", ValueWithError(found.value, found.error), exact)


def _probability(run: Finished) -> Iterator[Row]:
    exact, name = run.system.action.closed_forms(()).basin_probability, f"P({run.system.basin})"
    inside = run.system.inside
    for method, found in (
        ("weights", derived_reweighted(_mean, run.log_w[:, None], inside(run.samples)[:, None].astype(float))),
        ("flow_metropolis", gamma_method(inside(run.chain).astype(float))),
        ("tempering", gamma_method(inside(run.yardstick).astype(float))),
    ):
        yield Row(name, method, ValueWithError(found.value, found.error), exact)


def _difference(run: Finished) -> Iterator[Row]:
    """F of the basin less F of the rest, in kT."""
    p = run.system.action.closed_forms(()).basin_probability
    exact, name, inside = math.log((1.0 - p) / p), "Delta F", run.system.inside
    at = inside(run.samples)
    weighted = by_weights(run.log_w[:, None])
    yield Row(name, "weights", region_difference(*_regions(at[:, None]), weighted), exact)
    for method, chain in (("flow_metropolis", run.chain), ("tempering", run.yardstick)):
        yield Row(name, method, region_difference(*_regions(inside(chain)), derived), exact)
    yield Row(name, "J_KL of the basin less that of the rest", _by_losses(run.log_w, at), exact)


def _regions(at: Mask) -> tuple[Array, Array]:
    """The indicators of the rest and of the basin: F of the second less F of the first is log(P_rest / P_basin)."""
    return (~at).astype(float), at.astype(float)


def _by_losses(log_w: Array, at: Mask) -> ValueWithError:
    """The flow restricted to a state is a flow of that state, q / Q there with Q its share of the samples: its loss is
    J_KL = <log q - log Q + S> = F + KL. The difference of two is off by that of their divergences.
    """
    share = at.mean()
    found = flow_difference(log_w[~at] + math.log(1.0 - share), log_w[at] + math.log(share)).by_divergences
    of_share = 1.0 / math.sqrt(len(at) * share * (1.0 - share))
    return ValueWithError(found.value, float(np.hypot(found.error, of_share)))


def _mean(p: float) -> float:
    return p
