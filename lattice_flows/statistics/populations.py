"""Populations of weighted particles, as of sequential Monte Carlo: independent, while the particles of one are not.

Consecutive chains are the particles of a population, and each configuration is a new one. The mean of w over it is an
unbiased estimate of Z, and the mean of w O one of Z <O>: these are what averages and their errors are made of.
"""

from collections.abc import Sequence

import numpy as np

from lattice_flows.statistics.replicas import Array, LazyReplicas, sizes_of

FEWEST_POPULATIONS = 20
"""That tell an error: to a sixth of it, from their spread."""


def population_log_w(log_w: Array, n_particles: int) -> Array:
    """The log of the mean weight of every population, (n, n_chains / n_particles), of log weights (n, n_chains).

    Raises ValueError where the chains are no whole populations.
    """
    if n_particles == 1:
        return log_w
    if log_w.shape[1] % n_particles:
        raise ValueError(f"{log_w.shape[1]} chains are not whole populations of {n_particles}")
    sets = log_w.reshape(len(log_w), -1, n_particles)
    largest = sets.max(axis=2, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)  # all of no weight: log 0 below
    with np.errstate(divide="ignore"):
        return (shift + np.log(np.exp(sets - shift).mean(axis=2, keepdims=True)))[:, :, 0]


def population_means(replicas: Sequence[Array], n_particles: int) -> Sequence[Array]:
    """One replica for each set of chains, of the means over its particles.

    Raises ValueError where the chains are no whole populations.
    """
    if n_particles == 1:
        return replicas
    sizes = sizes_of(replicas)
    if len(sizes) % n_particles:
        raise ValueError(f"{len(sizes)} chains are not whole populations of {n_particles}")

    def mean(k: int) -> Array:
        particles = [replicas[number] for number in range(k * n_particles, (k + 1) * n_particles)]
        return np.asarray(np.mean(particles, axis=0), dtype=np.float64)

    return LazyReplicas(sizes[::n_particles], mean)
