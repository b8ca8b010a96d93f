"""U(1) gauge actions."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from lattice_flows.actions.action import Action, ActionKernels
from lattice_flows.exact.u1 import MAX_BETA
from lattice_flows.kernels import hmc_u1, u1
from lattice_flows.lattice import CIRCLE, Space, plaquette, shift


@dataclass(frozen=True)
class WilsonU1(Action):
    """The Wilson action S(theta) = beta sum_P (1 - cos P) of links (B, D, *lattice_shape), D >= 2.

    The target is exp(-S)/Z relative to the normalised Haar measure, d theta / 2 pi per link.

    Raises ValueError for a beta outside 0 ... 1e6.
    """

    beta: float
    space: ClassVar[Space] = CIRCLE

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= MAX_BETA:
            raise ValueError(f"beta must be a number between 0 and {MAX_BETA:g}, got {self.beta}")

    def __call__(self, x: Tensor) -> Tensor:
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for mu, nu in combinations(range(x.shape[1]), 2):
            half = torch.sin(0.5 * plaquette(x, mu, nu))
            # 1 - cos P = 2 sin^2(P/2) keeps its digits where P is small, and delta_h with them.
            total = total + (2.0 * half * half).flatten(1).sum(1, dtype=torch.float64)
        return self.beta * total

    def force(self, x: Tensor) -> Tensor:
        """-dS/dtheta_mu(n) = -beta sum_nu [sin P_munu(n) - sin P_munu(n - nu)], shaped like x."""
        force = torch.zeros_like(x)
        for mu, nu in combinations(range(x.shape[1]), 2):
            sin = torch.sin(plaquette(x, mu, nu))
            force[:, mu] -= sin - shift(sin, nu, -1)
            force[:, nu] += sin - shift(sin, mu, -1)
        return self.beta * force

    def kernels(self, event: tuple[int, ...]) -> ActionKernels | None:
        """Compiled in two dimensions."""
        if len(event) != 3 or event[0] != 2:
            return None
        beta = float(self.beta)
        return ActionKernels(
            action=lambda x: u1.action(x, beta),
            force=lambda x: u1.force(x, beta),
            leapfrog=lambda x, momenta, step_size, n: hmc_u1.leapfrog(x, momenta, beta, step_size, n),
            trajectories=lambda x, s, streams, step_size, n, n_updates: hmc_u1.trajectories(
                x, s, streams, beta, step_size, n, n_updates
            ),
        )
