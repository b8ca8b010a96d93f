"""The magnetisation of a scalar field as a collective variable of the compiled HMC."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.molecular_dynamics import Array, Shape, pull, variable, workspace
from lattice_flows.theories.phi4.kernels.fields import flat


class MeanField(NamedTuple):
    """M, the mean of phi over the lattice; it has no parameters."""


@njit(fastmath={"contract", "reassoc", "nsz"})
def _mean(x: Array) -> float:
    total = 0.0
    for k in range(x.size):
        total += x[k]
    return total / x.size


@implements(workspace, MeanField)
def _workspace(couplings: MeanField, x: Array, shape: Shape) -> Array:
    return np.empty(0)


@implements(variable, MeanField)
def _variable(couplings: MeanField, x: Array, shape: Shape, work: Array) -> float:
    return _mean(x)


@implements(pull, MeanField)
def _pull(couplings: MeanField, x: Array, momenta: Array, scale: float, shape: Shape, work: Array) -> None:
    """dM/dphi = 1/V."""
    step = scale / x.size
    for k in range(momenta.size):
        momenta[k] += step


@kernel(parallel=True)
def _means(x: Array) -> Array:
    out = np.empty(x.shape[0])
    for b in prange(x.shape[0]):
        out[b] = _mean(x[b])
    return out


def mean_field(phi: Array) -> Array:
    """M of each configuration, (N,), summed as the chains sum it."""
    return _means(flat(phi)[0])
