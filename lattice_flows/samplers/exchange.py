"""Swaps of configurations between neighbouring rungs of a ladder of chains, and the trips of the replicas on it.

A rung is a sampler with a target of its own; replicas travel from rung to rung. Rung 0 has the target of the
whole sampler.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.samplers.sampler import Array, Sampler

Counts = NDArray[np.int64]

_OUTWARD, _HOMEWARD = 1, -1


class Trips(NamedTuple):
    """The positions and past trips of the replicas of each chain.

    replica (B, R): the replica on each rung. heading (B, R): for that replica, 1 if it was on rung 0 later than on the
    last one, -1 if it went from rung 0 to the last one and is not back, 0 if it has not been on rung 0.
    round_trips (B,): the number of returns of any replica from rung 0 via the last rung to rung 0.
    """

    replica: Counts
    heading: Counts
    round_trips: Counts


def first_trips(n_chains: int, n_rungs: int) -> Trips:
    """The trips at the start: replica k on rung k, no trip made."""
    heading = np.zeros((n_chains, n_rungs), dtype=np.int64)
    heading[:, 0] = _OUTWARD
    replica = np.tile(np.arange(n_rungs), (n_chains, 1))
    return Trips(replica, heading, np.zeros(n_chains, dtype=np.int64))


def travelled(trips: Trips, order: Counts) -> Trips:
    """The trips after rung k of chain b took over the replica of rung order[b, k]; order (B, R)."""
    chains = np.arange(len(order))[:, None]  # (B, 1)
    replica, heading = trips.replica[chains, order], trips.heading[chains, order]
    back = heading[:, 0] == _HOMEWARD
    heading[:, 0] = _OUTWARD
    heading[heading[:, -1] == _OUTWARD, -1] = _HOMEWARD
    return Trips(replica, heading, trips.round_trips + back)


def tried_pairs(n_rounds: int, n_rungs: int) -> range:
    """The lower rungs of the pairs that swap after n_rounds rounds: even ones and odd ones in turn.

    This order is not reversible, but keeps a replica on its way: round trips take a time of order R where random pairs
    need R^2 (arXiv:1905.02939, section 3). The one pair of two rungs is tried every time.
    """
    return range(n_rounds % 2 if n_rungs > 2 else 0, n_rungs - 1, 2)


def swap_gain(lower: Sampler, upper: Sampler, lower_state: Any, upper_state: Any) -> Array:
    """S_l(x_l) + S_u(x_u) - S_l(x_u) - S_u(x_l) of each chain, (B,), with the targets of two rungs at their states."""
    x, y = lower_state.x, upper_state.x
    of_lower = lower.target(lower_state, x) - lower.target(lower_state, y)
    return of_lower + (upper.target(upper_state, y) - upper.target(upper_state, x))


def acceptance(gain: Array) -> Array:
    """min(1, exp(gain)); a gain that is not a number is never accepted."""
    return np.exp(np.where(gain < 0, gain, np.where(gain >= 0, 0.0, -np.inf)))


def exchanged(x: Array, y: Array, swap: NDArray[np.bool_]) -> tuple[Array, Array]:
    """x and y (B, *event), swapped in the chains where `swap` (B,) holds."""
    mask = swap.reshape(-1, *([1] * (x.ndim - 1)))  # (B, 1, ...)
    return np.where(mask, y, x), np.where(mask, x, y)
