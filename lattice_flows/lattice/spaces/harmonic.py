"""Real numbers whose free motion is a rotation: white noise, in which Gaussian priors are written."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.lattice.spaces.real import REAL
from lattice_flows.lattice.spaces.space import Array, Shape, Space, Streams


@dataclass(frozen=True)
class Harmonic(Space):
    """Real numbers y with the measure dy that move, without a force, as oscillators of frequency 1.

    The motion keeps y^2 / 2 + p^2 / 2: of a standard normal density nothing is left for a force to do.
    """

    def wrap(self, x: Tensor) -> Tensor:
        return x

    def hot(self, streams: Streams, event: Shape) -> tuple[Array, Streams]:
        return REAL.hot(streams, event)

    def cold(self, event: Shape) -> Array:
        return REAL.cold(event)

    def drift(self, x: Tensor, momenta: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.as_tensor(time, dtype=x.dtype, device=x.device)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return cos * x + sin * momenta, cos * momenta - sin * x

    def fault(self, x: Tensor) -> str | None:
        return None

    def __str__(self) -> str:
        return "white noise"


HARMONIC = Harmonic()
