"""What is sampled: couplings, S(x) and force(x), and whatever else is known about a theory."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels import hmc
from lattice_flows.kernels.biased import Biased
from lattice_flows.kernels.molecular_dynamics import Couplings
from lattice_flows.lattice import Space
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.observable import Observable

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Field = NDArray[Any]
"""Configurations, in the dtype of their space."""
Streams = NDArray[np.uint64]
Shape = tuple[int, ...]


class LocalUpdates(NamedTuple):
    """The compiled sweeps of an action at its couplings; None where there is no such update."""

    metropolis: Callable[[Field, Streams, float, int], tuple[Field, Streams, Array]] | None = None
    """x, streams, width, n_sweeps -> x, streams, accepted fraction"""
    jumps: Callable[[Field, Streams, int], tuple[Field, Streams, Array]] | None = None
    """The Metropolis updates of integers, which try another state: x, streams, n_sweeps -> x, streams, accepted
    fraction"""
    heatbath: Callable[[Field, Streams, int], tuple[Field, Streams]] | None = None
    """x, streams, n_sweeps -> x, streams"""
    overrelaxation: Callable[[Field, Streams, int], tuple[Field, Streams, Array]] | None = None
    """x, streams, n_sweeps -> x, streams, accepted fraction"""


ClusterUpdate = Callable[[Field, Streams, int], tuple[Field, Streams, NamedTuple]]
"""x, streams, n_updates -> x, streams, and the means over these updates, a NamedTuple of arrays (B,): `cluster_size`,
the fraction of the sites in a cluster, and improved estimators."""


class ClusterUpdates(NamedTuple):
    """The compiled cluster updates of an action at its couplings; None where there is no such update."""

    wolff: ClusterUpdate | None = None
    """One cluster from a random site is flipped."""
    swendsen_wang: ClusterUpdate | None = None
    """The whole lattice falls into clusters, each flipped with probability 1/2."""


class DirectSampler(NamedTuple):
    """Independent configurations and their density."""

    draw: Callable[[Shape, Streams], tuple[Field, Streams]]
    """event shape, streams (B, 2) -> x (B, *event), streams"""
    log_q: Callable[[Field], Array]
    """The log density of x (B, *event) relative to the reference measure, (B,)."""


class Oracle(Protocol):
    """The closed forms of a theory on one lattice: attributes, of which each theory has its own beside this one.

    A quantity without a closed form is absent, or None.
    """

    @property
    def log_z(self) -> float | None:
        """log Z relative to the reference measure."""


NamedObservable = Callable[..., Observable | tuple[Observable, ...]]
"""What makes an observable, or several at once, from the keys of a card; an argument `action` is the theory's."""


class Unavailable(ValueError):
    """Files or packages that a theory needs are not here; what was stored of it can be analysed all the same."""


class Action(ABC):
    """A target density p(x) = exp(-S(x)) / Z relative to the reference measure of its space.

    Subclasses are frozen dataclasses of couplings. They know no lattice size. A theory is this class and what it hands
    out: its fields, standard observables, closed forms, compiled updates.
    """

    space: ClassVar[Space]

    dimensions: ClassVar[range] = range(1)
    """Of the lattices that a card can ask for; 0 is a theory without a lattice."""

    title: ClassVar[str] = ""
    """What a page calls the theory, without its dimension; the card's name if empty."""
    symbols: ClassVar[Mapping[str, str]] = {}
    """Of couplings, on a page: {"beta": "β"}."""

    added: ClassVar[Mapping[str, Any]] = {}
    """Couplings that came later than the class, each with the value that a file means which does not have it."""

    clusters_reach_all: ClassVar[bool] = True
    """Cluster updates alone reach every configuration, where there are any."""

    first_length: ClassVar[float] = 1.0
    """The mean length of HMC trajectories with which tuning begins, about the width of the target in its variables, and
    that of chains for which none is given."""

    named_observables: ClassVar[Mapping[str, NamedObservable]] = {}
    """The observables that [[observable]] tables can ask for, by name."""

    collective_variables: ClassVar[Mapping[str, CollectiveVariable]] = {}
    """In which `umbrella` and `metadynamics` can work, by the name on a card; the first is meant if none is given."""

    def __new__(cls, *arguments: Any, **couplings: Any) -> Self:
        """Raises TypeError for a class that does not say where its variables live."""
        if not hasattr(cls, "space"):
            raise TypeError(f"{cls.__name__} needs an attribute `space`, such as lattice_flows.lattice.REAL")
        return super().__new__(cls)

    @abstractmethod
    def field(self, lattice_shape: Shape) -> FieldSpec:
        """One configuration: the name of the field, its axes, shape and dtype.

        lattice_shape is () for a theory without a lattice. Raises ValueError for a lattice on which the theory is not
        defined.
        """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """S of each configuration: x (B, *event) -> (B,), float64."""

    @final
    def event_shape(self, lattice_shape: Shape) -> Shape:
        """The shape of one configuration. Raises ValueError for a lattice on which the theory is not defined."""
        return self.field(lattice_shape).shape

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """The observables that every ensemble on this lattice measures."""
        return ()

    def closed_forms(self, lattice_shape: Shape) -> Any:
        """What is known exactly on this lattice, an `Oracle`, or None."""
        return None

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        """A random start for each stream, (B, *event)."""
        return self.space.hot(streams, event)

    def cold(self, event: Shape) -> Field:
        """The ordered start, (*event)."""
        return self.space.cold(event)

    def refresh(self, x: Field, streams: Streams) -> tuple["Action", Streams]:
        """The action for the next trajectory from x (B, *event), row b for chain b, and the advanced streams.

        An action with auxiliary fields, such as pseudofermions, draws them here from their distribution at x. Between
        two refreshes they are constants, and the chain of x keeps the action without them.
        """
        return self, streams

    def kernel_couplings(self, event: Shape) -> Couplings | None:
        """What `kernels.hmc` takes to compute with this action on configurations of shape `event`, where it can."""
        return None

    @final
    def collective_variable(self, name: str | None = None) -> CollectiveVariable:
        """The collective variable of this name, the theory's first if None. Raises ValueError where there is none."""
        known = self.collective_variables
        if not known:
            raise ValueError(f"{type(self).__name__} names no collective variable; see Action.collective_variables")
        if name is not None and name not in known:
            raise ValueError(f"variable must be one of {', '.join(known)}, got {name!r}")
        return known[name if name is not None else next(iter(known))]

    def biased_couplings(
        self, event: Shape, variable: CollectiveVariable, bias: Array, reach: float, centre: float
    ) -> Couplings | None:
        """What `kernels.hmc` takes for the target exp(-S - V(s)) of configurations of shape `event`, where it can.

        bias: V of each chain (B, n_grid) on a grid from centre - reach to centre + reach, see `kernels.grid_bias`.
        """
        base, own = self.kernel_couplings(event), variable.kernel
        return None if base is None or own is None else Biased(base, own, bias, reach, centre)

    def local_updates(self, event: Shape, backwards: bool = False) -> LocalUpdates:
        """The compiled sweeps for configurations of shape `event`, where there are any.

        backwards: through the variables in the opposite order, which is the sweep reversed in time.
        """
        return LocalUpdates()

    def cluster_updates(self, event: Shape) -> ClusterUpdates:
        """The compiled cluster updates for configurations of shape `event`, where there are any."""
        return ClusterUpdates()

    def direct_sampler(self) -> DirectSampler | None:
        """Draws independent configurations, where that is possible."""
        return None

    def multiple_of(self, other: "Action") -> float | None:
        """The number c with S = c S_other for every configuration, None where there is none."""
        return 1.0 if self == other else None

    def scaled(self, factor: float) -> "Action":
        """The action factor * S, of the same class where that has such couplings."""
        from lattice_flows.theories.combined import Combined  # which is an action itself

        return Combined(((factor, self),))

    def toward(self, other: "Action", t: float) -> "Action":
        """The action (1 - t) S + t S_other, of the same class where that has such couplings."""
        from lattice_flows.theories.combined import Combined

        return Combined(((1.0 - t, self), (t, other)))

    def evaluate(self, x: Field) -> Array:
        """S of an array of configurations (N, *event) -> (N,), compiled where possible."""
        couplings = self.kernel_couplings(x.shape[1:])
        if couplings is not None:
            return hmc.action(couplings, x)
        _tell_slow(type(self).__name__, x.shape[1:])
        return self(torch.from_numpy(x)).numpy()

    def force(self, x: Tensor) -> Tensor:
        """-dS/dx along the tangent, shaped like momenta; by autograd unless a subclass writes it out."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self(x).sum(), x)
        return -self.space.tangent(x.detach(), gradient)

    def with_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """S (B,) and the force at x, in one call where one brings both."""
        return self(x), self.force(x)


@cache
def _tell_slow(name: str, event: Shape) -> None:
    """Say once that torch computes this action, and what would be faster."""
    _log.warning(
        "%s: no compiled kernels for configurations of shape %s, so torch computes the action, which is slow; "
        "give them by kernel_couplings, see docs/add-a-theory.md",
        name,
        list(event),
    )
