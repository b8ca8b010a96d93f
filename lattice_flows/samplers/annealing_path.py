"""A path of actions with a sampler for each: nonequilibrium paths of configurations, and the work done on them.

Along a path x_0, ..., x_n the action changes from S_0 to S_1 at x_0, whose work is S_1(x_0) - S_0(x_0), then a sampler
that keeps exp(-S_1) makes x_1 of it, and so on. The mean of exp(-W), W the sum of the works, is Z_n / Z_0
(C. Jarzynski, cond-mat/9610209; R. M. Neal, physics/9803008), and exp(-W) weights x_n for the target exp(-S_n).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers.sampler import Array, Sampler, SamplerFactory, Streams
from lattice_flows.theories.action import Action, Field


class Paths(NamedTuple):
    """The far end x (B, *event) of B paths, and the work W (B,) of each, counted from S_0 to S_n."""

    x: Field
    work: Array


def check_kernel(kernel: Sampler, key: str) -> None:
    """Raise ValueError for a sampler that does not keep the target of chains that it sees for the first time."""
    if kernel.weighted or not kernel.memoryless:
        raise ValueError(
            f"{key}: {type(kernel).__name__} keeps no target in a single update from any configurations; "
            "use hmc, heatbath or metropolis"
        )


def updated(kernel: Sampler, x: Field, streams: Streams, n_updates: int = 1) -> Field:
    """x (B, *event) after n_updates of the sampler, with these streams (B, 2) for all that is random in them."""
    return kernel.step(kernel.init(x, streams), n_updates)[0].x


@dataclass(frozen=True)
class AnnealingPath:
    """The path from the action `first` to `last` with t = `times` (n + 1,) of the way, and a `kernel` for each."""

    first: Action
    last: Action
    kernel: SamplerFactory
    times: Array

    def action(self, k: int) -> Action:
        """S_k, of `last` where t is 1."""
        if k == 0:
            return self.first
        return self.last if k == len(self.times) - 1 else self.first.toward(self.last, float(self.times[k]))

    def work(self, k: int, x: Field) -> Array:
        """S_k - S_(k-1) at x (B, *event): the work of step k, before its update."""
        return self.action(k).evaluate(x) - self.action(k - 1).evaluate(x)

    def update(self, k: int, x: Field, streams: Streams) -> Field:
        """x (B, *event) after the update of step k."""
        return updated(self.kernel(self.action(k)), x, split_streams(streams, k))

    def forward(self, x: Field, streams: Streams) -> Paths:
        """Paths from x (B, *event), distributed as exp(-S_0), with streams (B, 2); x_n is distributed as exp(-S_n)
        with the weights exp(-W)."""
        work = np.zeros(len(x))
        for step in self._steps(x, streams):
            x, work = step.x, work + step.work
        return Paths(x, work)

    def works(self, x: Field, streams: Streams) -> Array:
        """The works (n, B) of the single steps of such paths."""
        return np.array([step.work for step in self._steps(x, streams)])

    def _steps(self, x: Field, streams: Streams) -> Iterator[Paths]:
        """The configurations after each step, and its work."""
        for k in range(1, len(self.times)):
            work = self.work(k, x)
            x = self.update(k, x, streams)
            yield Paths(x, work)

    def backward(self, x: Field, streams: Streams) -> Paths:
        """Paths from x (B, *event), distributed as exp(-S_n), to x_0: every update backwards, in the opposite order.

        W is still that from S_0 to S_n: the mean of exp(W) is Z_0 / Z_n. Raises ValueError for a kernel whose updates
        are not known backwards.
        """
        work = np.zeros(len(x))
        for k in range(len(self.times) - 1, 0, -1):
            x = updated(self.kernel(self.action(k)).reversed(), x, split_streams(streams, k))
            work += self.work(k, x)
        return Paths(x, work)
