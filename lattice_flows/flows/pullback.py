"""The target seen from the latent space of a flow."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows.kept import forward_keeping_little
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action


class Image(NamedTuple):
    """S'(z) (B,), and the configurations x = f(z) (B, *event), wrapped."""

    action: Tensor
    x: Tensor


@dataclass(frozen=True)
class Pullback(Action):
    """S'(z) = S(f(z)) - log|det df/dz|: exp(-S') is the target in latent coordinates and their reference measure.

    HMC on this action is flow-HMC, arXiv:2302.08408, after the trivialising maps of arXiv:0907.5491. The force is
    autograd's with respect to z alone; no parameter receives a gradient. Its memory is bounded, however many couplings
    the flow has (`forward_keeping_little`).

    Raises ValueError for a transform that maps to another space than the target's.
    """

    action: Action
    transform: Transform

    def __post_init__(self) -> None:
        if self.transform.codomain not in (None, self.action.space):
            raise ValueError(f"the flow maps to {self.transform.codomain}, but the target lives in {self.action.space}")

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of z."""
        return self.transform.domain or self.action.space

    def field(self, lattice_shape: tuple[int, ...]) -> FieldSpec:
        """That of the target."""
        return self.action.field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        field, log_det = forward_keeping_little(self.transform, x)
        return self.action(field) - log_det.double()

    def image(self, z: Tensor) -> Image:
        """S' and the configurations, from one pass of the transform."""
        x, log_det = self.transform.forward(z)
        return Image(self.action(x) - log_det.double(), self.action.space.wrap(x))

    def origin(self, x: Tensor) -> Tensor:
        """The z of configurations x (B, *event), wrapped."""
        return self.space.wrap(self.transform.inverse(x)[0])
