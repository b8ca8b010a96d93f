"""Actions of 2D links that depend on their plaquettes alone."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_SMALL = 1e-3  # radians


@runtime_checkable
class PlaquetteAction(Protocol):
    """An action whose S is known from the plaquettes."""

    def of_plaquettes(self, p: Tensor) -> Tensor:
        """S of the plaquette angles p (B, L0, L1) -> (B,)."""


@runtime_checkable
class IndependentPlaquettes(PlaquetteAction, Protocol):
    """A plaquette action whose S is a sum over plaquettes."""

    def plaquette_terms(self, p: Tensor) -> Tensor:
        """The part of S that each plaquette angle p (...) has on its own, (...)."""


@runtime_checkable
class LoopAction(PlaquetteAction, Protocol):
    """An action of 2D links S = plain sum_P (1 - cos P) + rectangle sum_R (1 - cos R), R around two plaquettes."""

    @property
    def loop_couplings(self) -> tuple[float, float]:
        """plain and rectangle."""


def stiffness(action: object) -> float:
    """d^2 S / dP^2 per plaquette in the vacuum: the geometric mean of that for one alone and that for all alike.

    The first gives the width of single plaquettes, the second that of large fluxes. They are equal where plaquettes
    are independent.

    Raises ValueError for an action that is not one of 2D plaquettes.
    """
    if not isinstance(action, PlaquetteAction):
        raise ValueError(f"this flow is for actions of 2D plaquettes, not for {type(action).__name__}")
    one, all_ = torch.zeros(1, 4, 4, dtype=torch.float64), torch.full((1, 4, 4), _SMALL, dtype=torch.float64)
    one[0, 0, 0] = _SMALL
    curvatures = [float(action.of_plaquettes(p)) / (0.5 * float((p * p).sum())) for p in (one, all_)]
    return math.sqrt(max(curvatures[0] * curvatures[1], 0.0))
