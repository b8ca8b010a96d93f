"""What is known of planar spins on small lattices without any Markov chain.

All angles on n equidistant values are a trapezoidal sum in every angle, which for smooth periodic functions converges
faster than any power of n. The sum over a row after the other is a product of transfer matrices. Derivatives of log Z
then give expectation values, whatever the package's formulas for these are.
"""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import ive

from lattice_flows.theories import XY, Action, Villain

Shape = tuple[int, int]
Weight = Callable[[complex, np.ndarray], np.ndarray]

_STEP = 1e-30  # imaginary: the imaginary part of log Z is the derivative times this, without any difference


def cosine(beta: complex, d: np.ndarray) -> np.ndarray:
    return np.exp(beta * np.cos(d))


def villain(beta: complex, d: np.ndarray) -> np.ndarray:
    nearest = d - 2.0 * np.pi * np.rint(d / (2.0 * np.pi))
    return sum(np.exp(-0.5 * beta * (nearest + 2.0 * np.pi * k) ** 2) for k in range(-8, 9))


WEIGHTS: dict[type[Action], Weight] = {XY: cosine, Villain: villain}


def log_z(
    action: Action, shape: Shape, beta: complex, twist: tuple[float, float] = (0.0, 0.0), field: complex = 0.0
) -> complex:
    """log Z of the action with another beta, the links along axis mu twisted by twist[mu], and + field sum cos theta.

    The angle of site (0, 0) is fixed to zero, which changes nothing without a field.
    """
    (l0, l1), n = shape, 32 if max(shape) == 2 else 16
    angles = np.arange(n) * (2.0 * np.pi / n)
    weight = WEIGHTS[type(action)]
    up, right = (weight(beta, np.subtract.outer(angles, angles) + a) / n for a in twist)
    rows = np.stack(np.meshgrid(*[np.arange(n)] * l1, indexing="ij"), axis=-1).reshape(-1, l1)  # (n^l1, l1)
    inside = np.prod([n * right[rows[:, (j + 1) % l1], rows[:, j]] for j in range(l1)], axis=0)
    inside = inside * np.exp(field * np.cos(angles[rows]).sum(1))  # (n^l1,)
    starts = np.arange(n ** (l1 - 1))  # the rows whose first angle is zero
    vectors = np.eye(starts.size, n**l1).reshape(-1, *[n] * l1)
    for _ in range(l0):
        vectors = vectors * inside.reshape(*[n] * l1)
        for axis in range(1, l1 + 1):
            vectors = np.moveaxis(np.tensordot(vectors, up, (axis, 1)), -1, axis)
    return np.log(n * vectors.reshape(starts.size, -1)[starts, starts].sum())


class Exact(NamedTuple):
    log_z: float
    energy: float
    susceptibility: float
    helicity_modulus: float


@cache
def exact(action: Action, shape: Shape) -> Exact:
    """log Z and expectation values, to nine digits or more."""
    beta, volume, h = action.beta, shape[0] * shape[1], 0.02
    twisted = [
        [log_z(action, shape, beta, twist).real for twist in ((k * h, 0.0), (0.0, k * h))] for k in range(3)
    ]  # (3, 2)
    curvature = np.dot([-30.0, 32.0, -2.0], twisted) / (12.0 * h * h)  # log Z is even in the twist
    return Exact(
        twisted[0][0],
        -log_z(action, shape, beta + 1j * _STEP).imag / _STEP / volume,
        log_z(action, shape, beta, field=1j * _STEP).imag / _STEP,  # sum_y <cos(theta_y - theta_0)>
        -float(curvature.mean()) / volume,
    )


def log_z_of_currents(beta: float, shape: Shape, largest: int) -> float:
    """log Z of the XY model as the sum over conserved integer currents k of the product of I_k(beta) of the links.

    exp(beta cos d) = sum_k I_k(beta) exp(i k d), and the integral over the angle of a site conserves the current there.
    The currents that leave a row of sites and those that enter it determine the ones inside but for one number.
    """
    l0, l1 = shape
    states = np.array(list(product(range(-largest, largest + 1), repeat=l1)))  # (S, l1), through the links between rows
    inner = np.arange(-largest * (l1 + 1), largest * (l1 + 1) + 1)
    changes = np.cumsum(states[:, None, :] - states[None, :, :], axis=2)  # (S, S, l1)
    conserved = changes[:, :, -1] == 0
    one_row = np.zeros(conserved.shape)
    for k in inner:
        one_row[conserved] += ive(k + changes[conserved], beta).prod(1)
    transfer = one_row * ive(states, beta).prod(1)
    return float(np.log(np.trace(np.linalg.matrix_power(transfer, l0)))) + 2 * l0 * l1 * beta
