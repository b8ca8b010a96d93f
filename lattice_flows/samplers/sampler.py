"""What every sampler offers: `init` and `step`, on explicit states."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


class Sampler(Protocol):
    """A Markov chain (or a source of independent configurations) over one target, for B chains at once.

    A state is a NamedTuple of arrays (or of such tuples) with the random streams in it; its `x` (B, *event), float64,
    holds the current configurations. `step` never changes its argument. An info is a NamedTuple whose fields of shape
    (B,) are series of the chains; `proposal_log_w` (n, B) holds the weights of all proposals of the step. A sampler
    with `weighted = True` does not have the target as its distribution: its averages need the series `log_w`.
    """

    def init(self, x: Array, streams: Streams) -> Any:
        """The state of chains at x (B, *event) with one random stream (key, counter) each, (B, 2) uint64."""

    def step(self, state: Any, n_updates: int = 1) -> tuple[Any, NamedTuple]:
        """The state after n_updates updates of every chain, and what happened."""
