"""HMC in the latent space of a flow: the trivialising map of arXiv:0907.5491, learned."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from lattice_flows.flows import Flow, Pullback
from lattice_flows.later_keys import Changed
from lattice_flows.samplers.hmc import HMC, HMCInfo, HMCState
from lattice_flows.samplers.lengths import settle_length
from lattice_flows.samplers.proposals import device_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action


class FlowHMCState(NamedTuple):
    """x (B, *event) the configurations, latent the HMC state of z = f^-1(x)."""

    x: Array
    latent: HMCState


@dataclass(frozen=True)
class FlowHMC(Sampler):
    """HMC on the pulled-back action S(f(z)) - log|det df/dz|, whose configurations are x = f(z).

    The arguments after `flow` are those of HMC. delta_h falls like step_size^2 if f is smooth; for a rational-quadratic
    spline, which is only C^1, it falls like step_size. The chain is exact in either case.
    """

    action: Action
    flow: Flow
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    jitter: float = 0.5
    reversible: ClassVar[bool] = True  # HMC in other coordinates
    tunable: ClassVar[tuple[str, ...]] = (
        "trajectory_length",
        "n_md_steps",
    )
    added: ClassVar[Mapping[str, Any]] = {"jitter": 0.0}
    changed: ClassVar[Mapping[str, Changed]] = HMC.changed

    def __post_init__(self) -> None:
        settle_length(self)
        self.latent_hmc  # noqa: B018  (checks the arguments)

    @cached_property
    def pullback(self) -> Pullback:
        """The target of the latent chain."""
        return Pullback(self.action, self.flow.transform)

    @cached_property
    def latent_hmc(self) -> HMC:
        """The chain of z."""
        settings = self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator
        return HMC(self.pullback, *settings, str(device_of(self.flow)), self.jitter)

    def init(self, x: Array, streams: Streams) -> FlowHMCState:
        """The state of chains at x (B, *event)."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        with torch.no_grad():
            z, _ = self.flow.transform.inverse(torch.from_numpy(x).to(self.latent_hmc.device))
        return FlowHMCState(x.copy(), self.latent_hmc.init(self.pullback.space.wrap(z).cpu().numpy(), streams))

    def step(self, state: FlowHMCState, n_updates: int = 1) -> tuple[FlowHMCState, HMCInfo]:
        """Make n_updates trajectories of every chain in the latent space."""
        latent, info = self.latent_hmc.step(state.latent, n_updates)
        return FlowHMCState(self._pushed(latent.x), latent), info

    def thermalise(self, state: FlowHMCState, done: float) -> FlowHMCState:
        """One trajectory, see `HMC.thermalise`."""
        latent = self.latent_hmc.thermalise(state.latent, done)
        return FlowHMCState(self._pushed(latent.x), latent)

    def moved(self, state: FlowHMCState, x: Array) -> FlowHMCState:
        """The same chains at x (B, *event)."""
        return self.init(x, state.latent.streams)

    def tune(self, state: FlowHMCState, n_updates: int, report: Report = silent) -> "FlowHMC":
        """This sampler with the trajectories that `HMC.tune` finds."""
        return replace(self, **self.latent_hmc.tune(state.latent, n_updates, report).findings())

    def _pushed(self, z: Array) -> Array:
        """The configurations x = f(z)."""
        with torch.no_grad():
            return self.pullback.push(torch.from_numpy(z).to(self.latent_hmc.device)).cpu().numpy()
