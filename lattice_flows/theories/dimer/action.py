"""The bistable dimer in its bath."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action, Array, DirectSampler, Field, NamedObservable, Shape, Streams
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.dimer.closed_forms import LEAST_SCALE, ExactDimer, lone_dimer
from lattice_flows.theories.dimer.collective import COLLECTIVE, dimer_distance
from lattice_flows.theories.dimer.direct import draw_crystal, draw_dimer, log_z_of_crystal
from lattice_flows.theories.dimer.kernels.dynamics import (
    DIAMETER_SQUARED,
    FOURTH,
    HOLD,
    LARGEST_SQUARE,
    LEAST_SQUARE,
    LINEAR,
    MIDDLE,
    SQUARE,
    STIFFNESS,
    WALL,
    DimerCouplings,
)
from lattice_flows.theories.dimer.observables import NAMED, Distance, Energy, Open
from lattice_flows.theories.dimer.places import places_of
from lattice_flows.theories.observable import Observable

MOST_IN_BATH = 44  # places that a hot start has for them
_LARGEST_SCALE = 100.0
_STRONGEST, _STIFFEST = 100.0, 10_000.0
_HOT_LENGTHS = np.array([0.94, 2.06])  # the minima of the dimer's own energy


@dataclass(frozen=True)
class DimerBath(Action):
    """S = scale u of a dimer in a bath of n_bath soft discs in a box, positions x (B, 2 + n_bath, 2), the dimer first.

    u is that of F. Noe et al., Science 365 (2019) eaaw1147, see `kernels.dynamics`; scale is 1/T. The target is
    exp(-S)/Z relative to the product of all dx dy. It takes 40 (2 + n_bath)^2 bytes a configuration in torch, more
    with gradients.

    repulsion: multiplies the energy of all pairs but the dimer's own.
    tether: the constant of springs that hold the discs at places around the dimer, see `places.places_of`; none at 0.
    At repulsion 0 with springs the bath is an Einstein crystal, which is drawn directly at scales of 0.1 and more.

    Raises ValueError for n_bath outside 0 ... 44, a scale that is not above 0 and at most 100, a repulsion outside
    0 ... 100 and a tether outside 0 ... 10000.
    """

    n_bath: int = 36
    scale: float = 1.0
    repulsion: float = 1.0
    tether: float = 0.0
    title: ClassVar[str] = "dimer in a bath"
    space: ClassVar[Space] = REAL
    dimensions: ClassVar[range] = range(1)
    added: ClassVar[Mapping[str, float]] = {"repulsion": 1.0, "tether": 0.0}
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED
    collective_variables: ClassVar[Mapping[str, CollectiveVariable]] = COLLECTIVE

    def __post_init__(self) -> None:
        if not 0 <= self.n_bath <= MOST_IN_BATH:
            raise ValueError(f"n_bath must be between 0 and {MOST_IN_BATH}, got {self.n_bath}")
        if not 0 < self.scale <= _LARGEST_SCALE:
            raise ValueError(f"scale must be above 0 and at most {_LARGEST_SCALE:g}, got {self.scale}")
        if not 0 <= self.repulsion <= _STRONGEST:
            raise ValueError(f"repulsion must be between 0 and {_STRONGEST:g}, got {self.repulsion}")
        if not 0 <= self.tether <= _STIFFEST:
            raise ValueError(f"tether must be between 0 and {_STIFFEST:g}, got {self.tether}")

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """The positions in the plane, the dimer's two first."""
        if lattice_shape:
            raise ValueError(f"{type(self).__name__} has no lattice, got the shape {list(lattice_shape)}")
        return FieldSpec("x", ("particle", "coordinate"), (2 + self.n_bath, 2))

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """The length of the dimer, whether it is open, and the energy."""
        return Distance(), Open(), Energy(self)

    def energy(self, x: Array) -> Array:
        """u of each configuration (N, 2 + n_bath, 2) -> (N,)."""
        return hmc.action(replace(self, scale=1.0).kernel_couplings(x.shape[1:]), x)

    def kernel_couplings(self, event: Shape) -> DimerCouplings:
        """Always compiled."""
        places = places_of(self.n_bath).reshape(2, -1)
        return DimerCouplings(float(self.scale), float(self.repulsion), float(self.tether), places)

    def __call__(self, x: Tensor) -> Tensor:
        (first, second), bath = x[:, :2].unbind(1), x[:, 2:]  # (B, 2) each, (B, n_bath, 2)
        stretch = 2.0 * (torch.linalg.vector_norm(first - second, dim=1) - MIDDLE)
        square = stretch.square()
        u = LINEAR * stretch + square * (SQUARE + FOURTH * square)
        u = u + HOLD * ((first + second)[:, 0].square() + first[:, 1].square() + second[:, 1].square())
        u = u + STIFFNESS * _beyond_walls(x).square().sum((1, 2))
        i, j = torch.triu_indices(self.n_bath, self.n_bath, 1, device=x.device)
        among = _repulsion(bath[:, i] - bath[:, j]).sum(1, dtype=torch.float64)
        with_dimer = _repulsion(x[:, :2, None] - bath[:, None]).sum((1, 2), dtype=torch.float64)  # (B, 2, n_bath)
        if self.tether > 0:
            u = u + 0.5 * self.tether * self._off_places(x).square().sum((1, 2))
        return self.scale * (u.double() + self.repulsion * (among + with_dimer))

    def force(self, x: Tensor) -> Tensor:
        """-scale du/dx, shaped like x."""
        between = x[:, :, None] - x[:, None]  # (B, n, n, 2)
        strength = _strength(between)
        strength[:, :2, :2] = 0.0  # the dimer's own
        force = self.repulsion * (strength[..., None] * between).sum(2) - 2.0 * STIFFNESS * _beyond_walls(x)
        bond = between[:, 0, 1]  # (B, 2)
        length = torch.linalg.vector_norm(bond, dim=1, keepdim=True)
        stretch = 2.0 * (length - MIDDLE)
        slope = 2.0 * (LINEAR + stretch * (2.0 * SQUARE + 4.0 * FOURTH * stretch.square()))
        pull = slope * bond / length.clamp(min=1e-30)  # 0 at d = 0
        held = x[:, :2].clone()  # y_1, y_2 in the second coordinate
        held[:, :, 0] = x[:, :2, 0].sum(1, keepdim=True)
        if self.tether > 0:
            force[:, 2:] -= self.tether * self._off_places(x)
        force[:, :2] -= 2.0 * HOLD * held + torch.stack([pull, -pull], 1)
        return self.scale * force

    def _off_places(self, x: Tensor) -> Tensor:
        """How far each disc is from its place around this dimer, (B, n_bath, 2)."""
        is_open = torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=1) > MIDDLE
        return x[:, 2:] - torch.from_numpy(places_of(self.n_bath)).to(x)[is_open.long()]

    def direct_sampler(self) -> DirectSampler | None:
        """The Einstein crystal around a dimer, or the dimer alone."""
        independent = self.n_bath == 0 or (self.repulsion == 0 and self.tether > 0)
        return DirectSampler(self._draw, self._log_q) if independent and self.scale >= LEAST_SCALE else None

    def _draw(self, event: Shape, streams: Streams) -> tuple[Field, Streams]:
        dimer, streams = draw_dimer(self.scale, streams)
        if self.n_bath == 0:
            return dimer, streams
        is_open = dimer_distance(dimer) > MIDDLE
        bath, streams = draw_crystal(places_of(self.n_bath)[is_open.astype(int)], self.tether, self.scale, streams)
        return np.concatenate([dimer, bath], axis=1), streams

    def _log_q(self, x: Field) -> Array:
        """-S - log Z of what is independent, around the dimer as it is."""
        log_z = np.full(2, lone_dimer(self.scale).log_z)
        if self.n_bath:
            log_z += [log_z_of_crystal(places, self.tether, self.scale) for places in places_of(self.n_bath)]
        return -self.evaluate(x) - log_z[(dimer_distance(x) > MIDDLE).astype(int)]

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        """The dimer closed or open, and the bath at random on places of a grid around it."""
        places = _places()
        u, streams = uniforms(streams, 1 + len(places))
        chosen = np.argsort(u[:, 1:], axis=1)[:, : self.n_bath]  # (B, n_bath)
        half = 0.5 * _HOT_LENGTHS[(u[:, 0] < 0.5).astype(int)]
        ends = np.stack([-half, half], 1)  # (B, 2)
        dimer = np.stack([ends, np.zeros_like(ends)], 2)  # (B, 2, 2)
        return np.concatenate([dimer, places[chosen]], axis=1), streams

    def multiple_of(self, other: Action) -> float | None:
        """The ratio of the scales, where the baths are alike."""
        if not isinstance(other, DimerBath) or other != replace(self, scale=other.scale):
            return None
        return self.scale / other.scale

    def scaled(self, factor: float) -> Action:
        """The dimer at another scale, where that is one."""
        scale = factor * self.scale
        return replace(self, scale=scale) if 0 < scale <= _LARGEST_SCALE else super().scaled(factor)

    def toward(self, other: Action, t: float) -> Action:
        """The dimer at couplings in between, where the baths have the same size."""
        if not isinstance(other, DimerBath) or other.n_bath != self.n_bath or not 0 <= t <= 1:
            return super().toward(other, t)
        own, its = (1.0 - t) * self.scale, t * other.scale
        scale = own + its
        repulsion = (own * self.repulsion + its * other.repulsion) / scale
        return replace(self, scale=scale, repulsion=repulsion, tether=(own * self.tether + its * other.tether) / scale)

    def closed_forms(self, lattice_shape: Shape) -> ExactDimer | None:
        """Of the dimer without a bath, by quadrature, at scales of 0.1 and more."""
        return lone_dimer(self.scale) if self.n_bath == 0 and self.scale >= LEAST_SCALE else None


def _places() -> Array:
    """The places of a square grid between the walls that leave room for the dimer."""
    axis = 0.95 * WALL * np.linspace(-1.0, 1.0, 7)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid[(np.abs(grid[:, 0]) > 2.0) | (grid[:, 1] != 0.0)]


def _beyond_walls(x: Tensor) -> Tensor:
    """How far each coordinate is outside, with its sign."""
    return x - x.clamp(-WALL, WALL)


def _repulsion(between: Tensor) -> Tensor:
    """The energy of pairs whose particles are this far apart, (..., 2) -> (...)."""
    square = between.square().sum(-1)
    sixth = (DIAMETER_SQUARED / square.clamp(min=LEAST_SQUARE)) ** 3
    return torch.where(square < LARGEST_SQUARE, sixth.square(), 0.0)


def _strength(between: Tensor) -> Tensor:
    """The force of a pair over the vector between its particles, (..., 2) -> (...)."""
    square = between.square().sum(-1)
    inverse = DIAMETER_SQUARED / square.clamp(min=LEAST_SQUARE)
    near = (square < LARGEST_SQUARE) & (square > LEAST_SQUARE)
    return torch.where(near, (12.0 / DIAMETER_SQUARED) * (inverse**3).square() * inverse, 0.0)
