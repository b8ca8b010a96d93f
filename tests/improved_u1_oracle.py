"""What is known of U(1) with rectangles without chains and networks: quadrature, transfer matrices, weights."""

from typing import NamedTuple

import numpy as np
import torch

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import ImprovedU1, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels.dynamics import Wilson


class TwoByTwo(NamedTuple):
    log_z: float
    plaquette: float
    wilson_loop_1x2: float
    action: float


def two_by_two(action: ImprovedU1, n: int = 40) -> TwoByTwo:
    """Three plaquettes of a 2x2 torus are uniform under the Haar measure, the last one closes it.

    The trapezoidal sum of a smooth periodic function converges faster than any power of n.
    """
    angles = torch.arange(n, dtype=torch.float64) * (2.0 * np.pi / n)
    a, b, c = torch.meshgrid(angles, angles, angles, indexing="ij")
    p = torch.stack([a, b, c, -(a + b + c)], dim=-1).reshape(-1, 2, 2)
    s = action.of_plaquettes(p)
    weights = torch.exp(-(s - s.min()))
    pairs = 0.5 * (torch.cos(p + p.roll(-1, 1)) + torch.cos(p + p.roll(-1, 2)))

    def mean(values: torch.Tensor) -> float:
        return float((weights * values).sum() / weights.sum())

    log_z = float(torch.log(weights.mean()) - s.min())
    return TwoByTwo(log_z, mean(torch.cos(p).mean((1, 2))), mean(pairs.mean((1, 2))), mean(s))


def exact_sector(
    action: ImprovedU1, shape: tuple[int, int], nodes: np.ndarray, weights: np.ndarray, nu: float
) -> float:
    """int prod_P dP/2pi exp(i nu sum P) exp(-S) by these nodes of each angle: Tr T^rows, T between whole rows."""
    plain, rectangle = action.loop_couplings
    rows, columns = shape
    states = np.stack(np.meshgrid(*[np.arange(len(nodes))] * columns, indexing="ij"), axis=-1).reshape(-1, columns)
    bond = np.exp(rectangle * (np.cos(nodes[:, None] + nodes) - 1.0))
    site = weights * np.exp(plain * (np.cos(nodes) - 1.0) + 1j * nu * nodes)
    within = np.prod([site[states[:, k]] * bond[states[:, k], states[:, (k + 1) % columns]] for k in range(columns)], 0)
    between = np.ones((1, 1))
    for _ in range(columns):
        between = np.kron(between, bond)
    matrix = within[:, None] * between
    power = np.linalg.matrix_power(matrix, rows - 1)
    return float(np.vdot(power.T.conj(), matrix).real)


def weighted_draws(action: ImprovedU1, shape: tuple[int, int], beta: float, n: int, seed: int, name: str = "weights"):
    """n independent configurations of the Wilson action at this beta, and log w = -S + S_Wilson, (n,)."""
    x, _ = sample_u1(beta, *shape, make_streams(seed, name, range(n)))
    return x, hmc.action(Wilson(beta), x) - action.evaluate(x)


def log_z_by_weights(log_w: np.ndarray, beta: float, shape: tuple[int, int]) -> tuple[float, float]:
    """log Z and its error."""
    exact = WilsonU1(beta).closed_forms(shape)
    assert exact is not None
    top = log_w.max()
    w = np.exp(log_w - top)
    return exact.log_z + top + float(np.log(w.mean())), float(w.std() / w.mean() / np.sqrt(w.size))


def weighted(values: np.ndarray, log_w: np.ndarray) -> tuple[float, float]:
    """<O> and its error, of independent draws."""
    w = np.exp(log_w - log_w.max())
    mean = float((w * values).sum() / w.sum())
    return mean, float(np.sqrt((w**2 * (values - mean) ** 2).sum()) / w.sum())
