"""The Ising model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import Discrete, Space, shift
from lattice_flows.theories.action import (
    Action,
    Array,
    ClusterUpdates,
    DirectSampler,
    Field,
    LocalUpdates,
    NamedObservable,
    Shape,
    Streams,
)
from lattice_flows.theories.ising.closed_forms import ExactIsing
from lattice_flows.theories.ising.kernels.cluster import swendsen_wang, wolff
from lattice_flows.theories.ising.kernels.fields import bond_sum
from lattice_flows.theories.ising.kernels.local import heatbath_thresholds, metropolis_thresholds, sweeps
from lattice_flows.theories.ising.observables import NAMED, Energy, LowestMode, Magnetisation
from lattice_flows.theories.observable import Observable

_MOST = 1e6


class WolffInfo(NamedTuple):
    """The mean fraction of the sites that an update flipped, and the mean size of its cluster, which estimates V <M^2>;
    each (B,)."""

    cluster_size: Array
    improved_susceptibility: Array


class SwendsenWangInfo(NamedTuple):
    """The mean fraction of the sites in the cluster of a random one, and estimators of V <M^2> and <M^4>; each (B,)."""

    cluster_size: Array
    improved_susceptibility: Array
    improved_fourth_moment: Array


@dataclass(frozen=True)
class Ising(Action):
    """S(s) = -beta sum_x sum_mu s(x) s(x+mu) of spins s = -1, 1, (B, L0, L1), on a torus.

    The target is exp(-S)/Z, Z the sum over all configurations. On a side of two sites a pair of neighbours counts
    twice, once in either direction.

    Raises ValueError for a beta outside 0 ... 1e6.
    """

    beta: float
    space: ClassVar[Space] = Discrete((-1, 1))
    title: ClassVar[str] = "Ising model"
    symbols: ClassVar[Mapping[str, str]] = {"beta": "β"}
    dimensions: ClassVar[range] = range(2, 3)
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= _MOST:
            raise ValueError(f"beta must be a number between 0 and {_MOST:g}, got {self.beta}")

    def __call__(self, x: Tensor) -> Tensor:
        spins = x.to(torch.float64)
        return -self.beta * (spins * (shift(spins, 0) + shift(spins, 1))).flatten(1).sum(1)

    def evaluate(self, x: Field) -> Array:
        """S of an array of configurations (N, L0, L1) -> (N,), compiled."""
        return -self.beta * bond_sum(x).astype(np.float64)

    def multiple_of(self, other: Action) -> float | None:
        """beta / beta_other."""
        return self.beta / other.beta if isinstance(other, Ising) and other.beta > 0 else None

    def scaled(self, factor: float) -> "Ising":
        """Of coupling factor * beta."""
        return Ising(factor * self.beta)

    def toward(self, other: Action, t: float) -> Action:
        """Of the coupling in between, where the other is an Ising model too."""
        if isinstance(other, Ising):
            return Ising((1.0 - t) * self.beta + t * other.beta)
        return super().toward(other, t)

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """One spin per site."""
        if len(lattice_shape) != 2 or min(lattice_shape) < 2:
            raise ValueError(f"the Ising model needs two extents of 2 or more, got the shape {list(lattice_shape)}")
        return FieldSpec("spin", ("x0", "x1"), lattice_shape, self.space.dtype)

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """Energy, magnetisation and lowest mode."""
        return Energy(self), Magnetisation(), LowestMode()

    def closed_forms(self, lattice_shape: Shape) -> ExactIsing:
        """Kaufman's."""
        return ExactIsing(self.beta, lattice_shape)

    def direct_sampler(self) -> DirectSampler | None:
        """Independent spins at beta = 0."""
        if self.beta > 0:
            return None
        return DirectSampler(
            draw=lambda event, streams: self.hot(streams, event),
            log_q=lambda x: np.full(len(x), -math.log(2.0) * x[0].size),
        )

    def local_updates(self, event: Shape, backwards: bool = False) -> LocalUpdates:
        """Flips of single spins, compiled."""
        beta = float(self.beta)
        return LocalUpdates(
            jumps=lambda x, streams, n: sweeps(x, streams, metropolis_thresholds(beta), n, backwards),
            heatbath=lambda x, streams, n: sweeps(x, streams, heatbath_thresholds(beta), n, backwards)[:2],
        )

    def cluster_updates(self, event: Shape) -> ClusterUpdates:
        """Of either kind, compiled."""
        beta, volume = float(self.beta), math.prod(event)

        def one(x: Field, streams: Streams, n: int) -> tuple[Field, Streams, WolffInfo]:
            x, streams, size = wolff(x, streams, beta, n)
            return x, streams, WolffInfo(size / volume, size)

        def all_(x: Field, streams: Streams, n: int) -> tuple[Field, Streams, SwendsenWangInfo]:
            x, streams, second, fourth = swendsen_wang(x, streams, beta, n)
            return x, streams, SwendsenWangInfo(second, volume * second, fourth)

        return ClusterUpdates(wolff=one, swendsen_wang=all_)
