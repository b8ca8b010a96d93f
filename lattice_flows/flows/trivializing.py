"""Luescher's trivializing flow of 2D U(1) as a transform."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import NDArray
from torch import Tensor, nn

from lattice_flows.flows.loop_tables import Velocity, loop_tables
from lattice_flows.flows.refine import restore_steps, state_of_steps
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.wilson_loops import Loop, eigenvalue
from lattice_flows.lattice import CIRCLE, plaquette, plaquette_transpose

# The third-order scheme of arXiv:1006.4518, eq. (C.1), for angles: where in a step, what of the slopes before, and what
# of all three at its end.
_NODES = (0.0, 1.0 / 4.0, 2.0 / 3.0)
_BEFORE = ((), (1.0 / 4.0,), (-2.0 / 9.0, 8.0 / 9.0))
_WEIGHTS = (1.0 / 4.0, 0.0, 3.0 / 4.0)

_ON_CPU = 2**18  # angles of loops at a time: more leave a processor's caches


class TrivializingFlow(Transform):
    """theta' = -d S~_t / d theta from t = 0 to 1, with log_det the integral of its divergence (arXiv:0907.5491).

    S~_t = -sum_K c_K(t) sum cos(loop), over all places of the loops of an orbit K, which share a coefficient. c_K(t) is
    the polynomial through the values at n_knots points, `coefficients` (n_knots, n_orbits). Both are integrated in
    n_steps of third order, and the inverse is the flow backwards, so that each is off by O(n_steps^-3): `error` is what
    `refine` has found, and infinite before.

    coefficients: a parameter where they are learned. Slopes are those of plaquettes, which all velocities follow from.
    """

    domain = codomain = CIRCLE
    order = 3
    coefficients: Tensor
    eigenvalues: Tensor
    orbit_of_loop: Tensor

    def __init__(self, orbits: Sequence[tuple[Loop, ...]], coefficients: Tensor, n_steps: int, learned: bool) -> None:
        super().__init__()
        self.loops = tuple(loop for orbit in orbits for loop in orbit)
        of_loop = [k for k, orbit in enumerate(orbits) for _ in orbit]
        self.register_buffer("orbit_of_loop", torch.tensor(of_loop), persistent=False)
        eigenvalues = [float(eigenvalue(orbit[0])) for orbit in orbits]
        self.register_buffer("eigenvalues", torch.tensor(eigenvalues, dtype=torch.float64), persistent=False)
        if learned:
            self.coefficients = nn.Parameter(coefficients.float())
        else:
            self.register_buffer("coefficients", coefficients, persistent=False)
        self.n_steps, self.error = n_steps, math.inf

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrated(z, backwards=False)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrated(x, backwards=True)

    def _integrated(self, links: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
        n_angles = len(self.loops) * links[0, 0].numel()
        at_once = max(1, _ON_CPU // n_angles) if links.device.type == "cpu" else len(links)
        parts = [self._integrated_at_once(part, backwards) for part in links.split(at_once)]
        moved, log_det = zip(*parts, strict=True)
        return torch.cat(moved), torch.cat(log_det)

    def _integrated_at_once(self, links: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
        tables = loop_tables(self.loops, (links.shape[2], links.shape[3])).like(links)
        first = plaquette(links, 0, 1).flatten(1).T.contiguous()  # (V, B)
        total, log_det = torch.zeros_like(first), links.new_zeros(links.shape[0])
        step = (-1.0 if backwards else 1.0) / self.n_steps
        for stages in self._at_stages(backwards).to(links):  # (3, K)
            slopes: list[Tensor] = []
            for weight, before, c in zip(_WEIGHTS, _BEFORE, stages, strict=True):
                there = _moved(total, step, before, slopes)
                slope, divergence = Velocity.apply(first, there, c, tables)
                slopes.append(slope)
                if weight:
                    log_det = log_det + step * weight * divergence
            total = _moved(total, step, _WEIGHTS, slopes)
        return links - plaquette_transpose(total.T.unflatten(1, links.shape[2:])), log_det

    def _at_stages(self, backwards: bool) -> Tensor:
        """The coefficients of all loops at the stages of all steps, (n_steps, 3, K)."""
        steps, nodes = np.arange(self.n_steps)[:, None], np.array(_NODES)
        times = (steps + nodes) / self.n_steps  # (n_steps, 3)
        basis = interpolation(1.0 - times if backwards else times, len(self.coefficients))
        weights = torch.from_numpy(basis).to(self.coefficients.device)
        return (weights @ self.coefficients.double() / self.eigenvalues)[..., self.orbit_of_loop]

    def get_extra_state(self) -> Tensor:
        """n_steps and the error."""
        return state_of_steps(self)

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` has given."""
        restore_steps(self, state)


def _moved(total: Tensor, step: float, factors: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """total + step * sum of factors * slopes."""
    for factor, slope in zip(factors, slopes, strict=True):
        if factor:
            total = torch.add(total, slope, alpha=step * factor)
    return total


def knots(n: int) -> NDArray[np.float64]:
    """n times between 0 and 1, both among them, where polynomials are given by their values (Chebyshev and Lobatto); 0
    of a constant."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / max(n - 1, 1))


def interpolation(times: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The matrix (..., n) that takes the values at the knots to those of the polynomial at `times` (...)."""

    there, at_knots = (chebvander(2.0 * t - 1.0, n - 1) for t in (times, knots(n)))
    return np.asarray(there @ np.linalg.inv(at_knots), dtype=np.float64)
