"""One von Mises angle of its own concentration for each stream."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lattice_flows.kernels.compiled import kernel
from lattice_flows.kernels.von_mises import fill_von_mises

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


@kernel(parallel=True)
def von_mises(kappa: Array, streams: Streams) -> tuple[Array, Streams]:
    """Angles (B,) of density exp(kappa cos x) / (2 pi I_0(kappa)), and the advanced streams (B, 2)."""
    angles, streams = np.empty(kappa.size), streams.copy()
    for b in prange(kappa.size):
        fill_von_mises(kappa[b : b + 1], streams[b], angles[b : b + 1], np.empty(3), np.empty(1, np.int64))
    return angles, streams
