"""The U(1) gauge action with rectangles."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import CIRCLE, Space, plaquette, shift
from lattice_flows.theories.action import Action, DirectSampler, NamedObservable
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.observable import Observable
from lattice_flows.theories.u1.action import WilsonU1, link_field
from lattice_flows.theories.u1.closed_forms import MAX_BETA, ExactU1
from lattice_flows.theories.u1.collective import COLLECTIVE
from lattice_flows.theories.u1.observables import NAMED, STANDARD
from lattice_flows.theories.u1_improved.closed_forms import ExactImprovedU1, exact_improved_u1
from lattice_flows.theories.u1_improved.kernels.dynamics import LoopCouplings

_AXES = (0, 1)


@dataclass(frozen=True)
class ImprovedU1(Action):
    """S(theta) = beta [ c0 sum_P (1 - cos P) + c1 sum_R (1 - cos R) ], c0 = 1 - 8 c1, of links (B, 2, L0, L1).

    R runs over the 1x2 and the 2x1 rectangles, each once per site (Luescher and Weisz, Phys. Lett. B 158 (1985) 250;
    c1 = -1/12 takes the O(a^2) terms away at tree level). The angle of a rectangle is the sum of its two plaquettes,
    R_mu(n) = P(n) + P(n+mu), on a side of two sites too, where the same pair counts from both of its ends.

    The target is exp(-S)/Z relative to the normalised Haar measure, d theta / 2 pi per link. For c1 != 0 the plaquettes
    do not factorise, but each couples to its neighbours only: log Z, <cos P>, the 1x2 loops and P(Q) are those of a
    tensor network, to seven digits after the point (`closed_forms.ExactImprovedU1`).

    Raises ValueError for a beta outside 0 ... 1e6, and for a c1 for which beta c0 or beta c1 is beyond that size.
    """

    beta: float
    c1: float
    space: ClassVar[Space] = CIRCLE
    title: ClassVar[str] = "improved U(1)"
    symbols: ClassVar[Mapping[str, str]] = {"beta": "β", "c1": "c₁"}
    dimensions: ClassVar[range] = range(2, 3)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    collective_variables: ClassVar[Mapping[str, CollectiveVariable]] = COLLECTIVE

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= MAX_BETA:
            raise ValueError(f"beta must be a number between 0 and {MAX_BETA:g}, got {self.beta}")
        if not (math.isfinite(self.c1) and max(map(abs, self.loop_couplings)) <= MAX_BETA):
            raise ValueError(f"c1 must be a finite number, and beta c1 at most {MAX_BETA:g}, got {self.c1}")

    @property
    def c0(self) -> float:
        """1 - 8 c1: smooth fields have the action of the Wilson theory at the same beta."""
        return 1.0 - 8.0 * self.c1

    @property
    def loop_couplings(self) -> LoopCouplings:
        """beta c0 and beta c1, of the plaquettes and of the rectangles."""
        return LoopCouplings(float(self.beta * self.c0), float(self.beta * self.c1))

    def __call__(self, x: Tensor) -> Tensor:
        return self.of_plaquettes(_plaquettes(x))

    def force(self, x: Tensor) -> Tensor:
        """-dS/dtheta_mu(n) = -sum_nu [ s_munu(n) - s_munu(n - nu) ] with s = dS/dP, shaped like x.

        s(n) = beta c0 sin P(n) + beta c1 sum_mu [ sin R_mu(n) + sin R_mu(n - mu) ].
        """
        plain, rectangle = self.loop_couplings
        p = _plaquettes(x)
        slope = plain * torch.sin(p)
        for mu in _AXES:
            sines = torch.sin(p + shift(p, mu))
            slope = slope + rectangle * (sines + shift(sines, mu, -1))
        return torch.stack([shift(slope, 1, -1) - slope, slope - shift(slope, 0, -1)], dim=1)

    def of_plaquettes(self, p: Tensor) -> Tensor:
        """S of the plaquette angles p (B, L0, L1) -> (B,), float64."""
        plain, rectangle = self.loop_couplings
        pairs = sum(_one_minus_cosine(p + shift(p, mu)) for mu in _AXES)
        return plain * _one_minus_cosine(p) + rectangle * pairs

    def multiple_of(self, other: Action) -> float | None:
        """beta / beta_other at equal c1."""
        if isinstance(other, WilsonU1) and self.c1 == 0:
            other = ImprovedU1(other.beta, 0.0)
        if not isinstance(other, ImprovedU1) or other.beta == 0 or other.c1 != self.c1:
            return None
        return self.beta / other.beta

    def scaled(self, factor: float) -> "ImprovedU1":
        """Of coupling factor * beta."""
        return ImprovedU1(factor * self.beta, self.c1)

    def toward(self, other: Action, t: float) -> Action:
        """Of the couplings in between: those of the plaquettes and of the rectangles are interpolated."""
        if not isinstance(other, ImprovedU1):
            return super().toward(other, t)
        beta = (1.0 - t) * self.beta + t * other.beta
        if other.c1 == self.c1 or beta == 0:
            return ImprovedU1(beta, self.c1)
        return ImprovedU1(beta, ((1.0 - t) * self.beta * self.c1 + t * other.beta * other.c1) / beta)

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """One link per direction and site of a plane."""
        if len(lattice_shape) != 2:
            raise ValueError(f"rectangles are those of two dimensions, got the shape {list(lattice_shape)}")
        return link_field(lattice_shape)

    def observables(self, lattice_shape: tuple[int, ...]) -> tuple[Observable, ...]:
        """Plaquette, charge and small Wilson loops."""
        return STANDARD

    def kernel_couplings(self, event: tuple[int, ...]) -> LoopCouplings:
        """Compiled."""
        return self.loop_couplings

    def closed_forms(self, lattice_shape: tuple[int, ...]) -> ExactU1 | ExactImprovedU1 | None:
        """By characters without rectangles, c1 = 0, and else by a tensor network; None where that does not converge."""
        if self.c1 == 0:
            return WilsonU1(self.beta).closed_forms(lattice_shape)
        return exact_improved_u1(*self.loop_couplings, lattice_shape)

    def direct_sampler(self) -> DirectSampler | None:
        """Independent plaquettes without rectangles, c1 = 0."""
        return WilsonU1(self.beta).direct_sampler() if self.c1 == 0 else None


def _plaquettes(x: Tensor) -> Tensor:
    if x.ndim != 4 or x.shape[1] != 2:
        raise ValueError(f"the action with rectangles takes links (B, 2, L0, L1), got {list(x.shape)}")
    return plaquette(x, 0, 1)


def _one_minus_cosine(angles: Tensor) -> Tensor:
    """sum (1 - cos) of each configuration, (B,), as 2 sin^2(angle/2): it keeps its digits where angles are small."""
    half = torch.sin(0.5 * angles)
    return (2.0 * half * half).flatten(1).sum(1, dtype=torch.float64)
