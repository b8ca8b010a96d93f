"""The target in a flow's latent space, in the coordinates in which flow-HMC moves, and the force of its kicks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.pullback import Image, Pullback
from lattice_flows.lattice import HARMONIC, Space
from lattice_flows.theories.action import Action


@dataclass(frozen=True)
class LatentAction(Action):
    """S'(y) = S(f(z)) - log|det df/dz| at z = y, or at the z that white noise y stands for in a Gaussian prior.

    Such a y moves as an oscillator (`Harmonic`), which takes care of the prior's part of S' exactly; what is left for
    kicks is the residual force R = -d/dy (S' - y^2 / 2), and of any other prior R = -dS'/dy. A flow that is perfect has
    R = 0. The kick is R with each component cut to at most `largest`: HMC is exact with any fixed kick, and a wrong one
    costs acceptance only.

    largest: 0 kicks never, and math.inf with R as it is.
    """

    action: Action
    flow: Flow
    largest: float

    @property
    def pullback(self) -> Pullback:
        """The target as a function of z."""
        return Pullback(self.action, self.flow.transform)

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of y."""
        return HARMONIC if self.flow.prior.gaussian else self.pullback.space

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """That of the target."""
        return self.action.field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.pullback(self.flow.prior.coloured(x))

    def force(self, x: Tensor) -> Tensor:
        """The kick."""
        if self.largest == 0.0:
            return torch.zeros_like(x)
        residual = super().force(x)
        if self.flow.prior.gaussian:
            residual = residual + x
        return residual.clamp(-self.largest, self.largest)

    def image(self, y: Tensor) -> Image:
        """S' and the configurations, from one pass of the flow."""
        return self.pullback.image(self.flow.prior.coloured(y))

    def origin(self, x: Tensor) -> Tensor:
        """The y of configurations x (B, *event), wrapped."""
        return self.space.wrap(self.flow.prior.whitened(self.pullback.origin(x)))
