"""Wolff's single-cluster update of the signs of phi^4 theory, on a batch of chains (B, *lattice_shape).

At fixed |phi| the signs are an Ising model with the couplings 2 hop |phi phi'| (Brower and Tamayo, Phys. Rev. Lett. 62
(1989) 1087), of which one cluster is flipped (Wolff, Phys. Rev. Lett. 62 (1989) 361).
"""

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import Array
from lattice_flows.kernels.wolff import bond, flip, wolff
from lattice_flows.theories.phi4.kernels.dynamics import LocalCouplings

Streams = NDArray[np.uint64]


@implements(bond, LocalCouplings)
def _bond(couplings: LocalCouplings, x: Array, site: int, other: int, mirror: float) -> float:
    return 4.0 * couplings.hop * x[site] * x[other]


@implements(flip, LocalCouplings)
def _flip(couplings: LocalCouplings, x: Array, site: int, mirror: float) -> None:
    x[site] = -x[site]


def cluster(
    phi: Array, streams: Streams, hop: float, quad: float, quart: float, n_updates: int
) -> tuple[Array, Streams, Array]:
    """n_updates cluster flips of every chain. Alone they are not ergodic, for they leave |phi| (and so the terms of
    quad and quart) as it is: mix them with a local update.

    phi (B, *lattice_shape) and streams (B, 2) are left as they are. Returns the new ones and the mean fraction of the
    sites that an update flips (B,). Raises ValueError for an extent below 2.
    """
    couplings = LocalCouplings(float(hop), float(quad), float(quart))
    phi, streams, flipped, _ = wolff(couplings, phi, streams, n_updates)
    return phi, streams, flipped
