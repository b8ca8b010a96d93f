"""Sequential Monte Carlo through the layers of a stochastic flow."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lattice_flows.flows import Ability, Proposer
from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.flow_samples import FlowSamplesInfo
from lattice_flows.samplers.path_layers import PathLayer, Random, Step
from lattice_flows.samplers.populations import (
    PopulationState,
    check_population,
    each_population,
    next_populations,
    redrawn,
    uneven,
)
from lattice_flows.samplers.proposals import bytes_of_batch, device_of, parts_of
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.samplers.stochastic_flow import StochasticFlow
from lattice_flows.theories.action import Action, Field, Shape


@dataclass(frozen=True)
class FlowSMC(Sampler):
    """Populations of particles that go through the layers of a stochastic flow, resampled on their way.

    With a flow that was trained for it, this is the sampler of arXiv:2201.13117 (CRAFT). A population begins with
    independent configurations of the flow's prior. Before each random layer, at the action S_k, the particles have the
    weights w = exp(-S_k(x) - log q), log q that of their paths. Where these are too uneven, the population is drawn
    anew by them, as in `SMC`, and log q becomes -S_k(x) - log of the mean w. That is the place for it: the transforms
    have done their work, copies of a particle are of use only where they then part, and a layer that keeps exp(-S_k)
    does not change w.

    The mean weight of a population is an unbiased estimate of Z for any flow, trained or not. Without transforms this
    is `SMC` with the flow's protocol; without resampling, `FlowSamples`. Sets of chains and errors are as for `SMC`.

    action: the target.
    flow: a `StochasticFlow`, in which all is fixed: nothing is tuned here.
    n_particles: of a population. Cards ask for whole numbers of populations; in Python the last one may have fewer.
    resample_below: from 0, which never resamples, to 1, which does so before every random layer.

    The particles of a population go through a network together, and no others with them: the bits do not depend on how
    chains are grouped into jobs of whole populations.

    Raises ValueError for values out of range and, when chains begin, for another flow or other configurations.
    """

    action: Action
    flow: Proposer
    n_particles: int = 64
    resample_below: float = 0.5
    weighted: ClassVar[bool] = True
    independent: ClassVar[bool] = True
    populations: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ability]] = frozenset({"layers"})

    def __post_init__(self) -> None:
        check_population(self.n_particles, self.resample_below)

    @property
    def path(self) -> StochasticFlow:
        """The flow. Raises ValueError for one of another kind."""
        if not isinstance(self.flow, StochasticFlow):
            raise ValueError("flow_smc is for stochastic flows, before whose random layers it resamples")
        return self.flow

    @property
    def chains_per_set(self) -> int:
        """The particles of a population."""
        return self.n_particles

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, a population on its way, and the weights of a step."""
        chains = super().least_bytes(n_chains, event, n_updates)
        return chains + bytes_of_batch(min(self.n_particles, n_chains), 1, event) + 8 * n_updates * n_chains

    def init(self, x: Field, streams: Streams) -> PopulationState:
        """The state before the first population; x (B, *event) only gives the shape, as every step replaces it."""
        x = np.array(x, dtype=self.action.space.dtype, order="C")
        if x.shape[1:] != self.path.prior.shape:
            raise ValueError(
                f"the flow makes configurations of {list(self.path.prior.shape)}, got some of {list(x.shape[1:])}"
            )
        return PopulationState(x, split_streams(streams, 0))

    def moved(self, state: PopulationState, x: Field) -> PopulationState:
        """The state with x, which the next step replaces."""
        return state._replace(x=np.array(x, dtype=self.action.space.dtype, order="C"))

    def step(self, state: PopulationState, n_updates: int = 1) -> tuple[PopulationState, FlowSamplesInfo]:
        """Make n_updates populations for every set of chains, of which the last one is kept."""
        return next_populations(state, n_updates, self.samples)

    def samples(self, streams: Streams, event: Shape) -> tuple[Field, Array]:
        """x (B, *event) of the particles of new populations, with these streams (B, 2), and their log w (B,).

        The mean of w over a population is its estimate of Z.
        """
        x, log_w = np.empty((len(streams), *event), dtype=self.action.space.dtype), np.empty(len(streams))
        with torch.no_grad():
            for ours in each_population(len(x), self.n_particles):
                x[ours], log_w[ours] = self._population(streams[ours])
        return x, log_w

    def _population(self, streams: Streams) -> tuple[Array, Array]:
        """x (n, *event) of a new population with these streams (n, 2), and log w (n,)."""
        path, start, ways, chance = self.path, *(split_streams(streams, k) for k in range(3))
        x = path.prior.drawn(start).to(device=device_of(path), dtype=torch.float64)
        log_q = path.prior.log_prob(x)
        for k, layer in enumerate(path.sequence()):
            if isinstance(layer, Random):
                x, log_q = self._evened(layer.action, x, log_q, split_streams(chance, k))
            x, log_ratio = _through(layer, x, split_streams(ways, k))
            log_q = log_q - log_ratio
        x = path.space.wrap(x)
        return x.cpu().numpy(), _log_w(self.action, x, log_q)

    def _evened(self, action: Action, x: Tensor, log_q: Tensor, chance: Streams) -> tuple[Tensor, Tensor]:
        """The particles and their log q, drawn anew if their weights for exp(-S) of this action are uneven."""
        log_w = _log_w(action, x, log_q)
        if not uneven(log_w, self.resample_below):
            return x, log_q
        ancestors, mean = redrawn(log_w, chance)
        # log q = -S - log w at each ancestor, with its new log w in the place of the old one.
        kept = torch.from_numpy(ancestors).to(x.device)
        return x[kept], log_q[kept] + torch.from_numpy(log_w[ancestors] - mean).to(x.device)


def _log_w(action: Action, x: Tensor, log_q: Tensor) -> Array:
    """-S(x) - log q, (n,), in double precision."""
    return -action.evaluate(np.ascontiguousarray(x.cpu().numpy())) - log_q.double().cpu().numpy()


def _through(layer: PathLayer, x: Tensor, streams: Streams) -> Step:
    """The step of the layer from x (n, *event), no more of them at a time than a flow's samples are made of."""
    parts = parts_of(len(x), x[0].numel(), x.device)
    steps = [layer.forward(x[part], streams[part]) for part in parts]
    return Step(torch.cat([step.x for step in steps]), torch.cat([step.log_ratio for step in steps]))
