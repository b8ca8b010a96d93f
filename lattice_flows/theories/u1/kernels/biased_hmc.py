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

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import TWO_PI, fast_log, fast_sin, wrap
from lattice_flows.kernels.molecular_dynamics import drift, kinetic
from lattice_flows.kernels.random import fill_normals, uniform_pair
from lattice_flows.theories.u1.kernels.fields import action_of_plaquettes, add_force, plaquettes

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


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
def _bias(bias: Array, q_max: float, q: float) -> float:
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


@njit(fastmath={"contract"})
def _integrate(
    x: Array,
    momenta: Array,
    l1: int,
    beta: float,
    bias: Array,
    q_max: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    y: Array,
    p: Array,
) -> None:
    """x (flat, 2V) -> y; the momenta are updated in place; `p` is scratch (V)."""
    v, last = p.size, kicks.size - 1
    y0, y1, p0, p1 = y[:v], y[v:], momenta[:v], momenta[v:]  # once: making a view costs as much as a short loop
    y[:] = x
    drift(y, momenta, drifts[0] * step_size)
    for step in range(n_md_steps):
        for k in range(kicks.size):
            plaquettes(y0, y1, l1, p)
            slope = _slope(bias, q_max, _charge_of_plaquettes(p))
            _to_scaled_forces(p, kicks[k] * step_size, beta, slope)
            add_force(p, l1, p0, p1)
            merged = drifts[0] if k == last and step < n_md_steps - 1 else 0.0
            drift(y, momenta, (drifts[k + 1] + merged) * step_size)


@kernel(parallel=True)
def integrate(
    links: Array,
    momenta: Array,
    beta: float,
    bias: Array,
    q_max: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
) -> tuple[Array, Array]:
    """The end of one trajectory from given momenta: (links, momenta), neither wrapped nor accepted."""
    n, _, l0, l1 = links.shape
    end, end_momenta = np.empty_like(links), momenta.copy()
    for b in prange(n):
        p = np.empty(l0 * l1)
        x, y, pi = links[b].reshape(-1), end[b].reshape(-1), end_momenta[b].reshape(-1)
        _integrate(x, pi, l1, beta, bias[b], q_max, drifts, kicks, step_size, n_md_steps, y, p)
    return end, end_momenta


@kernel(parallel=True)
def trajectories(
    links: Array,
    actions: Array,
    charges: Array,
    streams: Streams,
    beta: float,
    bias: Array,
    q_max: float,
    drifts: Array,
    kicks: Array,
    step_size: float,
    n_md_steps: int,
    n_updates: int,
) -> tuple[Array, Array, Array, Streams, Array, Array]:
    """n_updates trajectories of every chain under its own bias, each with fresh momenta and a Metropolis test.

    actions (B,) are the unbiased S and charges (B,) the Q_s of the links. Returns the new links (wrapped), actions,
    charges, streams, the accepted fraction (B,) and delta_h of the last trajectory (B,), the bias included. The
    arguments are left as they are.
    """
    n, _, l0, l1 = links.shape
    v = l0 * l1
    links, actions, charges, streams = links.copy(), actions.copy(), charges.copy(), streams.copy()
    accepted, delta_h = np.zeros(n), np.zeros(n)
    for b in prange(n):
        x = links[b].reshape(-1)
        y, momenta, p = np.empty(2 * v), np.empty(2 * v), np.empty(v)
        potential = _bias(bias[b], q_max, charges[b])
        n_accepted = 0
        for _ in range(n_updates):
            fill_normals(streams[b], momenta)
            start = kinetic(momenta)
            _integrate(x, momenta, l1, beta, bias[b], q_max, drifts, kicks, step_size, n_md_steps, y, p)
            plaquettes(y[:v], y[v:], l1, p)
            new_action, new_charge = action_of_plaquettes(p, beta), _charge_of_plaquettes(p)
            new_potential = _bias(bias[b], q_max, new_charge)
            delta_h[b] = new_action - actions[b] + new_potential - potential + kinetic(momenta) - start
            if fast_log(uniform_pair(streams[b])[0]) < -delta_h[b]:
                n_accepted += 1
                actions[b], charges[b], potential = new_action, new_charge, new_potential
                for k in range(2 * v):
                    x[k] = wrap(y[k])
        accepted[b] = n_accepted / n_updates
    return links, actions, charges, streams, accepted, delta_h


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
        out[b] = _bias(bias[b], q_max, q[b])
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
