"""Swaps of configurations between chains in neighbouring windows, within each set of n_windows consecutive chains.

Chains stay in their windows, and configurations travel from window to window. Chains beyond the last whole set swap
nothing.
"""

from typing import NamedTuple

import numpy as np

from lattice_flows.kernels.random import uniforms
from lattice_flows.samplers.biased_chains import Bias, Chains
from lattice_flows.samplers.exchange import Counts, Trips, acceptance, first_trips, travelled, tried_pairs
from lattice_flows.samplers.sampler import Array


class Swaps(NamedTuple):
    """The number of updates made so far (), the mean acceptance of the last swaps in the set of each chain (B,), and
    the trips of the configurations of every set, from its first window to its last one and back."""

    n_updates: Counts
    acceptance: Array
    trips: Trips


def first_swaps(n_chains: int, n_windows: int) -> Swaps:
    """The swaps at the start: none."""
    return Swaps(np.array(0), np.zeros(n_chains), first_trips(n_chains // n_windows, n_windows))


def swapped(chains: Chains, bias: Bias, swaps: Swaps, n_windows: int, n_rounds: int) -> tuple[Chains, Swaps]:
    """The chains after n_rounds rounds and one more, of the pairs whose turn it is.

    Chains b and c swap with the probability min(1, exp(V_b(s_b) + V_c(s_c) - V_b(s_c) - V_c(s_b))), S drops out. Every
    chain draws one number, whether its turn or not, and a pair takes that of its first chain: a set does not know of
    others.
    """
    x, action, s, streams = chains
    u, streams = uniforms(streams, 1)  # (B, 1)
    first = np.arange(0, len(s) - n_windows + 1, n_windows)[:, None]  # (sets, 1)
    pairs = first + np.array(tried_pairs(n_rounds, n_windows))  # (sets, pairs), the first chain of each
    probability = acceptance(_gain(bias, s, pairs.ravel())).reshape(pairs.shape)
    lower = pairs[u[pairs, 0] < probability]
    source = np.arange(len(s))  # of the configuration that each chain has afterwards
    source[lower], source[lower + 1] = lower + 1, lower
    trips = travelled(swaps.trips, source[: first.size * n_windows].reshape(-1, n_windows) - first)
    mean = swaps.acceptance.copy()
    mean[: first.size * n_windows] = np.repeat(probability.mean(axis=1), n_windows)
    return (x[source], action[source], s[source], streams), Swaps(swaps.n_updates, mean, trips)


def _gain(bias: Bias, s: Array, lower: Counts) -> Array:
    """V_b(s_b) + V_c(s_c) - V_b(s_c) - V_c(s_b) for the chains b in `lower` and c = b + 1."""
    upper = lower + 1
    below, above = bias._replace(values=bias.values[lower]), bias._replace(values=bias.values[upper])
    return (below.at(s[lower]) - below.at(s[upper])) + (above.at(s[upper]) - above.at(s[lower]))


def trips_of_chains(before: Trips, after: Trips, n_chains: int) -> Counts:
    """The round trips completed in each set, (B,): they stand with its first chain."""
    n_sets, n_windows = after.replica.shape
    trips = np.zeros(n_chains, dtype=np.int64)
    trips[: n_sets * n_windows : n_windows] = after.round_trips - before.round_trips
    return trips
