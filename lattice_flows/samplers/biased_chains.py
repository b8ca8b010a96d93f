"""What the samplers with a bias of a collective variable share: chains of exp(-S - V(s)) with V on a grid.

V is linear between the points of the grid and constant outside; the chain, its weights exp(+V) and its target all use
this same V, so they are exact on any grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import biased
from lattice_flows.kernels.grid_bias import bias_at, slope_at
from lattice_flows.lattice import Space
from lattice_flows.samplers.hmc import HMC, HMCState
from lattice_flows.samplers.integrators import INTEGRATORS, per_chain
from lattice_flows.samplers.sampler import Array, Coordinate, Report, Streams
from lattice_flows.theories.action import Action, Shape
from lattice_flows.theories.collective import CollectiveVariable

_FARTHEST = 1e6  # beyond it V overflows or is rounding, and no variable goes there
_UNKNOWN = Coordinate(CollectiveVariable.series, "s")

Chains = tuple[Array, Array, Array, Streams]
"""x (B, *event), its unbiased action (B,), its collective variable (B,), and the random streams (B, 2)."""


class Bias(NamedTuple):
    """V of each chain: its values (B, n_grid) on a grid from centre - reach to centre + reach."""

    values: Array
    reach: float
    centre: float

    def at(self, s: Array) -> Array:
        """V(s) of each chain, (B,)."""
        return bias_at(self.values, self.reach, s - self.centre)

    def slope_at(self, s: Array) -> Array:
        """V'(s) of each chain, (B,)."""
        return slope_at(self.values, self.reach, s - self.centre)


def coordinate(action: Action | None, settings: Mapping[str, Any]) -> Coordinate:
    """Of a sampler with these arguments; action: None where its code is not installed."""
    if action is None:
        return _UNKNOWN
    variable = action.collective_variable(settings["variable"])
    return Coordinate(variable.series, variable.symbol)


def check_range(action: Action, variable: CollectiveVariable, q_max: float | None, centre: float) -> None:
    """Raise ValueError unless the range about the centre is one, or left open to a theory that knows it."""
    if not np.isfinite(centre):
        raise ValueError(f"centre must be a finite number, got {centre}")
    if q_max is None and variable.reach is None:
        raise ValueError(f"q_max must be given: {type(action).__name__} has no rule for the range of {variable.symbol}")
    if q_max is not None and not 0 < q_max <= _FARTHEST:
        raise ValueError(f"q_max must be > 0 and at most {_FARTHEST:g}, got {q_max}")


def known_reach(action: Action, variable: CollectiveVariable, event: Shape) -> float:
    """How far the variable should reach on this lattice. Raises ValueError where the theory does not know."""
    reach = None if variable.reach is None else variable.reach(action, event)
    if reach is None:
        told = f"{type(action).__name__} does not know the range of {variable.symbol}"
        raise ValueError(f"q_max must be given: {told} at these couplings")
    return reach


def begun(action: Action, variable: CollectiveVariable, x: Array, streams: Streams) -> Chains:
    """Chains at x (B, *event), with copies of both. Raises ValueError where the variable is not defined."""
    x = np.array(x, dtype=np.float64, order="C")
    s = np.array(variable.value(x), dtype=np.float64)  # it may be a view of x
    return x, action.evaluate(x), s, streams.copy()


def check_variable(action: Action, variable: CollectiveVariable, x: Array) -> None:
    """Raise ValueError if the variable or its gradient is of another shape than it should have."""
    some = np.ascontiguousarray(x[:2], dtype=np.float64)
    shapes = variable.value(some).shape, variable.gradient(some).shape
    wanted = (len(some),), (len(some), *action.space.tangent_event(x.shape[1:]))
    for what, found, right in zip(("the value", "the gradient"), shapes, wanted):
        if found != right:
            told = f"{variable.symbol} of {type(action).__name__}: {what} of {len(some)} configurations"
            raise ValueError(f"{told} must have the shape {list(right)}, got {list(found)}")


def biased_trajectories(
    sampler: HMC, variable: CollectiveVariable, chains: Chains, bias: Bias, n_updates: int
) -> tuple[Chains, Array, Array]:
    """n_updates trajectories of every chain under its own bias: chains, accepted fraction, last delta_h.

    Raises ValueError when n_md_steps was neither given nor tuned.
    """
    step_size = sampler.step_size
    assert sampler.n_md_steps is not None
    couplings = sampler.action.biased_couplings(chains[0].shape[1:], variable, *bias)
    if couplings is None:
        return _in_torch(sampler, variable, chains, bias, n_updates)
    drifts, kicks, _ = INTEGRATORS[sampler.integrator]
    step_sizes = np.full(len(bias.values), step_size, dtype=np.float64)
    *new, accepted, delta_h = biased.trajectories(
        couplings, *chains, drifts, kicks, step_sizes, sampler.n_md_steps, n_updates, sampler.jitter
    )
    return tuple(new), accepted, delta_h  # type: ignore[return-value]


def _in_torch(
    sampler: HMC, variable: CollectiveVariable, chains: Chains, bias: Bias, n_updates: int
) -> tuple[Chains, Array, Array]:
    """The same where the action or the variable has no compiled form."""
    x, action, s, streams = chains
    target = replace(sampler, action=_Biased(sampler.action, variable, bias))
    state, info = target.step(HMCState(x, action + bias.at(s), streams), n_updates)
    return begun(sampler.action, variable, state.x, state.streams), info.accepted, info.delta_h


@dataclass(frozen=True)
class _Biased(Action):
    """S + V(s) of the chains in order: configuration b of a batch has the bias of chain b."""

    base: Action
    variable: CollectiveVariable
    bias: Bias

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.base.space

    def field(self, lattice_shape: Shape) -> FieldSpec:
        return self.base.field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.base(x) + torch.from_numpy(self.bias.at(self.variable.value(x.numpy())))

    def force(self, x: Tensor) -> Tensor:
        slope, gradient = self.bias.slope_at(self.variable.value(x.numpy())), self.variable.gradient(x.numpy())
        return self.base.force(x) - torch.from_numpy(per_chain(slope, gradient.ndim) * gradient)


def tuned_trajectories(sampler: HMC, chains: Chains, n_updates: int, report: Report) -> dict[str, Any]:
    """The length and the steps that HMC without a bias needs: the bias adds little to the stiffness."""
    x, action, _, streams = chains
    return sampler.tune(HMCState(x, action, streams), n_updates, report).findings()
