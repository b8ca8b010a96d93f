"""Von Mises deviates in bulk: the wrapped Cauchy envelope of Best and Fisher, Appl. Statist. 28 (1979) 152.

Their proposal is cos x = (1 + r z) / (r + z) with z = cos(2 phi), phi uniform, and r = h / kappa,
h = (1 + sqrt(1 + 4 kappa^2)) / 2. It is accepted with probability C exp(1 - C), C = h / (h + kappa z). With
m = h - kappa = (1 + 1 / (sqrt(1 + 4 kappa^2) + 2 kappa)) / 2 the same reads

    C = h / (m + 2 kappa cos^2 phi),    tan(x/2) = (m / sqrt h) tan phi,

which has no small differences and no case of its own at kappa = 0. The acceptance is 1 there and falls to 0.658.
All proposals of a call are made together, then those of the rejected, and so on; angles are worked out at the end.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lattice_flows.kernels.elementary import PI, fast_atan2, fast_cos, fast_log, fast_sin
from lattice_flows.kernels.random import fill_uniforms

Array = NDArray[np.float64]


@njit(fastmath={"contract"}, forceinline=True, error_model="numpy")
def _envelope(kappa: float) -> tuple[float, float]:
    """m and h."""
    root = np.sqrt(1.0 + 4.0 * kappa * kappa)
    m = 0.5 + 0.5 / (root + 2.0 * kappa)
    return m, m + kappa


@njit(fastmath={"contract"}, forceinline=True, error_model="numpy")
def _log_excess(kappa: float, phi: float, uniform: float) -> float:
    """The log of the acceptance probability over the uniform deviate: accepted if it is not negative."""
    m, h = _envelope(kappa)
    cosine = fast_cos(phi)
    c = h / (m + 2.0 * kappa * cosine * cosine)
    return fast_log(c / uniform) + 1.0 - c


@njit(fastmath={"contract"}, forceinline=True, error_model="numpy")
def _angle(kappa: float, phi: float) -> float:
    m, h = _envelope(kappa)
    return 2.0 * fast_atan2(m * fast_sin(phi), np.sqrt(h) * fast_cos(phi))


@njit(fastmath={"contract"})
def _propose(left: Array, deviates: Array) -> None:
    """Uniform deviates (2n) -> n proposals phi and the logs of their acceptance, for concentrations left (n)."""
    n = left.size
    phi, excess = deviates[:n], deviates[n:]
    for k in range(n):
        phi[k] = PI * (phi[k] - 0.5)
    for k in range(n):
        excess[k] = _log_excess(left[k], phi[k], excess[k])


@njit(fastmath={"contract"})
def fill_von_mises(
    kappa: Array, stream: NDArray[np.uint64], out: Array, scratch: Array, pending: NDArray[np.int64]
) -> None:
    """Fill out (n,) with angles of density exp(kappa_k cos x) / (2 pi I_0(kappa_k)); advances the stream.

    kappa (n,) must be between 0 and 1e7. scratch (at least 3n) and pending (at least n) hold what comes between.
    """
    n = n_left = out.size
    left = scratch[:n]
    for k in range(n):
        pending[k] = k
        left[k] = kappa[k]
    while n_left > 0:
        n_tried, n_left = n_left, 0
        deviates = scratch[n : n + 2 * n_tried]
        fill_uniforms(stream, deviates)
        _propose(left[:n_tried], deviates)
        for q in range(n_tried):
            k = pending[q]
            out[k] = deviates[q]  # to be overwritten by a later round if it is rejected
            pending[n_left] = k
            left[n_left] = left[q]
            n_left += deviates[n_tried + q] < 0.0
    for k in range(n):
        out[k] = _angle(kappa[k], out[k])
