"""Sequential Monte Carlo: populations of annealed particles that are resampled on their way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.annealed import Annealed
from lattice_flows.samplers.annealing_path import AnnealingPath
from lattice_flows.samplers.flow_samples import FlowSamplesInfo
from lattice_flows.samplers.populations import (
    PopulationState,
    check_population,
    each_population,
    next_populations,
    redrawn,
    uneven,
)
from lattice_flows.samplers.sampler import Array, Report, Sampler, SamplerFactory, Streams, silent
from lattice_flows.theories.action import Action, Field, Shape


@dataclass(frozen=True)
class SMC(Sampler):
    """Populations of particles that go from a theory that can be drawn directly to the target, resampled on their way.

    A particle goes the path of annealed importance sampling (`Annealed`). Where the weights of a population have become
    so uneven that the effective number of its particles, (sum w)^2 / sum w^2, is below `resample_below` of them, it is
    replaced by particles drawn from it by their weights, which then all have the mean of these (P. Del Moral, A. Doucet
    and A. Jasra, J. R. Stat. Soc. B 68 (2006) 411; K. Hukushima and Y. Iba, AIP Conf. Proc. 690 (2003) 200). So the
    mean weight of a population is an unbiased estimate of Z, and sum w O / N of Z <O>, for any number of particles and
    steps, any protocol, and whenever it is resampled.

    Consecutive chains are the particles of a population, and each update makes a new one: populations are independent,
    particles of one are not, since they have ancestors in common. Errors come from populations alone.

    action, kernel, initial, n_steps, protocol, tuned_kernel: of the path, as for `Annealed`, whose pilots tune it.
    n_particles: of a population. Where chains are no whole number of populations, the last one has fewer.
    resample_below: from 0, which never resamples, to 1, which does so at every step.

    Raises ValueError for values out of range, and what `Annealed` raises.
    """

    action: Action
    kernel: SamplerFactory
    initial: dict[str, float]
    n_particles: int = 64
    n_steps: int = 100
    protocol: tuple[float, ...] | None = None
    resample_below: float = 0.5
    tuned_kernel: Mapping[str, Any] | None = None
    weighted: ClassVar[bool] = True
    independent: ClassVar[bool] = True
    populations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_population(self.n_particles, self.resample_below)
        _ = self.annealed  # which refuses what makes no path

    @cached_property
    def annealed(self) -> Annealed:
        """The sampler of single particles that are never resampled."""
        return Annealed(
            self.action, self.kernel, self.initial, self.n_steps, self.protocol, tuned_kernel=self.tuned_kernel
        )

    @property
    def inner(self) -> tuple[Sampler, ...]:
        """The kernel at the target."""
        return self.annealed.inner

    @property
    def chains_per_set(self) -> int:
        """The particles of a population."""
        return self.n_particles

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, and their weights in a step."""
        return super().least_bytes(n_chains, event, n_updates) + 8 * n_updates * n_chains

    def init(self, x: Field, streams: Streams) -> PopulationState:
        """The state before the first population; x (B, *event) only gives the shape, as every step replaces it."""
        start = self.annealed.init(x, streams)
        return PopulationState(start.x, start.streams)

    def moved(self, state: PopulationState, x: Field) -> PopulationState:
        """The state with x, which the next step replaces."""
        return state._replace(x=np.array(x, dtype=self.action.space.dtype, order="C"))

    def step(self, state: PopulationState, n_updates: int = 1) -> tuple[PopulationState, FlowSamplesInfo]:
        """Make n_updates populations for every set of chains, of which the last one is kept.

        Raises ValueError if the protocol was neither given nor tuned.
        """
        if self.protocol is None:
            raise ValueError("the protocol is not set: give it, or call tune() first")
        return next_populations(state, n_updates, self.samples)

    def samples(self, streams: Streams, event: Shape) -> tuple[Field, Array]:
        """x (B, *event) of the particles of new populations, with these streams (B, 2), and their log w (B,).

        The mean of w over a population is its estimate of Z.
        """
        x, log_w, streams = self.annealed.start(streams, event)
        path, chance = self.annealed.path(), split_streams(streams, 0)  # the steps of the path are counted from 1
        for k in range(1, self.n_steps + 1):
            x, log_w = self._step(path, k, x, log_w, streams, split_streams(chance, k))
        return x, log_w

    def _step(
        self, path: AnnealingPath, k: int, x: Field, log_w: Array, streams: Streams, chance: Streams
    ) -> tuple[Field, Array]:
        """The particles and their log w after step k; chance: the streams by which they are resampled."""
        log_w = log_w - path.work(k, x)
        for ours in each_population(len(x), self.n_particles):
            if uneven(log_w[ours], self.resample_below):
                ancestors, log_w[ours] = redrawn(log_w[ours], chance[ours])
                x[ours] = x[ours][ancestors]
        return path.update(k, x, streams), log_w

    @property
    def tunable(self) -> tuple[str, ...]:
        """The protocol."""
        return ("protocol",)

    def tune(self, state: PopulationState, n_updates: int, report: Report = silent) -> "SMC":
        """This sampler with kernel and protocol tuned by particles that are never resampled."""
        return self._as(self.annealed.tune(self.annealed.init(state.x, state.streams), n_updates, report))

    def findings(self) -> dict[str, Any]:
        """The protocol, and the findings of the kernel."""
        return self.annealed.findings()

    def with_findings(self, settings: Mapping[str, Any]) -> "SMC":
        """This sampler with the stored protocol and kernel."""
        return self._as(self.annealed.with_findings(settings))

    def _as(self, annealed: Annealed) -> "SMC":
        return replace(self, protocol=annealed.protocol, tuned_kernel=annealed.tuned_kernel)
