"""The flow from Haar-random links down the gradient of Wilson loops, for 2D U(1) with plaquettes and rectangles."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.plan import Ability, FlowPlan, building, check_between, check_torus
from lattice_flows.flows.plaquette_action import LoopAction
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.trivializing import TrivializingFlow, knots
from lattice_flows.flows.wilson_loops import (
    PLAQUETTE,
    RECTANGLES,
    Loop,
    LoopSum,
    eigenvalue,
    loops_of_area,
    luescher_series,
    orbits,
)
from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.theories.action import Action

_ORDERS = {"leading": 1, "next": 2, "learned": 2}  # of the series whose loops it has
_LARGEST_AREA = 4
_MOST_KNOTS = 20
_MOST_STEPS = 1000


@dataclass(frozen=True)
class GradientFlow(FlowPlan):
    """The trivializing flow of arXiv:0907.5491 in n_steps, for any two sides.

    coefficients: those of the loops are the first or the first two orders of Luescher's series in t, or "learned"
    (arXiv:2212.08469). Learned ones begin with the first order, as the second one may be far worse where the coupling
    is not small. They are polynomials in t through n_knots values each, for the loops of both orders and all that
    products of up to `area` plaquettes bring about: 1, 4, 13 or 65, but for rotations and reflections. They know
    neither the volume nor the coupling.

    n_steps: of the training. A flow that is trained, or has nothing to train, takes as many steps as log w asks for.

    Raises ValueError for an action of other loops, a lattice that is not of two sides, and for values out of range.
    """

    shape: tuple[int, int]
    action: Action
    _: KW_ONLY
    coefficients: Literal["leading", "next", "learned"] = "learned"
    area: int | None = None  # of learned coefficients: 3
    n_knots: int | None = None  # of learned coefficients: 5
    n_steps: int = 20

    space: ClassVar[Space] = CIRCLE
    offers: ClassVar[frozenset[Ability]] = frozenset({"inverse", "gradient"})
    integrated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_torus("gradient_flow", self.shape)
        if not isinstance(self.action, LoopAction):
            raise ValueError(f"gradient_flow is for actions of plaquettes and rectangles, not {self.action}")
        if self.coefficients not in _ORDERS:
            raise ValueError(f"coefficients must be one of {', '.join(_ORDERS)}, got {self.coefficients!r}")
        for key, usual in (("area", 3), ("n_knots", 5)):
            if self.coefficients != "learned" and getattr(self, key) is not None:
                raise ValueError(f"{key} goes with coefficients = 'learned', not {self.coefficients!r}; leave it out")
            if self.coefficients == "learned" and getattr(self, key) is None:
                object.__setattr__(self, key, usual)
        check_between("n_steps", self.n_steps, 1, _MOST_STEPS)
        if self.area is not None and self.n_knots is not None:
            check_between("area", self.area, 1, _LARGEST_AREA)
            check_between("n_knots", self.n_knots, 2, _MOST_KNOTS)

    @cached_property
    def series(self) -> list[LoopSum]:
        """The orders of Luescher's series."""
        assert isinstance(self.action, LoopAction)
        plain, rectangle = self.action.loop_couplings
        loops = {PLAQUETTE: -plain, **dict.fromkeys(RECTANGLES, -rectangle)}
        action = {loop: value for loop, value in loops.items() if value}
        return luescher_series(action, _ORDERS[self.coefficients])

    def assemble(self) -> Flow:
        """The flow with the coefficients of the series."""
        learned = self.coefficients == "learned"
        loops = {loop for order in self.series for loop in order} or {PLAQUETTE}
        if self.area is not None:
            loops |= loops_of_area(self.area)
        of_loops = orbits(loops)
        first = self.series[:1] if learned else self.series
        at_knots = _series_at(first, of_loops, self.n_knots or len(first))
        return Flow(HaarU1((2, *self.shape)), TrivializingFlow(of_loops, at_knots, self.n_steps, learned))


gradient_flow = building(GradientFlow)


def _series_at(series: list[LoopSum], of_loops: list[tuple[Loop, ...]], n_knots: int) -> Tensor:
    """The coefficients of -S~_t at the knots, (n_knots, n_orbits)."""
    powers = np.vander(knots(n_knots), len(series), increasing=True)  # (n_knots, n_orders)
    orders = np.array([[-eigenvalue(loops[0]) * order.get(loops[0], 0.0) for loops in of_loops] for order in series])
    return torch.from_numpy(powers @ orders)
