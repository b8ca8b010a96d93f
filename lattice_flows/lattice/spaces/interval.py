"""Numbers between two walls."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams

_ROUNDING = 1e-6  # of the length, beyond the walls


@dataclass(frozen=True)
class Interval(Space):
    """Numbers in [low, high] with the measure dx. What moves is reflected by the walls.

    Raises ValueError for ends that are not finite or not in order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"an interval needs finite ends low < high, got {self.low} and {self.high}")

    @property
    def length(self) -> float:
        return self.high - self.low

    @property
    def widest(self) -> float:  # type: ignore[override]
        return self.length

    def wrap(self, x: Tensor) -> Tensor:
        return self._folded(x)[0]

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        u, streams = uniforms(streams, math.prod(event))
        return self.low + self.length * u.reshape(-1, *event), streams

    def cold(self, event: Shape) -> Array:
        """The middle."""
        return np.full(event, self.low + 0.5 * self.length)

    def stored(self, x: Array, dtype: str) -> Array:
        if x.dtype == dtype:
            return x
        low, high = np.asarray(self.low, dtype), np.asarray(self.high, dtype)  # rounded, maybe to the outside
        low = low if low >= self.low else np.nextafter(low, high)
        high = high if high <= self.high else np.nextafter(high, low)
        return np.clip(x.astype(dtype), low, high)

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        x, sign = self._folded(x + time * momenta)
        return x, sign * momenta

    def _folded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x after its reflections, and -1 where there was an odd number of them, else 1."""
        # Distances from the lower wall repeat after twice the length, and run backwards in the second half.
        distance = torch.remainder(x - self.low, 2.0 * self.length)
        back = distance > self.length
        folded = self.low + torch.where(back, 2.0 * self.length - distance, distance)
        inside = (x >= self.low) & (x <= self.high)
        sign = torch.where(back & ~inside, -1.0, 1.0).to(x.dtype)
        return torch.where(inside, x, folded.clamp(self.low, self.high)), sign  # x as it is keeps its digits

    def fault(self, x: Tensor) -> str | None:
        margin = _ROUNDING * self.length
        outside = x[(x < self.low - margin) | (x > self.high + margin)]
        return f"{float(outside[0]):.6g} is outside [{self.low:g}, {self.high:g}]" if len(outside) else None

    def __str__(self) -> str:
        return f"numbers in [{self.low:g}, {self.high:g}]"
