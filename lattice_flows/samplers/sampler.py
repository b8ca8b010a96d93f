"""The interface of samplers: `init` and `step`, on explicit states."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lattice_flows.flows.plan import Ability
from lattice_flows.later_keys import Changed
from lattice_flows.theories.action import Action, Shape

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]
Report = Callable[[str], None]


def silent(text: str) -> None:
    """A report that ignores the text."""


class Coordinate(NamedTuple):
    """A number of each configuration: the name of its series in a file, and its symbol in texts."""

    series: str
    symbol: str


@dataclass(frozen=True)
class Windows:
    """The windows of a sampler whose chains sample the target times exp(-V_k(s)), each in its own window k.

    The chains have no common weights until MBAR (`statistics.JoinedWindows`) joins them: only together do they
    represent the target. Chains are assigned to the windows in turn, and the series `window` holds the number k of
    each.

    count: name of the sampler's argument for the number of windows; that many chains make a set
        (`Sampler.chains_per_set`).
    coordinate: what s is, from the action (None where its code is not installed) and the stored arguments.
    potentials: V_k(s) of every window, (n_windows, n), from the stored arguments and s (n,).
    """

    count: str
    coordinate: Callable[[Action | None, Mapping[str, Any]], Coordinate]
    potentials: Callable[[Mapping[str, Any], Array], Array]


class Sampler(ABC):
    """A Markov chain (or a source of independent configurations) over one target, for B chains at once.

    Subclasses are frozen dataclasses whose fields are the keys of a card's table. A state is a NamedTuple of arrays (or
    of such tuples) with the random streams in it; its `x` (B, *event), in the dtype of the space, holds the current
    configurations. `step` never changes its argument. An info is a NamedTuple whose fields of shape (B,) are series of
    the chains; `proposal_log_w` (n, B) holds the weights of all proposals of the step. What a part of another sampler
    tells of several steps is put together by the names of the fields, see `info.over_steps`.
    """

    action: Action

    weighted: ClassVar[bool] = False
    """The chain's distribution is not the target: averages need the series `log_w`."""

    populations: ClassVar[bool] = False
    """The chains of a set are the particles of one population, which depend on one another, and each configuration is a
    new one: errors are those of populations. log_w has the constant for which the mean of w over each of them is an
    unbiased estimate of Z, so that populations are weighted by it."""

    ergodic: ClassVar[bool] = True
    """The sampler reaches every configuration. One that does not can only be used inside a mixture."""

    reversible: ClassVar[bool] = False
    """An update is in detailed balance with the chain's own target: as often from x to x' as from x' to x.

    All samplers keep their target, which is enough for averages, and for being a part of any sampler of this package.
    What is made of several updates in a fixed order, as a sweep is, is not reversible, though each of them may be.
    """

    independent: ClassVar[bool] = False
    """Every update is an independent sample, whatever came before: there is nothing to thermalise, and a card that does
    not ask for a thermalisation has none."""

    memoryless: ClassVar[bool] = False
    """An update keeps the target of any chains that come to it with nothing but x: `init` at x, and a step.

    A sampler that carries more from update to update, such as the other rungs of a ladder, does so only in the long
    run.
    """

    needs: ClassVar[frozenset[Ability]] = frozenset()
    """What it asks of the card's flow, beside samples and their density."""

    windows: ClassVar[Windows | None] = None
    """The windows in which the chains are held and how they are joined, or None."""

    added: ClassVar[Mapping[str, Any]] = {}
    """Arguments that came later than the class, each with the value that a file means which does not have it."""

    changed: ClassVar[Mapping[str, Changed]] = {}
    """Arguments that had another default once."""

    @property
    def inner(self) -> tuple["Sampler", ...]:
        """The samplers that this one is made of: what is asked of every sampler is asked of them, too."""
        return ()

    def walk(self) -> Iterator["Sampler"]:
        """Yields this sampler and all inside it, at any depth."""
        yield self
        for sampler in self.inner:
            yield from sampler.walk()

    def reversed(self) -> "Sampler":
        """The sampler of the same updates backwards in time: from x' to x as often as this one from x to x', in the
        target. Raises ValueError where it is not known."""
        if not self.reversible:
            raise ValueError(f"{type(self).__name__} does not know its updates backwards; use a reversible one, as hmc")
        return self

    @property
    def chains_per_set(self) -> int | None:
        """How many consecutive chains form a set, if they do; None if not.

        Only together do the chains of a set represent the target, and, but for `populations`, a constant in their log_w
        is theirs alone: each set is weighted by itself. A file holds whole sets. By default whole sets of every sampler
        inside.
        """
        sizes = [size for sampler in self.inner if (size := sampler.chains_per_set) is not None]
        return math.lcm(*sizes) if sizes else None

    fewest_deposits: ClassVar[int] = 0
    """The smallest number of thermalisation updates that builds a useful bias; 0 if no bias is built."""

    @abstractmethod
    def init(self, x: Array, streams: Streams) -> Any:
        """The state of chains at x (B, *event) with one random stream (key, counter) each, (B, 2) uint64."""

    @abstractmethod
    def step(self, state: Any, n_updates: int = 1) -> tuple[Any, NamedTuple]:
        """The state after n_updates updates of every chain, and the info of the step."""

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """What the states of so many chains of configurations of shape `event`, and the info of a step, take at least.

        A card that asks for more than there is is refused before anything is made.
        """
        inside = sum(sampler.least_bytes(n_chains, event, n_updates) for sampler in self.inner)
        return inside or n_chains * math.prod(event) * np.dtype(self.action.space.dtype).itemsize

    def thermalise(self, state: Any, done: float) -> Any:
        """The state after one update that is discarded; `done` is the completed fraction of the thermalisation.

        A sampler that learns something from its own chains does so here, and keeps it in the state.
        """
        return self.step(state)[0]

    def moved(self, state: Any, x: Array) -> Any:
        """The state of the same chains at other configurations x (B, *event)."""
        return self.init(x, state.streams)

    def target(self, state: Any, x: Array) -> Array:
        """Minus the log density of the chains at x (B, *event), up to a constant: (B,)."""
        return self.action.evaluate(x)

    @property
    def tunable(self) -> tuple[str, ...]:
        """Arguments that `tune` determines where they are None."""
        return ()

    @property
    def tuned(self) -> bool:
        """Whether nothing is left for `tune` to determine, here and in the samplers inside."""
        own = all(getattr(self, name) is not None for name in self.tunable)
        return own and all(sampler.tuned for sampler in self.inner)

    def tune(self, state: Any, n_updates: int, report: Report = silent) -> "Sampler":
        """This sampler with its open arguments determined, in the order of n_updates updates of these chains.

        `report` is called from time to time with the current trial; an exception from it ends the tuning.
        """
        return self

    def findings(self) -> dict[str, Any]:
        """The arguments that `tune` determined, in JSON's types; an ensemble stores them with the card's settings."""
        return {name: getattr(self, name) for name in self.tunable}

    def with_findings(self, settings: Mapping[str, Any]) -> Self:
        """This sampler as `tune` left it, from the stored settings."""
        found = {name: settings[name] for name in self.tunable if name in settings or getattr(self, name) is None}
        return replace(self, **found) if found else self  # type: ignore[type-var]


SamplerFactory = Callable[[Action], Sampler]
"""A function that makes a sampler for an action."""
