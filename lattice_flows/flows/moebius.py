"""Moebius transformations of the circle."""

from typing import ClassVar

import torch
from torch import Tensor

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.projection import mixture, point_of_disc


class Moebius(CircleTransform):
    """e^{iy} = e^{it} (e^{ix} - omega) / (1 - conj(omega) e^{ix}): the maps of the disc onto itself that keep angles.

    With t = 0 this is h_omega of arXiv:2002.02428 on the circle, and also what `ProjectionMixture` has as components.
    What the mixture lacks is the turn t. These maps are a group: the inverse, with the centre -omega after the turn -t,
    is of the same form and as fast. A mixture of them is none of them.

    Scalar: t, which is odd. Vector: h of omega = 0.99 h / sqrt(1 + h^2). Slopes are between 1/199 and 199.
    """

    smooth: ClassVar[bool] = True
    even_scalars: ClassVar[bool] = False
    n_scalars = 1
    n_vectors = 1

    def mirror(self, scalars: Tensor) -> Tensor:
        return -scalars

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        turn, u, v = parameters.unbind(-1)
        y, log_slope = _moved(x, *point_of_disc(u, v))
        return y + turn, log_slope

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        turn, u, v = parameters.unbind(-1)
        return _moved(y - turn, *point_of_disc(-u, -v))


def _moved(x: Tensor, u: Tensor, v: Tensor, rim: Tensor) -> tuple[Tensor, Tensor]:
    """The map of centre omega = (u, v) without a turn: a mixture of one."""
    displacement, slope = mixture(x, *(values.unsqueeze(0) for values in (torch.ones_like(u), u, v, rim)))
    return x + displacement, torch.log(slope)
