"""One of a few integers."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams


@dataclass(frozen=True)
class Discrete(Space):
    """One of the integers `states`, each with weight 1: (-1, 1) for Ising spins, range(q) for those of Potts.

    Raises ValueError for fewer than two states, states that are not in order, and those beyond 8 bits.
    """

    states: tuple[int, ...]
    tangent_shape: ClassVar[None] = None
    widest: ClassVar[float] = 1.0
    dtype: ClassVar[str] = "int8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "states", tuple(self.states))
        if len(self.states) < 2 or list(self.states) != sorted(set(self.states)):
            raise ValueError(f"states must be two or more integers in rising order, got {list(self.states)}")
        if self.states[0] < -128 or self.states[-1] > 127:
            raise ValueError(f"states must lie between -128 and 127, got {list(self.states)}")

    @property
    def _table(self) -> Array:
        return np.array(self.states, dtype=self.dtype)

    def wrap(self, x: Tensor) -> Tensor:
        return x

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        u, streams = uniforms(streams, math.prod(event))
        return self._table[(u * len(self.states)).astype(np.int64)].reshape(-1, *event), streams

    def cold(self, event: Shape) -> Array:
        """All in the last state."""
        return np.full(event, self.states[-1], dtype=self.dtype)

    def perturb(self, x: Array, streams: Streams, width: float) -> tuple[Array, Streams]:
        """Every variable takes another state with probability `width`."""
        q, n = len(self.states), math.prod(x.shape[1:])
        u, streams = uniforms(streams, 2 * n)
        moves, steps = np.moveaxis(u.reshape(len(x), 2, *x.shape[1:]), 1, 0)
        index = np.searchsorted(self._table, x)
        others = (index + 1 + (steps * (q - 1)).astype(np.int64)) % q
        return self._table[np.where(moves < width, others, index)], streams

    def fault(self, x: Tensor) -> str | None:
        known = torch.isin(x, torch.tensor(self.states, dtype=x.dtype, device=x.device))
        return None if bool(known.all()) else f"{x[~known][0].item():g} is none of {', '.join(map(str, self.states))}"

    def __str__(self) -> str:
        return f"the integers {', '.join(map(str, self.states))}"
