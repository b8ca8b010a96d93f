"""An action without its highest walls, for training."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action, Array, Field, Shape, Streams
from lattice_flows.theories.collective import CollectiveVariable

_HIGHEST = 1e30  # of S: what is above, infinite too, has this S and no force


@dataclass(frozen=True)
class Regularised(Action):
    """S up to `high`, and high + log(1 + S - high) above: F. Noe et al., Science 365 (2019) eaaw1147, supplement.

    Untrained flows propose molecules whose atoms lie upon each other, with S of 10^10 or infinite, which would be all
    that a mean of S or its gradient tells of. For training only: weights and accept steps take the action itself.
    In many dimensions this density cannot be normalised: a stretch by s costs 2 log s beyond `high`, and n coordinates
    gain n log s in entropy. With `high` too low the reverse KL runs away to configurations stretched without bound.

    high: an S, above the minimum by far more than the n coordinates that it holds, for a molecule its vibrations: on
    alanine dipeptide 100 above its `reference_action` is too low, and 500 is not.
    """

    action: Action
    high: float

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.action.space

    @property
    def collective_variables(self) -> Mapping[str, CollectiveVariable]:  # type: ignore[override]
        return self.action.collective_variables

    def field(self, lattice_shape: Shape) -> FieldSpec:
        return self.action.field(lattice_shape)

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        return self.action.hot(streams, event)

    def cold(self, event: Shape) -> Field:
        return self.action.cold(event)

    def __call__(self, x: Tensor) -> Tensor:
        return self._damped(self.action(x))

    def force(self, x: Tensor) -> Tensor:
        return self.with_force(x)[1]

    def with_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, force = self.action.with_force(x)
        above = (s - self.high).clamp(min=0.0)
        slope = (1.0 / (1.0 + above)).to(force).reshape(-1, *[1] * (x.ndim - 1))  # of what is damped
        held = (above < _HIGHEST).reshape(slope.shape)  # elsewhere the force may be beyond its type
        return self._damped(s), torch.where(held, slope * force, 0.0)

    def evaluate(self, x: Field) -> Array:
        return self._damped(torch.from_numpy(self.action.evaluate(x))).numpy()

    def _damped(self, s: Tensor) -> Tensor:
        above = (s - self.high).clamp(min=0.0, max=_HIGHEST)
        return torch.where(s <= self.high, s, self.high + torch.log1p(above))
