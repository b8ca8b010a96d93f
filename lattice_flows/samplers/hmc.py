"""Hybrid Monte Carlo (Duane et al. 1987) of any action: compiled where `kernels.hmc` knows it, torch elsewhere.

Both paths draw the same momenta from the same streams and make the same trajectory up to rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from lattice_flows.kernels import hmc
from lattice_flows.later_keys import Changed
from lattice_flows.samplers.integrators import INTEGRATORS, check_jitter, drawn_trajectory, per_chain
from lattice_flows.samplers.lengths import measured_by, settle_length, tuned_length
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tuning import tuned_n_md_steps, warming
from lattice_flows.theories.action import Action

_OVERHEAD = 2  # momenta and accept step, in steps of the integrator


class HMCState(NamedTuple):
    """x (B, *event), its action (B,), and the random streams (B, 2)."""

    x: Array
    action: Array
    streams: Streams


class HMCInfo(NamedTuple):
    """The accepted fraction of the updates and delta_h of the last one, each (B,)."""

    accepted: Array
    delta_h: Array


@dataclass(frozen=True)
class HMC(Sampler):
    """HMC with unit mass, on any space with momenta.

    action: the target.
    trajectory_length: the mean molecular-dynamics time of a trajectory; None asks `tune` to find it, and is the
    theory's `first_length`, mostly 1, where n_md_steps is given.
    n_md_steps: integrator steps per trajectory; None asks `tune` to find it.
    target_acceptance: what `tune` aims at.
    integrator: "leapfrog", "omelyan" (second order, minimum norm) or "omelyan4" (fourth order).
    device: where a torch action computes.
    jitter: every trajectory of every chain has a length of its own, uniform in 1 - jitter to 1 + jitter times the mean,
    by the step size. With a fixed length, 0, a mode whose half period it meets keeps its energy: exact, but so slow
    that errors come out too small (on 8x8 at beta = 9 a length of 1 meets the lowest plaquette waves).

    Raises ValueError for values out of range and for variables that cannot move continuously.
    """

    action: Action
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    device: str = "cpu"
    jitter: float = 0.5
    reversible: ClassVar[bool] = True  # momenta and length are drawn anew, and the integrator is
    memoryless: ClassVar[bool] = True
    tunable: ClassVar[tuple[str, ...]] = ("trajectory_length", "n_md_steps")
    added: ClassVar[Mapping[str, Any]] = {"jitter": 0.0}
    changed: ClassVar[Mapping[str, Changed]] = {"trajectory_length": Changed(1.0, since="jitter")}

    def __post_init__(self) -> None:
        if self.action.space.tangent_shape is None:
            name, space = type(self.action).__name__, self.action.space
            raise ValueError(f"hmc moves continuous variables, but those of {name} are {space}; use heatbath")
        settle_length(self)
        if self.trajectory_length is not None and not 0 < self.trajectory_length < float("inf"):
            raise ValueError(f"trajectory_length must be > 0, got {self.trajectory_length}")
        if self.n_md_steps is not None and not 1 <= self.n_md_steps <= 100_000:
            raise ValueError(f"n_md_steps must be between 1 and 100000, got {self.n_md_steps}")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance must be between 0 and 1, got {self.target_acceptance}")
        check_jitter(self.jitter)
        if self.integrator not in INTEGRATORS:
            raise ValueError(f"integrator must be one of {', '.join(INTEGRATORS)}, got {self.integrator!r}")

    def init(self, x: Array, streams: Streams) -> HMCState:
        """The state of chains at x (B, *event), float64.

        Raises ValueError for configurations that do not fit the action's space, and for an action or force of another
        shape or type than they should have.
        """
        x = np.ascontiguousarray(x, dtype=np.float64)
        couplings = self.action.kernel_couplings(x.shape[1:])
        if couplings is None:
            _check(self.action, x)
        action = self._torch_action(x) if couplings is None else hmc.action(couplings, x)
        return HMCState(x.copy(), action, streams.copy())

    def step(self, state: HMCState, n_updates: int = 1) -> tuple[HMCState, HMCInfo]:
        """n_updates trajectories of every chain.

        Raises ValueError when n_md_steps was neither given nor tuned.
        """
        step_size = self.step_size
        assert self.n_md_steps is not None
        couplings = self.action.kernel_couplings(state.x.shape[1:])
        if couplings is not None:
            drifts, kicks, _ = INTEGRATORS[self.integrator]
            step_sizes = np.full(len(state.x), step_size, dtype=np.float64)
            x, action, streams, accepted, delta_h = hmc.trajectories(
                couplings, *state, drifts, kicks, step_sizes, self.n_md_steps, n_updates, self.jitter
            )
            return HMCState(x, action, streams), HMCInfo(accepted, delta_h)
        accepted = np.zeros(len(state.x))
        for _ in range(n_updates):
            state, accept, delta_h = self._torch_trajectory(state, step_size)
            accepted += accept
        return state, HMCInfo(accepted / n_updates, delta_h)

    @property
    def step_size(self) -> float:
        """The mean step of the integrator. Raises ValueError when n_md_steps was neither given nor tuned."""
        if self.n_md_steps is None or self.trajectory_length is None:
            raise ValueError("n_md_steps is not set: give it, or call tune() first")
        return self.trajectory_length / self.n_md_steps

    def thermalise(self, state: HMCState, done: float) -> HMCState:
        """One trajectory. The first half of them takes small steps: from a hot start others are never accepted."""
        n_md_steps = warming(self.n_md_steps) if done < 0.5 else self.n_md_steps
        return replace(self, n_md_steps=n_md_steps).step(state)[0]

    def tune(self, state: HMCState, n_updates: int, report: Report = silent) -> "HMC":
        """This sampler with the n_md_steps that reaches the target acceptance, found in about 2 n_updates trajectories,
        and with the mean length that costs least, where none is given, in about three times as many more.

        `report` is called after each of them with what is on trial; what it raises ends the tuning.
        """
        if self.n_md_steps is not None:
            return self
        first = replace(self, trajectory_length=self.trajectory_length or self.action.first_length)
        first, state = first._with_steps(state, n_updates, report)
        if self.trajectory_length is not None:
            return first
        length, state = first._cheapest_length(state, n_updates, report)
        if length == first.trajectory_length:
            return first
        return replace(self, trajectory_length=length)._with_steps(state, n_updates, report)[0]

    def _cheapest_length(self, state: HMCState, n_updates: int, report: Report) -> tuple[float, HMCState]:
        """The mean length at which the slowest standard observable is cheapest, all with steps of this size, and the
        chains that found it."""
        measure = measured_by(self.action, state.x.shape[1:])

        def pilot(length: float) -> tuple[list[Array], float]:
            nonlocal state
            n_md_steps = max(1, round(length / self.step_size))
            trial = replace(self, trajectory_length=length, n_md_steps=n_md_steps)
            rows = []
            for k in range(n_updates + n_updates // 8):
                state, _ = trial.step(state)
                report(f"trajectory_length = {length:g}")
                if k >= n_updates // 8:
                    rows.append([state.action, *measure(state.x)])
            return list(np.array(rows).transpose(1, 0, 2)), n_md_steps + _OVERHEAD  # (n_observables, n, B)

        return tuned_length(pilot, self.action.first_length), state

    def _with_steps(self, state: HMCState, n_updates: int, report: Report) -> "tuple[HMC, HMCState]":
        """This sampler with n_md_steps as the target acceptance asks for, and the chains that found it."""

        def delta_h(n_md_steps: int, n: int) -> Array:
            nonlocal state
            trial = replace(self, n_md_steps=n_md_steps)
            found = []
            for _ in range(2 * n):
                state, info = trial.step(state)
                found.append(info.delta_h)
                report(f"n_md_steps = {n_md_steps}")
            return np.stack(found[n:])

        order = INTEGRATORS[self.integrator].order
        n_md_steps = tuned_n_md_steps(delta_h, self.target_acceptance, n_updates, order)
        return replace(self, n_md_steps=n_md_steps), state

    def _torch_action(self, x: Array, target: Action | None = None) -> Array:
        with torch.no_grad():
            return (target or self.action)(torch.from_numpy(x).to(self.device)).cpu().numpy()

    def _torch_trajectory(self, state: HMCState, step_size: float) -> tuple[HMCState, Array, Array]:
        assert self.n_md_steps is not None
        target, streams = self.action.refresh(state.x, state.streams)
        before = state.action if target is self.action else self._torch_action(state.x, target)
        integrator = INTEGRATORS[self.integrator]
        made = drawn_trajectory(
            target, state.x, streams, integrator, step_size, self.n_md_steps, self.jitter, self.device
        )
        with torch.no_grad():
            after = target(made.end).cpu().numpy()
        accept, delta_h = made.tested(before, after)
        kept = per_chain(accept, state.x.ndim)
        x = np.where(kept, made.end.cpu().numpy(), state.x)
        return HMCState(x, np.where(accept, after, before), made.streams), accept.astype(np.float64), delta_h


def _check(action: Action, x: Array) -> None:
    """Raise ValueError if S or the force of an action in torch is not what molecular dynamics takes."""
    name, space, event = type(action).__name__, action.space, x.shape[1:]
    own = space.variable_shape
    if event[len(event) - len(own) :] != own:
        raise ValueError(f"{name}: configurations of {space} must end in the axes {own}, got the shape {list(event)}")
    field = torch.from_numpy(x[:2])
    with torch.no_grad():
        value = action(field)
    if value.shape != (len(field),) or value.dtype != torch.float64:
        told = f"{list(value.shape)}, {value.dtype}"
        raise ValueError(f"{name}: S of {len(field)} configurations must be {[len(field)]}, torch.float64, got {told}")
    force, wanted = action.force(field), (len(field), *space.tangent_event(event))
    if force.shape != wanted:
        raise ValueError(f"{name}: the force must have the shape {list(wanted)}, like momenta, got {list(force.shape)}")
