"""Free energies of chains at several values of one coupling, and of nonequilibrium paths, joined by MBAR."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lattice_flows.statistics.mbar import JoinedWindows
from lattice_flows.statistics.replicas import Array, Series, split_replicas
from lattice_flows.statistics.weights import ValueWithError

_NEVER = 1000.0  # exp of minus this is zero


def log_z_differences(energies: Sequence[Series], couplings: ArrayLike) -> list[ValueWithError]:
    """log Z of every coupling less that of the first, for targets exp(-coupling * energy).

    energies: for each coupling the series of the energy of its chains (S / beta of a Wilson action), each as for
        gamma_method; 20 configurations per chain or more.
    couplings: (K,), ascending, so that neighbours overlap.

    MBAR (arXiv:0801.1426) with the errors of `JoinedWindows`: blocks of a twentieth of a chain must be longer than the
    autocorrelation time of the energy. Raises ValueError for shapes that do not fit or fewer than two couplings, and
    RuntimeError where the energies do not overlap.
    """
    values = np.asarray(couplings, dtype=np.float64)
    chains = [split_replicas(series) for series in energies]
    if values.ndim != 1 or values.size < 2 or len(chains) != values.size:
        raise ValueError(f"give the energies of two couplings or more: got {len(chains)} for {values.size} couplings")
    means = np.array([np.concatenate(replicas).mean() for replicas in chains])
    # The trapezoidal rule for d(-log Z) / d coupling = <energy> is near the answer: from there MBAR finds it.
    near = np.concatenate([[0.0], np.cumsum(np.diff(values) * (means[1:] + means[:-1]) / 2)])
    biases = [np.multiply.outer(values - values[0], chain) - near[:, None] for replicas in chains for chain in replicas]
    joined = JoinedWindows(biases, [k for k, replicas in enumerate(chains) for _ in replicas])
    found = [joined.free_energy_difference(0, k) for k in range(1, values.size)]
    return [ValueWithError(-value - shift, error) for (value, error), shift in zip(found, near[1:])]


def bennett(forward: Series, backward: Series) -> ValueWithError:
    """log Z from samples of both sides (C. H. Bennett, J. Comput. Phys. 22 (1976) 245): of a flow and of chains of the
    target, or from nonequilibrium paths in both directions.

    forward: log w = -S - log q of samples of the flow, or of paths to the target, of which mean w is Z; one array, or
        one for each chain. Samples outside the target have w = 0, -inf here.
    backward: log w of configurations of the target, or of paths that were drawn from these back to the start, of which
        mean 1/w is 1/Z; in the order of their chains, one array or one for each. Paths that do not arrive have
        1/w = 0, +inf here.

    By Crooks' relation (cond-mat/9901352) the densities of log w obey p_back = p_forward w / Z, and cross at log Z.
    This is MBAR of the two ensembles of paths, with the errors of `JoinedWindows`: blocks of a twentieth of a chain
    must be longer than its autocorrelation time. Raises ValueError for fewer than 20 paths, and RuntimeError where the
    two do not overlap.
    """
    chains = [split_replicas(series) for series in (forward, backward)]
    # Between the means of both: from there MBAR finds it.
    near = float(np.mean([_mean_of_finite(np.concatenate(replicas)) for replicas in chains]))
    biases = [
        np.stack([np.zeros_like(chain), np.where(chain == nothing, np.copysign(_NEVER, -nothing), near - chain)])
        for replicas, nothing in zip(chains, (-np.inf, np.inf))  # log w where w or 1/w is zero
        for chain in replicas
    ]
    joined = JoinedWindows(biases, [k for k, replicas in enumerate(chains) for _ in replicas])
    value, error = joined.free_energy_difference(0, 1)
    return ValueWithError(near - value, error)


def _mean_of_finite(log_w: Array) -> float:
    """Raises RuntimeError where there are none."""
    finite = log_w[np.isfinite(log_w)]
    if not finite.size:
        raise RuntimeError("no sample or path of one side has a weight: both sides do not overlap")
    return float(finite.mean())
