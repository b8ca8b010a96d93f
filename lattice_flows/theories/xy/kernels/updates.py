"""Local and cluster updates of planar spins, for `kernels.sweeps` and `kernels.wolff`."""

from typing import NamedTuple

import numpy as np
from numba import njit

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.elementary import PI, TWO_PI, fast_atan2, fast_sin, fast_sin_cos, wrap
from lattice_flows.kernels.links import energy
from lattice_flows.kernels.molecular_dynamics import Array, Couplings, Stream
from lattice_flows.kernels.sweeps import renew
from lattice_flows.kernels.von_mises import fill_von_mises
from lattice_flows.kernels.wolff import bond, flip, projection
from lattice_flows.theories.xy.kernels.links import Cosine, Images


class HeatBath(NamedTuple):
    """Draws from exp(beta |h| cos(theta - arg h)), h = sum exp(i theta') over the neighbours."""


class Overrelaxation(NamedTuple):
    """Reflections about arg h, which leave S as it is."""


@njit(fastmath={"contract"})
def _local_fields(near: Array, size: Array, angle: Array) -> None:
    """|h| and arg h of each site."""
    for k in range(size.size):
        sines, cosines = 0.0, 0.0
        for j in range(4):
            sine, cosine = fast_sin_cos(near[j, k])
            sines += sine
            cosines += cosine
        size[k] = np.sqrt(sines * sines + cosines * cosines)
        angle[k] = fast_atan2(sines, cosines) if size[k] > 0.0 else 0.0


@implements(renew, HeatBath, fastmath={"contract"})
def _heatbath(update: HeatBath, couplings: Cosine, x: Array, near: Array, stream: Stream) -> int:
    n = x.size
    strength, angle = np.empty(n), np.empty(n)
    _local_fields(near, strength, angle)
    for k in range(n):
        strength[k] *= couplings.beta
    fill_von_mises(strength, stream, x, np.empty(3 * n), np.empty(n, np.int64))
    for k in range(n):
        x[k] = wrap(x[k] + angle[k])
    return n


@implements(renew, Overrelaxation, fastmath={"contract"})
def _overrelaxation(update: Overrelaxation, couplings: Cosine, x: Array, near: Array, stream: Stream) -> int:
    size, angle = np.empty(x.size), np.empty(x.size)
    _local_fields(near, size, angle)
    for k in range(x.size):
        x[k] = wrap(2.0 * angle[k] - x[k])
    return x.size


@njit(fastmath={"contract"}, forceinline=True)
def _image(theta: float, mirror: float) -> float:
    """The angle reflected about a line through the origin; 0 < mirror < 1 goes through all of them."""
    return wrap(TWO_PI * mirror - theta)


@implements(bond, Cosine, Images, fastmath={"contract"})
def _bond(couplings: Couplings, x: Array, site: int, other: int, mirror: float) -> float:
    reflected = energy(couplings, x[other] - _image(x[site], mirror))
    return reflected - energy(couplings, x[other] - x[site])


@implements(flip, Cosine, Images, fastmath={"contract"})
def _flip(couplings: Couplings, x: Array, site: int, mirror: float) -> None:
    x[site] = _image(x[site], mirror)


@implements(projection, Cosine, Images, fastmath={"contract"})
def _projection(couplings: Couplings, x: Array, site: int, mirror: float) -> float:
    return fast_sin(x[site] - PI * mirror)
