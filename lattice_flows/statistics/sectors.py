"""The topological sectors that an ensemble knows, and sums over them.

The charge is rounded to an integer here. A sector shown because it happens to hold many configurations would be shown
with too high a probability, so the sectors are chosen by what is expected in them.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lattice_flows.statistics.diagnostics import MIN_CHANGES
from lattice_flows.statistics.propagation import unit_weights
from lattice_flows.statistics.replicas import MIN_LENGTH, Array, Series, as_replicas, sizes_of, split_replicas

Charges: TypeAlias = list[NDArray[np.signedinteger]]
Distribution: TypeAlias = Callable[[int], Array]  # q_max -> P(Q), Q = -q_max ... q_max

FEWEST_IN_SECTOR = 100  # configurations of which a sector is estimated; where weighted, (sum w)^2 / sum w^2 of them
_FEWEST_SEEN = MIN_CHANGES // 2  # entries: where 20 and more were expected, fewer say that the expectation is wrong


def gaussian_distribution(charge_squared: float, q_max: int) -> Array:
    """P(Q) ~ exp(-Q^2 / (2 <Q^2>)) on the integers, for Q = -q_max ... q_max; all of it at Q = 0 if <Q^2> is 0."""
    q = np.arange(-q_max, q_max + 1)
    if charge_squared <= 0.0:
        return (q == 0).astype(np.float64)
    beyond = math.ceil(10.0 * math.sqrt(charge_squared)) + 1
    every = np.arange(-beyond, beyond + 1)
    return np.exp(-0.5 * q**2 / charge_squared) / float(np.exp(-0.5 * every**2 / charge_squared).sum())


def known_sectors(
    charges: Charges, weights: Sequence[Array], fewest: float, distribution: Distribution | None
) -> list[int]:
    """The charges whose probability can be estimated; see sector_probabilities. Weights have the mean 1.

    The weights within a sector are taken from the ensemble, from Q and -Q together: they tell how many configurations,
    or effective ones, make up one unit of weight, but not how often the sector was seen.
    """
    q_max = max(int(np.abs(c).max()) for c in charges)
    n_configs = sum(c.size for c in charges)
    counts, sums, squares = _both_signs(charges, weights, q_max)
    share = _share_from_within(sums) if distribution is None else distribution(q_max)[q_max:]
    with np.errstate(invalid="ignore", divide="ignore"):  # of sectors without weight
        weight = n_configs * share
        effective, entries = weight * sums / squares, weight * counts / sums * _rate_within(charges, counts)
    likely = np.flatnonzero((effective >= fewest) & (entries >= MIN_CHANGES))
    both = sorted({*(-likely).tolist(), *likely.tolist()})
    return [q for q in both if n_entries(charges, q) >= _FEWEST_SEEN]


def frequent_sectors(charges: Charges, weights: Sequence[Array], fewest: float) -> list[int]:
    """The charges with at least `fewest` effective configurations."""
    first, _, sums, squares = sums_by_charge(charges, weights)
    return [first + int(k) for k in np.flatnonzero((squares > 0) & (sums**2 >= fewest * squares))]


def n_entries(charges: Charges, q: int) -> int:
    """The number of times that a chain came to this charge from another."""
    return sum(int(np.count_nonzero((c[1:] == q) & (c[:-1] != q))) for c in charges)


def integer_charges(charge: Series) -> Charges:
    """The replicas of the charge, rounded; integers are taken as they are."""
    if isinstance(charge, list) and all(isinstance(c, np.ndarray) and c.dtype.kind == "i" for c in charge):
        split_replicas(charge[:1] if all(c.ndim == 1 and c.size >= MIN_LENGTH for c in charge) else charge)
        return charge
    return [np.rint(replica).astype(np.int32) for replica in as_replicas(charge)]


def charges_and_weights(charge: Series, log_w: Series | None) -> tuple[Charges, Sequence[Array]]:
    """The charges, and weights of mean 1, which take no memory if all are equal."""
    charges = integer_charges(charge)
    if log_w is None:
        return charges, [np.broadcast_to(1.0, c.size) for c in charges]
    weights = unit_weights(log_w)
    require_same_configurations(charges, weights)
    return charges, weights


def require_same_configurations(charges: Charges, values: Sequence[Array]) -> None:
    """Raise ValueError if the shapes differ."""
    if [c.size for c in charges] != sizes_of(values):
        raise ValueError("the charge, log_w and series must be given for the same configurations")


def charge_range(charges: Charges) -> tuple[int, int]:
    """The lowest and the highest charge."""
    return min(int(c.min()) for c in charges), max(int(c.max()) for c in charges)


def sums_by_charge(charges: Charges, weights: Sequence[Array]) -> tuple[int, Array, Array, Array]:
    """The lowest charge, and from there on the configurations, sum w and sum w^2 of every charge."""
    first, last = charge_range(charges)
    n = last - first + 1
    counts, sums, squares = np.zeros((3, n))
    for c, w in zip(charges, weights):
        k = c - first
        found = np.bincount(k, minlength=n)
        counts += found
        is_one_weight = w.strides == (0,)
        sums += found * w[0] if is_one_weight else np.bincount(k, w, minlength=n)
        squares += found * w[0] ** 2 if is_one_weight else np.bincount(k, w**2, minlength=n)
    return first, counts, sums, squares


def _both_signs(charges: Charges, weights: Sequence[Array], q_max: int) -> Array:
    """Configurations, sum w and sum w^2 of Q and -Q together, (3, q_max + 1)."""
    _, *sums = sums_by_charge([np.abs(c) for c in charges], weights)
    found = np.zeros((3, q_max + 1))
    found[:, -len(sums[0]) :] = sums  # the highest |Q| is there, the lowest need not
    return found


def _share_from_within(sums: Array) -> Array:
    """P(Q) that a Gaussian gives to Q = 0 ... q_max, of the width of the smaller charges alone for |Q| > 1.

    sums: the weight of Q and -Q together. That of |Q| itself is left out, or it would vouch for itself.
    """
    squares = np.arange(sums.size) ** 2.0
    share = gaussian_distribution(float(squares @ sums / sums.sum()), sums.size - 1)[sums.size - 1 :]
    for k in range(2, sums.size):
        inside = float(sums[:k].sum())
        base = _gaussian_base(float(squares[:k] @ sums[:k]) / inside, k) if inside > 0 else 0.0
        share[k] = inside / sums.sum() * base ** squares[k] / _terms(base, k).sum()
    return share


def _gaussian_base(mean_square: float, k: int) -> float:
    """x in [0, 1] for which P(Q) ~ x^(Q^2) on |Q| < k has this <Q^2>; 1 if it is that of equal P(Q) or more."""
    squares = np.arange(k) ** 2.0

    def excess(x: float) -> float:
        return float(squares @ _terms(x, k) / _terms(x, k).sum()) - mean_square

    return 1.0 if excess(1.0) <= 0.0 else float(brentq(excess, 0.0, 1.0))


def _terms(x: float, k: int) -> Array:
    """x^(Q^2) of Q and -Q together, |Q| < k."""
    return np.where(np.arange(k) > 0, 2.0, 1.0) * x ** (np.arange(k) ** 2.0)


def _rate_within(charges: Charges, counts: Array) -> Array:
    """Changes per configuration among the charges smaller than |Q| = 0 ... q_max; among all for |Q| < 2."""
    moves = np.zeros(counts.size)
    for c in charges:
        ends = np.maximum(np.abs(c[1:]), np.abs(c[:-1]))[c[1:] != c[:-1]]
        moves += np.bincount(ends, minlength=counts.size)
    k = np.arange(counts.size)
    last = np.where(k > 1, k - 1, counts.size - 1)
    return np.cumsum(moves)[last] / np.cumsum(counts)[last]
