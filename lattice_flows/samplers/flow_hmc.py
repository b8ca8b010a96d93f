"""HMC in the latent space of a flow: the trivialising map of arXiv:0907.5491, learned."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.flows import Ability, Flow, LatentAction, Pullback
from lattice_flows.later_keys import Changed
from lattice_flows.samplers.flow_hmc_tuning import tuned_flow_hmc
from lattice_flows.samplers.hmc import HMC, HMCInfo, HMCState
from lattice_flows.samplers.integrators import INTEGRATORS, drawn_trajectory, per_chain
from lattice_flows.samplers.proposals import device_of
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.theories.action import Action

Force = Literal["none", "clipped", "full", "total"]


class FlowHMCState(NamedTuple):
    """x (B, *event) the configurations, latent the HMC state of their latent coordinates."""

    x: Array
    latent: HMCState


@dataclass(frozen=True)
class FlowHMC(Sampler):
    """HMC on the pulled-back action S(f(z)) - log|det df/dz|, whose configurations are x = f(z).

    force: what kicks the momenta. A kick is reversible and keeps the measure whatever it is, so the chain is exact with
    each of these. "full" is the residual force of `LatentAction`: of a Gaussian prior without the prior's own part,
    which is rotated exactly. "clipped": each of its components cut to at most `clip`. "none": a trajectory is one
    drift, and only the test knows the target; where the drift covers the latent space, that is an independent proposal
    of the flow. "total": the force of S' as a whole along straight drifts, as it was before the others came; on angles
    it is "full". None asks `tune` for one of the first three, and is "full" where n_md_steps is given.

    Why less force may be more: a uniform latent z has dx/dz = 1/q(x), so the tails of every conditional density lie in
    narrow slits of the latent space, where any error of log q is a huge kick. Smaller steps meet more of the slits.

    clip: in latent units; None asks `tune` to choose between 0.2 and 1.
    trajectory_length, n_md_steps, target_acceptance, integrator, jitter: as for HMC; without a force there is one step.

    Raises ValueError for values that do not go together.
    """

    action: Action
    flow: Flow
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    jitter: float = 0.5
    force: Force | None = None
    clip: float | None = None
    reversible: ClassVar[bool] = True  # HMC in other coordinates
    memoryless: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ability]] = frozenset({"inverse"})
    added: ClassVar[Mapping[str, Any]] = {"jitter": 0.0, "force": "total", "clip": None}
    changed: ClassVar[Mapping[str, Changed]] = HMC.changed

    def __post_init__(self) -> None:
        if self.force not in (None, "none", "clipped", "full", "total"):
            raise ValueError(f"force must be none, clipped, full or total, got {self.force!r}")
        if self.clip is not None and not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be at least 0 and finite, got {self.clip}")
        self._settle()
        self.latent_hmc  # noqa: B018  (checks the arguments)

    def _settle(self) -> None:
        """Set what follows from what is given."""
        given: dict[str, Any] = {}
        if self.force is None and self.n_md_steps is not None:
            given["force"] = "full"
        if given.get("force", self.force) == "none":
            if self.n_md_steps not in (None, 1):
                raise ValueError(
                    f"n_md_steps = {self.n_md_steps}: without a force a trajectory is one drift; leave it out"
                )
            given["n_md_steps"] = 1
        elif self.n_md_steps is not None and self.trajectory_length is None:
            given["trajectory_length"] = 1.0
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def tunable(self) -> tuple[str, ...]:
        """The clip only where there is one."""
        names = ("force", "trajectory_length", "n_md_steps")
        return (*names, "clip") if self.force in (None, "clipped") else names

    @cached_property
    def pullback(self) -> Pullback:
        """The target as a function of z."""
        return Pullback(self.action, self.flow.transform)

    @cached_property
    def target_in_latent(self) -> Pullback | LatentAction:
        """The target of the latent chain, with the force that kicks it."""
        if self.force == "total":
            return self.pullback
        largest = {"none": 0.0, "clipped": self.clip or 0.0, "full": math.inf, None: 0.0}[self.force]
        return LatentAction(self.action, self.flow, largest)

    @cached_property
    def latent_hmc(self) -> HMC:
        """The chain in latent coordinates: HMC with that force."""
        settings = self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator
        return HMC(self.target_in_latent, *settings, str(device_of(self.flow)), self.jitter)

    def init(self, x: Array, streams: Streams) -> FlowHMCState:
        """The state of chains at x (B, *event)."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        with torch.no_grad():
            y = self.target_in_latent.origin(self._on_device(x))
        return FlowHMCState(x.copy(), self.latent_hmc.init(y.cpu().numpy(), streams))

    def step(self, state: FlowHMCState, n_updates: int = 1) -> tuple[FlowHMCState, HMCInfo]:
        """Make n_updates trajectories of every chain in the latent space."""
        accepted = np.zeros(len(state.x))
        for _ in range(n_updates):
            state, accept, delta_h = self._trajectory(state)
            accepted += accept
        if self.force == "total":  # as before: a configuration that stayed is the image of its latent one, to rounding
            state = state._replace(x=self._pushed(state.latent.x))
        return state, HMCInfo(accepted / n_updates, delta_h)

    def _trajectory(self, state: FlowHMCState) -> tuple[FlowHMCState, Array, Array]:
        hmc, target, (y, before, streams) = self.latent_hmc, self.target_in_latent, state.latent
        step_size = hmc.step_size
        assert hmc.n_md_steps is not None
        integrator = INTEGRATORS[self.integrator]
        made = drawn_trajectory(target, y, streams, integrator, step_size, hmc.n_md_steps, self.jitter, hmc.device)
        with torch.no_grad():
            image = target.image(made.end)
        after = image.action.cpu().numpy()
        accept, delta_h = made.tested(before, after)
        kept = per_chain(accept, y.ndim)
        latent = HMCState(np.where(kept, made.end.cpu().numpy(), y), np.where(accept, after, before), made.streams)
        x = np.where(per_chain(accept, state.x.ndim), image.x.cpu().numpy(), state.x)
        return FlowHMCState(x, latent), accept.astype(np.float64), delta_h

    def thermalise(self, state: FlowHMCState, done: float) -> FlowHMCState:
        """One trajectory, see `HMC.thermalise`."""
        latent = self.latent_hmc.thermalise(state.latent, done)
        return FlowHMCState(self._pushed(latent.x), latent)

    def moved(self, state: FlowHMCState, x: Array) -> FlowHMCState:
        """The same chains at x (B, *event)."""
        return self.init(x, state.latent.streams)

    def tune(self, state: FlowHMCState, n_updates: int, report: Report = silent) -> "FlowHMC":
        """This sampler with the force, clip, mean length and n_md_steps at which the slowest standard observable of x
        is cheapest, see `tuned_flow_hmc`; of the total force as `HMC.tune` finds them.
        """
        if self.force == "total":
            return replace(self, **self.latent_hmc.tune(state.latent, n_updates, report).findings())
        return tuned_flow_hmc(self, state, n_updates, report)

    def _pushed(self, y: Array) -> Array:
        """The configurations of latent coordinates."""
        with torch.no_grad():
            return self.target_in_latent.image(self._on_device(y)).x.cpu().numpy()

    def _on_device(self, x: Array) -> Tensor:
        return torch.from_numpy(x).to(self.latent_hmc.device)
