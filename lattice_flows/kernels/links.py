"""Numbers x (B, L0, L1) on the sites of a square lattice whose action is a sum over its links.

    S = sum_n,mu V(x(n + mu) - x(n)), V even

A theory is the class of its couplings, with bodies for `energy` and `derivatives`: `on_links` makes of them what HMC
and Metropolis ask for. On a side of two sites a pair has two links.
"""

import numpy as np
from numba import njit, prange

from lattice_flows.kernels import molecular_dynamics as md
from lattice_flows.kernels.by_couplings import compiled_for, implements, required
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Shape
from lattice_flows.kernels.sweeps import change


@required
def energy(couplings: Couplings, d: float) -> float:
    """V(d)."""
    raise NotImplementedError


@required
def derivatives(couplings: Couplings, d: float) -> tuple[float, float, float]:
    """dV/dd, d^2V/dd^2, and dV/dbeta, beta the coupling of which the theory's energy is the derivative."""
    raise NotImplementedError


def on_links(*couplings: type) -> None:
    """Take these classes of couplings, whose `energy` and `derivatives` are known, for HMC and Metropolis."""
    implements(md.workspace, *couplings)(_workspace)
    implements(md.action, *couplings, fastmath={"contract", "reassoc", "nsz"})(_action)
    implements(md.kick, *couplings)(_kick)
    implements(change, *couplings, forceinline=True)(_change)


def _workspace(couplings: Couplings, x: Array, shape: Shape) -> Array:
    """A number for each link; and room to continue the lattice by a row at either end, for a theory that wants that."""
    return np.empty((2, x.size + 2 * shape[-1]))


def _action(couplings: Couplings, x: Array, shape: Shape, work: Array) -> float:
    differences(x, shape[-1], work)
    total = 0.0
    for mu in range(2):
        for k in range(x.size):
            total += energy(couplings, work[mu, k])
    return total


def _kick(couplings: Couplings, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    """-dS/dx(n) = sum_mu [ V'(n) - V'(n - mu) ], V'(n) that of the link from n to n + mu."""
    differences(x, shape[-1], work)
    for mu in range(2):
        _to_slopes(couplings, work[mu, : x.size], time)
    _add_divergence(work, shape[-1], momenta)


def _change(couplings: Couplings, near: Array, k: int, old: float, new: float) -> float:
    total = 0.0
    for j in range(4):
        total += energy(couplings, near[j, k] - new) - energy(couplings, near[j, k] - old)
    return total


@njit(fastmath={"contract"})
def differences(x: Array, l1: int, along: Array) -> None:
    """along[mu] = x(n + mu) - x(n), (2, V), of a flat array of V = L0 * l1 sites."""
    # Unsigned indices cannot count from the end: loops over them vectorise.
    size, row, one = np.uint64(x.size), np.uint64(l1), np.uint64(1)
    up, right = along[0], along[1]
    for k in range(size - row):
        up[k] = x[k + row] - x[k]
    for k in range(row):
        up[size - row + k] = x[k] - x[size - row + k]
    for k in range(size - one):
        right[k] = x[k + one] - x[k]
    for end in range(row - one, size, row):
        right[end] = x[end + one - row] - x[end]


@njit(fastmath={"contract"})
def _to_slopes(couplings: Couplings, d: Array, scale: float) -> None:
    for k in range(d.size):
        d[k] = scale * derivatives(couplings, d[k])[0]


@njit(fastmath={"contract"})
def _add_divergence(f: Array, l1: int, out: Array) -> None:
    """out(n) += sum_mu [ f_mu(n) - f_mu(n - mu) ]."""
    size, row, one = np.uint64(out.size), np.uint64(l1), np.uint64(1)
    up, right = f[0], f[1]
    for k in range(row):
        out[k] += up[k] - up[size - row + k]
    for k in range(row, size):
        out[k] += up[k] - up[k - row]
    out[0] += right[0] - right[row - one]
    for k in range(one, size):
        out[k] += right[k] - right[k - one]
    for start in range(row, size, row):  # where a row starts, the number before is not the neighbour
        out[start] += right[start - one] - right[start + row - one]


def derivatives_by_axis(couplings: Couplings, x: Array) -> Array:
    """The sums of dV/dd, d^2V/dd^2 and dV/dbeta over the links along each axis, (B, 2, 3)."""
    return compiled_for(_derivatives_by_axis, type(couplings))(couplings, x)


def _derivatives_by_axis(couplings: Couplings, x: Array) -> Array:
    n, l0, l1 = x.shape
    out = np.empty((n, 2, 3))
    for b in prange(n):
        d = np.empty((2, l0 * l1))
        differences(x[b].reshape(-1), l1, d)
        for mu in range(2):
            out[b, mu, 0], out[b, mu, 1], out[b, mu, 2] = _sums(couplings, d[mu])
    return out


@njit(fastmath={"contract", "reassoc", "nsz"})
def _sums(couplings: Couplings, d: Array) -> tuple[float, float, float]:
    slope, curvature, heat = 0.0, 0.0, 0.0
    for k in range(d.size):
        of_link = derivatives(couplings, d[k])
        slope += of_link[0]
        curvature += of_link[1]
        heat += of_link[2]
    return slope, curvature, heat
