"""log Z from both sides: by samples of flows and by chains of the target."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lattice_flows.statistics.gamma import gamma_method
from lattice_flows.statistics.replicas import Series
from lattice_flows.statistics.weights import ValueWithError, log_partition


class Interval(NamedTuple):
    """lower = <log w>_q = log Z - KL(q|p) and upper = <log w>_p = log Z + KL(p|q), which enclose log Z."""

    lower: ValueWithError
    upper: ValueWithError


class Difference(NamedTuple):
    """A free energy difference F_2 - F_1 = log Z_1 - log Z_2, as weights tell it and as divergences do."""

    exact: ValueWithError
    by_divergences: ValueWithError


def log_z_interval(forward: ArrayLike, backward: Series) -> Interval:
    """The interval that contains log Z, up to the errors of its ends (Jensen's inequality; no weight is exponentiated).

    forward: log w = -S - log q of independent samples of the flow, (n,), n >= 2.
    backward: log w of configurations of the target, along its chains, as for gamma_method, whose error it has.

    The width estimates KL(q|p) + KL(p|q), so a wide interval is a poor flow. `bennett(forward, backward)` is log Z
    itself from the same two series: its variance is the least of all estimates from both (C. H. Bennett, J. Comput.
    Phys. 22 (1976) 245).

    Raises what gamma_method raises, and ValueError for fewer than 2 samples or values that are not finite: a sample of
    zero weight makes the lower end -inf.
    """
    below, above = _mean(forward, "forward"), gamma_method(backward)
    return Interval(below, ValueWithError(above.value, above.error))


def flow_difference(log_w_1: ArrayLike, log_w_2: ArrayLike) -> Difference:
    """F_2 - F_1 of two targets, each with a flow of its own: log w (n,) of independent samples of both flows.

    exact: log mean w_1 - log mean w_2.
    by_divergences: J_KL^2 - J_KL^1 with J_KL = <log q + S>_q = F + KL(q|p), the difference of the losses of both
        trainings. It is off by KL(q_2|p_2) - KL(q_1|p_1), which is the difference of the two, and which more samples do
        not reduce: only equally good flows cancel it. It has the smaller error where weights are uneven.

    Raises ValueError for fewer than 2 samples or values that are not finite.
    """
    means, exact = [], []
    for name, log_w in (("log_w_1", log_w_1), ("log_w_2", log_w_2)):
        means.append(_mean(log_w, name))
        exact.append(log_partition(log_w))
    return Difference(_less(exact[0], exact[1]), _less(means[0], means[1]))


def log_z_by_integration(slopes: Sequence[Series], weights: ArrayLike) -> ValueWithError:
    """log Z_1 - log Z_0 = -int_0^1 dt <dS/dt>_t along S_t, thermodynamic integration (J. G. Kirkwood, J. Chem. Phys. 3
    (1935) 300).

    slopes: for each node t the series of dS/dt along its chains, as for gamma_method; S_1 - S_0 on the way of
        `Action.toward`, S_t = (1 - t) S_0 + t S_1.
    weights: (K,), of the rule of integration, see `gauss_legendre` and `trapezoidal`.

    The error is that of the averages; what the rule is off by is not in it: compare with another number of nodes.
    Raises what gamma_method raises, and ValueError unless there is a weight for each node.
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or w.size == 0 or len(slopes) != w.size:
        raise ValueError(f"give a weight for each node: got {len(slopes)} nodes and weights of shape {w.shape}")
    found = [gamma_method(series) for series in slopes]
    value = -sum(weight * one.value for weight, one in zip(w.tolist(), found))
    return ValueWithError(value, float(np.hypot.reduce([weight * one.error for weight, one in zip(w, found)])))


def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n >= 1 nodes t in (0, 1), ascending, and their weights: exact for polynomials up to degree 2 n - 1."""
    if n < 1:
        raise ValueError(f"a rule needs at least 1 node, got {n}")
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def trapezoidal(nodes: ArrayLike) -> np.ndarray:
    """The weights of two or more ascending nodes."""
    t = np.asarray(nodes, dtype=np.float64)
    if t.ndim != 1 or t.size < 2 or not (np.diff(t) > 0).all():
        raise ValueError(f"nodes must be two or more ascending numbers, got {t.tolist()}")
    halves = 0.5 * np.diff(t)
    return np.concatenate([halves, [0.0]]) + np.concatenate([[0.0], halves])


def _mean(log_w: ArrayLike, name: str) -> ValueWithError:
    values = np.asarray(log_w, dtype=np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"{name} must be (n,) with n >= 2 finite log weights, got the shape {values.shape}")
    return ValueWithError(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def _less(one: ValueWithError, other: ValueWithError) -> ValueWithError:
    return ValueWithError(one.value - other.value, float(np.hypot(one.error, other.error)))
