"""The Metropolis loop of independence proposals, for all chains at once."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.elementary import fast_log


@kernel(parallel=True)
def independence_metropolis(
    log_w: NDArray[np.float64], proposed: NDArray[np.float64], uniforms: NDArray[np.float64], runs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Accept proposal t of chain b with probability min(1, w_proposed / w_current).

    log_w (B,) belongs to the current states, proposed (T, B) to the proposals, uniforms (B, T) decide, runs (B,) is
    the number of rejections each chain has just had in a row.

    Returns `holds` (T, B), the proposal that the chain holds after each test (-1: still the state it came with),
    `accepted` (T, B), and the run of rejections after each test (T, B). A proposal of weight zero, infinity or
    not-a-number is never accepted.
    """
    n_tests, n_chains = proposed.shape
    holds = np.empty((n_tests, n_chains), dtype=np.int64)
    accepted = np.empty((n_tests, n_chains), dtype=np.bool_)
    rejections = np.empty((n_tests, n_chains), dtype=np.int64)
    for b in prange(n_chains):
        current, run, held = log_w[b], runs[b], -1
        for t in range(n_tests):
            accept = fast_log(uniforms[b, t]) < proposed[t, b] - current and -np.inf < proposed[t, b] < np.inf
            if accept:
                current, run, held = proposed[t, b], 0, t
            else:
                run += 1
            holds[t, b] = held
            accepted[t, b] = accept
            rejections[t, b] = run
    return holds, accepted, rejections
