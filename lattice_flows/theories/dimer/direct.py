"""The dimer whose bath is an Einstein crystal: springs hold its discs, which do not interact. Drawn directly.

This is the reference state of D. Frenkel and A. J. C. Ladd, J. Chem. Phys. 81 (1984) 3188. The places of the discs are
those of a crystal around the closed dimer or the open one, so the dimer is drawn first.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e, log_ndtr, logsumexp, ndtr, ndtri, ndtri_exp

from lattice_flows.kernels.random import normals, uniforms
from lattice_flows.theories.dimer.kernels.angles import von_mises
from lattice_flows.theories.dimer.kernels.dynamics import FOURTH, HOLD, LINEAR, MIDDLE, SQUARE, STIFFNESS, WALL

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]

_LONGEST = 4.0  # of a dimer: S is 100 and more beyond
_N_CELLS = 200_000  # of d, in each of which its density is constant


def draw_dimer(scale: float, streams: Streams) -> tuple[Array, Streams]:
    """Both ends of the lone dimer, (B, 2, 2), from the independent variables of `closed_forms.lone_dimer`."""
    u, streams = uniforms(streams, 2)
    gaussians, streams = normals(streams, 2)
    length = np.interp(u[:, 0], _cumulative(scale), np.linspace(0.0, _LONGEST, _N_CELLS + 1))
    doubled, streams = von_mises(0.25 * scale * HOLD * length * length, streams)  # twice the angle of the bond
    angle = 0.5 * doubled + np.pi * (u[:, 1] < 0.5)
    bond = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)  # (B, 2)
    total = gaussians / np.sqrt(scale * HOLD * np.array([2.0, 1.0]))  # x_1 + x_2 and y_1 + y_2
    return np.stack([0.5 * (total + bond), 0.5 * (total - bond)], 1), streams


@cache
def _cumulative(scale: float) -> Array:
    """The distribution function of d at the edges of the cells."""
    edges = np.linspace(0.0, _LONGEST, _N_CELLS + 1)
    d = 0.5 * (edges[1:] + edges[:-1])
    stretch = 2.0 * (d - MIDDLE)
    u = LINEAR * stretch + SQUARE * stretch**2 + FOURTH * stretch**4
    log_p = np.log(d * i0e(0.25 * scale * HOLD * d * d)) - scale * u
    total = np.cumsum(np.exp(log_p - log_p.max()))
    return np.concatenate([[0.0], total / total[-1]])


class Pieces(NamedTuple):
    """Coordinates held at their places between walls: Gaussians below, between and beyond the walls, (3, ...) each."""

    log_weight: Array
    mean: Array
    sigma: Array


def pieces(places: Array, stiffness: float, scale: float) -> Pieces:
    """Of exp(-scale [stiffness / 2 (q - place)^2 + 100 (|q| - 3)^2 beyond the walls]); log_weight of the integrals."""
    beyond = stiffness + 2.0 * STIFFNESS
    walls = np.array([-WALL, 0.0, WALL]).reshape(3, *[1] * places.ndim)
    strength = np.array([beyond, stiffness, beyond]).reshape(walls.shape)
    mean = (stiffness * places + (strength - stiffness) * walls) / strength
    least = 0.5 * stiffness * (strength - stiffness) / strength * (places - walls) ** 2
    sigma = np.broadcast_to(1.0 / np.sqrt(scale * strength), mean.shape)
    low, high = (-WALL - mean) / sigma, (WALL - mean) / sigma
    log_mass = np.stack([log_ndtr(low[0]), np.log(ndtr(high[1]) - ndtr(low[1])), log_ndtr(-high[2])])
    return Pieces(log_mass - scale * least + np.log(np.sqrt(2.0 * np.pi) * sigma), mean, sigma)


def log_z_of_crystal(places: Array, stiffness: float, scale: float) -> float:
    """log Z of the coordinates held at these places."""
    return float(logsumexp(pieces(places, stiffness, scale).log_weight, axis=0).sum())


def draw_crystal(places: Array, stiffness: float, scale: float, streams: Streams) -> tuple[Array, Streams]:
    """Discs (B, n_bath, 2) held at their places (B, n_bath, 2)."""
    u, streams = uniforms(streams, 2 * places[0].size)
    which, inside = u.reshape(len(places), 2, *places.shape[1:]).swapaxes(0, 1)  # (B, n_bath, 2) each
    log_weight, mean, sigma = pieces(places, stiffness, scale)
    share = np.exp(log_weight - logsumexp(log_weight, axis=0))
    low, high = (-WALL - mean) / sigma, (WALL - mean) / sigma
    between = ndtri(ndtr(low[1]) + inside * (ndtr(high[1]) - ndtr(low[1])))
    below, above = ndtri_exp(np.log(inside) + log_ndtr(low[0])), -ndtri_exp(np.log(inside) + log_ndtr(-high[2]))
    return np.where(
        which < share[0],
        mean[0] + sigma[0] * below,
        np.where(which < share[0] + share[1], mean[1] + sigma[1] * between, mean[2] + sigma[2] * above),
    ), streams
