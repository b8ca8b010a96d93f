"""A faster step of the XY model in the compiled HMC, with one sine and one cosine for each site, none for its links.

-dS/dtheta = beta [ cos theta sum sin theta' - sin theta sum cos theta' ], the sums over the neighbours theta'.
"""

import numpy as np
from numba import njit

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.elementary import fast_sin_cos
from lattice_flows.kernels.molecular_dynamics import Array, Shape, kick_and_drift
from lattice_flows.theories.xy.kernels.links import Cosine


@implements(kick_and_drift, Cosine)
def _kick_and_drift(
    couplings: Cosine, x: Array, momenta: Array, kick_time: float, drift_time: float, shape: Shape, work: Array
) -> None:
    _to_circle(x, shape[-1], work[0], work[1])
    _add_torque(work[0], work[1], shape[-1], kick_time * couplings.beta, drift_time, momenta, x)


@njit(fastmath={"contract"})
def _to_circle(x: Array, l1: int, s: Array, c: Array) -> None:
    """Sines and cosines, with the last row in front of the first one and the first behind the last."""
    size, row = np.uint64(x.size), np.uint64(l1)  # unsigned, see `kernels.links`
    for k in range(size):
        s[k + row], c[k + row] = fast_sin_cos(x[k])
    for k in range(row):
        s[k], s[size + row + k] = s[k + size], s[k + row]
        c[k], c[size + row + k] = c[k + size], c[k + row]


@njit(fastmath={"contract"})
def _add_torque(s: Array, c: Array, l1: int, scale: float, time: float, momenta: Array, x: Array) -> None:
    """momenta += scale [ cos theta sum sin theta' - sin theta sum cos theta' ], then x += time * momenta."""
    size, row, one = np.uint64(momenta.size), np.uint64(l1), np.uint64(1)
    last = row - one
    for k in range(np.uint64(0), size, row):  # where a row ends, the next number is not the neighbour
        a, b = k + row, k + row + last
        momenta[k] += scale * (c[a] * (s[b] - s[a - one]) - s[a] * (c[b] - c[a - one]))
        momenta[k + last] += scale * (c[b] * (s[a] - s[b + one]) - s[b] * (c[a] - c[b + one]))
    for k in range(size):
        n = k + row
        sines = (s[n - one] + s[n + one]) + (s[k] + s[n + row])
        cosines = (c[n - one] + c[n + one]) + (c[k] + c[n + row])
        momenta[k] += scale * (c[n] * sines - s[n] * cosines)
        x[k] += time * momenta[k]
