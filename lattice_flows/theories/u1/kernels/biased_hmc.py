"""HMC of 2D U(1) links (B, 2, L0, L1) with a bias potential of the smooth charge: the target is S + V(Q_s).

Q_s = (1/2 pi) sum_P sin P is a differentiable stand-in for the topological charge. V is given for each chain by its
values `bias` (B, n_grid), n_grid >= 2, on a uniform grid from -q_max to q_max: linear between the points, and outside
constant, the value at the edge, with no force. V' is then constant between the points and jumps at them. A trajectory
is reversible and preserves the measure with any force, so the chain is exact all the same; the jumps only add to
delta_h.

Averages of exp(-S) are those of the chain with the weights exp(+V(Q_s)). `deposit` builds V by well-tempered
metadynamics (arXiv:0803.3861; of a topological charge: arXiv:1508.07270).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_sin
from lattice_flows.kernels.molecular_dynamics import (
    Array,
    Shape,
    action,
    bias,
    charge,
    kick,
    of_chain,
    store,
    workspace,
)
from lattice_flows.theories.u1.kernels.dynamics import plaquette_workspace, store_wrapped, wilson_action
from lattice_flows.theories.u1.kernels.fields import add_force, plaquettes


@njit(fastmath=True)
def _charge_of_plaquettes(p: Array) -> float:
    total = 0.0
    for k in range(p.size):
        total += fast_sin(p[k])
    return total / TWO_PI


@njit(error_model="numpy")
def _cell(bias: Array, q_max: float, q: float) -> tuple[int, float]:
    """The grid point below q and how far q is beyond it, in units of the spacing; the nearest edge outside the grid."""
    last = bias.size - 1
    place = min(max((q + q_max) / (2.0 * q_max) * last, 0.0), float(last))
    k = min(int(place), last - 1)
    return k, place - k


@njit
def _bias_at(bias: Array, q_max: float, q: float) -> float:
    k, fraction = _cell(bias, q_max, q)
    return bias[k] + fraction * (bias[k + 1] - bias[k])


@njit(error_model="numpy")
def _slope(bias: Array, q_max: float, q: float) -> float:
    """V'(q)."""
    if not -q_max <= q <= q_max:
        return 0.0
    k, _ = _cell(bias, q_max, q)
    return (bias[k + 1] - bias[k]) * (bias.size - 1) / (2.0 * q_max)


@njit(fastmath={"contract"})
def _to_scaled_forces(p: Array, scale: float, beta: float, slope: float) -> None:
    """P -> scale (beta sin P + V' cos P / 2 pi), in place, as one sine of another amplitude and phase."""
    amplitude, phase = scale * math.hypot(beta, slope / TWO_PI), math.atan2(slope / TWO_PI, beta)
    for k in range(p.size):
        p[k] = amplitude * fast_sin(p[k] + phase)


class BiasedWilson(NamedTuple):
    """beta, the bias of each chain (B, n_grid), and how far its grid reaches; of one chain, (n_grid,)."""

    beta: float
    bias: Array
    q_max: float


@implements(of_chain, BiasedWilson)
def _of_chain(couplings: BiasedWilson, b: int) -> BiasedWilson:
    return BiasedWilson(couplings.beta, couplings.bias[b], couplings.q_max)


@implements(kick, BiasedWilson)
def _kick(couplings: BiasedWilson, x: Array, momenta: Array, time: float, shape: Shape, work: Array) -> None:
    v, l1 = work.size, shape[-1]
    plaquettes(x[:v], x[v:], l1, work)
    slope = _slope(couplings.bias, couplings.q_max, _charge_of_plaquettes(work))
    _to_scaled_forces(work, time, couplings.beta, slope)
    add_force(work, l1, momenta[:v], momenta[v:])


@implements(charge, BiasedWilson)
def _charge(couplings: BiasedWilson, x: Array, shape: Shape, work: Array) -> float:
    return _charge_of_plaquettes(work)  # where the action left them


@implements(bias, BiasedWilson)
def _bias(couplings: BiasedWilson, charge: float) -> float:
    return _bias_at(couplings.bias, couplings.q_max, charge)


implements(workspace, BiasedWilson)(plaquette_workspace)
implements(action, BiasedWilson)(wilson_action)
implements(store, BiasedWilson)(store_wrapped)


@kernel(parallel=True)
def smooth_charge(links: Array) -> Array:
    """Q_s = (1/2 pi) sum_P sin P of each configuration, (B,)."""
    n, _, l0, l1 = links.shape
    out = np.empty(n)
    for b in prange(n):
        p = np.empty(l0 * l1)
        plaquettes(links[b, 0].reshape(-1), links[b, 1].reshape(-1), l1, p)
        out[b] = _charge_of_plaquettes(p)
    return out


@kernel
def bias_at(bias: Array, q_max: float, q: Array) -> Array:
    """V(q) of each chain: bias (B, n_grid), q (B,) -> (B,)."""
    out = np.empty(q.size)
    for b in range(q.size):
        out[b] = _bias_at(bias[b], q_max, q[b])
    return out


def deposit(bias: Array, q_max: float, q: Array, height: float, width: float, bias_factor: float) -> Array:
    """The bias (B, n_grid) after each chain at q (B,) added a Gaussian of this width there, and one at -q.

    The height is height * exp(-V(q) / (bias_factor - 1)), energies in units of kT (arXiv:0803.3861), so that V tends to
    -(1 - 1 / bias_factor) times the free energy of Q_s. bias_factor must be above 1; inf is plain metadynamics. The
    second Gaussian is the charge conjugate. A q outside the grid adds nothing.
    """
    grid = np.linspace(-q_max, q_max, bias.shape[1])
    heights = height * np.exp(-bias_at(bias, q_max, q) / (bias_factor - 1.0)) * (np.abs(q) <= q_max)
    hills = [np.exp(-0.5 * ((grid - centre[:, None]) / width) ** 2) for centre in (q, -q)]  # (B, n_grid) each
    return bias + heights[:, None] * (hills[0] + hills[1])
