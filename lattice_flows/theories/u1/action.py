"""U(1) gauge actions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.molecular_dynamics import Couplings
from lattice_flows.lattice import CIRCLE, Space, plaquette, shift
from lattice_flows.theories.action import Action, Array, DirectSampler, Field, LocalUpdates, NamedObservable
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.u1.closed_forms import MAX_BETA, ExactU1
from lattice_flows.theories.u1.collective import COLLECTIVE, SMOOTH_CHARGE
from lattice_flows.theories.u1.direct import sample_u1
from lattice_flows.theories.u1.kernels import local
from lattice_flows.theories.u1.kernels.biased_hmc import BiasedWilson
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1.observables import NAMED, STANDARD


@dataclass(frozen=True)
class WilsonU1(Action):
    """The Wilson action S(theta) = beta sum_P (1 - cos P) of links (B, D, *lattice_shape), D >= 2.

    The target is exp(-S)/Z relative to the normalised Haar measure, d theta / 2 pi per link.

    Raises ValueError for a beta outside 0 ... 1e6.
    """

    beta: float
    space: ClassVar[Space] = CIRCLE
    title: ClassVar[str] = "U(1)"
    symbols: ClassVar[Mapping[str, str]] = {"beta": "β"}
    dimensions: ClassVar[range] = range(2, 3)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    collective_variables: ClassVar[Mapping[str, CollectiveVariable]] = COLLECTIVE

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= MAX_BETA:
            raise ValueError(f"beta must be a number between 0 and {MAX_BETA:g}, got {self.beta}")

    def __call__(self, x: Tensor) -> Tensor:
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for mu, nu in combinations(range(x.shape[1]), 2):
            total = total + self.of_plaquettes(plaquette(x, mu, nu))
        return total

    def force(self, x: Tensor) -> Tensor:
        """-dS/dtheta_mu(n) = -beta sum_nu [sin P_munu(n) - sin P_munu(n - nu)], shaped like x."""
        force = torch.zeros_like(x)
        for mu, nu in combinations(range(x.shape[1]), 2):
            sin = torch.sin(plaquette(x, mu, nu))
            force[:, mu] -= sin - shift(sin, nu, -1)
            force[:, nu] += sin - shift(sin, mu, -1)
        return self.beta * force

    def plaquette_terms(self, p: Tensor) -> Tensor:
        """The part of S that each plaquette angle p (...) has on its own, (...)."""
        half = torch.sin(0.5 * p)  # 1 - cos P = 2 sin^2(P/2) keeps its digits where P is small, and delta_h with them
        return self.beta * (2.0 * half * half)

    def of_plaquettes(self, p: Tensor) -> Tensor:
        """S of the plaquette angles p (B, L0, L1) -> (B,), float64."""
        return self.plaquette_terms(p).flatten(1).sum(1, dtype=torch.float64)

    @property
    def loop_couplings(self) -> tuple[float, float]:
        """Of the plaquettes, beta, and of the rectangles of `ImprovedU1`, of which there are none."""
        return float(self.beta), 0.0

    def multiple_of(self, other: Action) -> float | None:
        """beta / beta_other."""
        return self.beta / other.beta if isinstance(other, WilsonU1) and other.beta > 0 else None

    def scaled(self, factor: float) -> "WilsonU1":
        """Of coupling factor * beta."""
        return WilsonU1(factor * self.beta)

    def toward(self, other: Action, t: float) -> Action:
        """Of the coupling in between, where the other is a Wilson action too."""
        if isinstance(other, WilsonU1):
            return WilsonU1((1.0 - t) * self.beta + t * other.beta)
        return super().toward(other, t)

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """One link per direction and site."""
        if len(lattice_shape) < 2:
            raise ValueError(f"a gauge theory needs two dimensions or more, got the shape {list(lattice_shape)}")
        return link_field(lattice_shape)

    def observables(self, lattice_shape: tuple[int, ...]) -> tuple[Observable, ...]:
        """Plaquette, charge and small Wilson loops, in two dimensions."""
        return STANDARD if len(lattice_shape) == 2 else ()

    def kernel_couplings(self, event: tuple[int, ...]) -> Wilson | None:
        """Compiled in two dimensions."""
        return Wilson(float(self.beta)) if _is_2d(event) else None

    def biased_couplings(
        self, event: tuple[int, ...], variable: CollectiveVariable, bias: Array, reach: float, centre: float
    ) -> Couplings | None:
        """With the bias of the smooth charge in one pass over the plaquettes."""
        if variable is SMOOTH_CHARGE and isinstance(self.kernel_couplings(event), Wilson):
            return BiasedWilson(float(self.beta), bias, reach, centre)
        return super().biased_couplings(event, variable, bias, reach, centre)

    def local_updates(self, event: tuple[int, ...], backwards: bool = False) -> LocalUpdates:
        """Compiled in two dimensions."""
        if not _is_2d(event):
            return LocalUpdates()
        beta = float(self.beta)
        return LocalUpdates(
            metropolis=lambda x, streams, width, n: local.metropolis(x, streams, beta, width, n, backwards),
            heatbath=lambda x, streams, n: local.heatbath(x, streams, beta, n, backwards),
            overrelaxation=lambda x, streams, n: (local.overrelaxation(x, n, backwards), streams, np.ones(len(x))),
        )

    def closed_forms(self, lattice_shape: tuple[int, ...]) -> ExactU1 | None:
        """Closed forms in two dimensions."""
        return ExactU1(self.beta, math.prod(lattice_shape)) if len(lattice_shape) == 2 else None

    def direct_sampler(self) -> DirectSampler:
        """Independent plaquettes, in two dimensions."""

        def log_q(x: Field) -> Array:
            exact = self.closed_forms(x.shape[2:])
            assert exact is not None
            return -self.evaluate(x) - exact.log_z

        return DirectSampler(lambda event, streams: sample_u1(float(self.beta), *event[1:], streams), log_q)


def link_field(lattice_shape: tuple[int, ...]) -> FieldSpec:
    """The angles of the links, (D, *lattice_shape)."""
    axes = [f"x{axis}" for axis in range(len(lattice_shape))]
    return FieldSpec("theta", ("mu", *axes), (len(lattice_shape), *lattice_shape))


def _is_2d(event: tuple[int, ...]) -> bool:
    return len(event) == 3 and event[0] == 2
