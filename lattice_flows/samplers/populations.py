"""Populations of weighted particles: consecutive chains that are drawn anew by their weights on their way."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.random import split_streams, uniforms
from lattice_flows.samplers.flow_samples import FlowSamplesInfo
from lattice_flows.samplers.sampler import Array, Streams
from lattice_flows.theories.action import Field, Shape

_MOST_PARTICLES = 100_000


class PopulationState(NamedTuple):
    """x (B, *event), and the random streams (B, 2), whose counters are the number of populations."""

    x: Field
    streams: Streams


def check_population(n_particles: int, resample_below: float) -> None:
    """Raise ValueError for what makes no population."""
    if not 2 <= n_particles <= _MOST_PARTICLES:
        raise ValueError(f"n_particles must be between 2 and {_MOST_PARTICLES}, got {n_particles}")
    if not 0 <= resample_below <= 1:
        raise ValueError(f"resample_below must be between 0 and 1, got {resample_below}")


def next_populations(
    state: PopulationState, n_updates: int, samples: Callable[[Streams, Shape], tuple[Field, Array]]
) -> tuple[PopulationState, FlowSamplesInfo]:
    """The state after n_updates new populations of every set of chains, of which the last one is kept.

    samples: x (B, *event) and log w (B,) of new populations, from streams (B, 2) and the shape `event`.
    """
    x, streams = state
    log_w = np.empty((n_updates, len(x)))
    for update in range(n_updates):
        x, log_w[update] = samples(split_streams(streams, int(streams[0, 1])), x.shape[1:])
        streams = streams + np.array([0, 1], dtype=np.uint64)
    return PopulationState(x, streams), FlowSamplesInfo(log_w[-1], log_w)


def each_population(n_chains: int, n_particles: int) -> Iterator[slice]:
    """The chains of each population; the last one may have fewer."""
    for first in range(0, n_chains, n_particles):
        yield slice(first, min(first + n_particles, n_chains))


def uneven(log_w: Array, below: float) -> bool:
    """Whether the effective number of particles is below this share of them, where any of them has a weight at all."""
    weighted = without_nan(log_w)
    return bool(weighted.max() > -np.inf) and n_effective(weighted) < below * len(log_w)


def without_nan(log_w: Array) -> Array:
    """The log weights, with -inf in the place of nan: a particle whose S or log q is no number has the weight zero."""
    return np.where(np.isnan(log_w), -np.inf, log_w)


def n_effective(log_w: Array) -> float:
    """(sum w)^2 / sum w^2 of log weights (n,)."""
    w = np.exp(log_w - log_w.max())
    return float(w.sum() ** 2 / (w @ w))


def redrawn(log_w: Array, chance: Streams) -> tuple[NDArray[np.intp], Array]:
    """`resampled` with what is random in it from the first of the particles' streams (n, 2)."""
    u, _ = uniforms(chance[:1], 1)
    return resampled(without_nan(log_w), float(u[0, 0]))


def resampled(log_w: Array, u: float) -> tuple[NDArray[np.intp], Array]:
    """The ancestors (n,) of n particles drawn by their log weights (n,), and the new log weights: all the log mean.

    Systematic: each particle is drawn n w / sum w times, rounded up or down, by one u, uniform in (0, 1). No particle
    of weight zero is drawn.
    """
    n, largest = len(log_w), log_w.max()
    sums = np.cumsum(np.exp(log_w - largest))
    ancestors = np.searchsorted(sums / sums[-1], (u + np.arange(n)) / n)
    return ancestors, np.full(n, largest + np.log(sums[-1] / n))
