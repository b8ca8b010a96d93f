"""Labels of the bath: its particles are alike, and a configuration stands for the n_bath! that differ in their order.

`relabelled` picks one of these, and `LabelledDimerBath` is the target of what it picks. A flow that is trained on
relabelled configurations has one mode to learn in place of n_bath!.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import hmc
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action, Array, DirectSampler, Field, NamedObservable, Shape, Streams
from lattice_flows.theories.dimer.action import DimerBath
from lattice_flows.theories.dimer.collective import dimer_distance
from lattice_flows.theories.dimer.kernels.dynamics import MIDDLE, DimerCouplings
from lattice_flows.theories.dimer.observables import NAMED
from lattice_flows.theories.dimer.places import places_of
from lattice_flows.theories.observable import Observable

_TIED = 1e-9  # of the sum of squared distances: rounding must not decide


def relabelled(x: Array, reference: Array) -> Array:
    """The configurations (N, 2 + n_bath, 2) with the bath in the order closest to the places of a reference.

    reference: (2, n_bath, 2), the places around a closed dimer and around an open one. The order has the least sum of
    squared distances of bath particle k from place k (the Hungarian method, scipy's `linear_sum_assignment`), 40 us a
    configuration for n_bath = 36. The dimer stays as it is. Raises ValueError for another number of places than of
    particles in the bath, and for positions that are no numbers.
    """
    _check_reference(x, reference)
    orders = np.empty((len(x), reference.shape[1]), dtype=np.int64)
    for k, (bath, side) in enumerate(zip(x[:, 2:], _sides(x))):  # scipy takes one configuration at a time
        orders[k] = _closest(bath, reference[side])
    return np.concatenate([x[:, :2], np.take_along_axis(x[:, 2:], orders[:, :, None], axis=1)], axis=1)


def labelled(x: Array, reference: Array) -> NDArray[np.bool_]:
    """Whether the bath of each configuration (N, 2 + n_bath, 2) is in the order of `relabelled`, (N,) of bool.

    Orders that are equally close count as this order, too. False where a position is not finite.
    """
    _check_reference(x, reference)
    finite = np.isfinite(x).all((1, 2))
    found, sides = np.zeros(len(x), dtype=np.bool_), _sides(x)
    for k in np.flatnonzero(finite):
        bath, places = x[k, 2:], reference[sides[k]]
        gain = _overlap(bath[_closest(bath, places)], places) - _overlap(bath, places)
        found[k] = gain <= _TIED
    return found


def _check_reference(x: Array, reference: Array) -> None:
    wanted = (2, x.shape[1] - 2, 2)
    if reference.shape != wanted:
        raise ValueError(f"the reference must have the shape {list(wanted)}, got {list(reference.shape)}")


def _sides(x: Array) -> NDArray[np.int64]:
    """0 where the dimer is closed, 1 where it is open, (N,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return (dimer_distance(x) > MIDDLE).astype(np.int64)


def _closest(bath: Array, reference: Array) -> Array:
    """The particle of each place; of |x - r|^2 = x^2 - 2 x r + r^2 only the middle term depends on the order."""
    return np.asarray(linear_sum_assignment(reference @ bath.T, maximize=True)[1])


def _overlap(bath: Array, reference: Array) -> float:
    return 2.0 * float(np.vdot(bath, reference))


@dataclass(frozen=True)
class LabelledDimerBath(Action):
    """`DimerBath` where the bath is in the order closest to `reference`, see `relabelled`; S is infinite elsewhere.

    Every configuration of the whole target has one order of its bath in this domain, so that Z is that of the whole
    over n_bath!, and averages of what does not depend on the order are the same. Relabelled configurations of a chain
    of the whole target are those of this one, which is how to sample it. Its own HMC refuses to leave the domain.

    Where the springs of `tether` hold the bath, they label it, and S is that of the whole everywhere. So a path from
    the Einstein crystal is compiled up to its last step, where what has left the domain gets the weight 0.

    Raises ValueError as `DimerBath` does.
    """

    n_bath: int = 36
    scale: float = 1.0
    repulsion: float = 1.0
    tether: float = 0.0
    title: ClassVar[str] = "dimer in a labelled bath"
    space: ClassVar[Space] = REAL
    dimensions: ClassVar[range] = range(1)
    added: ClassVar[Mapping[str, float]] = DimerBath.added
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED

    def __post_init__(self) -> None:
        self.whole  # noqa: B018 - which checks the couplings

    @property
    def whole(self) -> DimerBath:
        """The target without the restriction."""
        return DimerBath(self.n_bath, self.scale, self.repulsion, self.tether)

    @property
    def reference(self) -> Array:
        """The places of the bath (2, n_bath, 2), see `places.places_of`."""
        return places_of(self.n_bath)

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """That of the whole target."""
        return self.whole.field(lattice_shape)

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """Those of the whole target."""
        return self.whole.observables(lattice_shape)

    def energy(self, x: Array) -> Array:
        """u of each configuration (N, 2 + n_bath, 2) -> (N,), in any order of the bath."""
        return self.whole.energy(x)

    def __call__(self, x: Tensor) -> Tensor:
        inside = torch.from_numpy(self._inside(x.detach().double().cpu().numpy())).to(x.device)
        return torch.where(inside, self.whole(x), math.inf)

    def evaluate(self, x: Field) -> Array:
        return np.where(self._inside(x), self.whole.evaluate(x), np.inf)

    def _inside(self, x: Array) -> NDArray[np.bool_]:
        return labelled(x, self.reference) if self.tether == 0 else np.ones(len(x), dtype=np.bool_)

    def force(self, x: Tensor) -> Tensor:
        """That of the whole target, inside as outside; compiled in double precision."""
        if x.device.type != "cpu" or x.dtype != torch.float64:
            return self.whole.force(x)
        array = np.ascontiguousarray(x.detach().numpy())
        return torch.from_numpy(hmc.force(self.whole.kernel_couplings(array.shape[1:]), array))

    def direct_sampler(self) -> DirectSampler | None:
        """That of the whole target where springs label the bath, or without a bath."""
        return self.whole.direct_sampler() if self.tether > 0 or self.n_bath == 0 else None

    def kernel_couplings(self, event: Shape) -> DimerCouplings | None:
        """Compiled where springs label the bath."""
        return self.whole.kernel_couplings(event) if self.tether > 0 else None

    def toward(self, other: Action, t: float) -> Action:
        """The labelled dimer at couplings in between, from springs to springs or to none."""
        between = self.whole.toward(other.whole, t) if isinstance(other, LabelledDimerBath) else None
        if not isinstance(between, DimerBath):
            return super().toward(other, t)
        return replace(self, **{field.name: getattr(between, field.name) for field in fields(between)})

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        """That of the whole target, relabelled."""
        x, streams = self.whole.hot(streams, event)
        return relabelled(x, self.reference), streams

    def multiple_of(self, other: Action) -> float | None:
        """The ratio of the scales, where the baths are alike."""
        return self.whole.multiple_of(other.whole) if isinstance(other, LabelledDimerBath) else None
