"""What every sampler offers: `init` and `step`, on explicit states."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.action import Action

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]
Report = Callable[[str], None]


def silent(text: str) -> None:
    """A report to nobody."""


@dataclass(frozen=True)
class Windows:
    """How the chains of a sampler are held in windows: a chain in window k samples the target times exp(-V_k(s)).

    The chains have no common weights until MBAR (`statistics.JoinedWindows`) joins the windows. Chains are dealt to the
    windows in turn, and the series `window` holds the number k of each chain.

    count: name of the sampler's argument that gives the number of windows. That many chains make a set.
    coordinate, symbol: name of the series s, and its symbol in messages.
    potentials: V_k(s) of every window, (n_windows, n), from the stored arguments and s (n,).
    """

    count: str
    coordinate: str
    symbol: str
    potentials: Callable[[Mapping[str, Any], Array], Array]


class Sampler(ABC):
    """A Markov chain (or a source of independent configurations) over one target, for B chains at once.

    Subclasses are frozen dataclasses whose fields are the keys of a card's table. A state is a NamedTuple of arrays (or
    of such tuples) with the random streams in it; its `x` (B, *event), float64, holds the current configurations.
    `step` never changes its argument. An info is a NamedTuple whose fields of shape (B,) are series of the chains;
    `proposal_log_w` (n, B) holds the weights of all proposals of the step.
    """

    action: Action

    weighted: ClassVar[bool] = False
    """The chain's distribution is not the target: averages need the series `log_w`."""

    ergodic: ClassVar[bool] = True
    """It reaches every configuration. One that does not is of use inside a mixture only."""

    windows: ClassVar[Windows | None] = None
    """How its chains are held in windows; None if they are not."""

    fewest_deposits: ClassVar[int] = 0
    """Thermalisation updates below which the bias that they build cannot be relied on; 0 if they build none."""

    @abstractmethod
    def init(self, x: Array, streams: Streams) -> Any:
        """The state of chains at x (B, *event) with one random stream (key, counter) each, (B, 2) uint64."""

    @abstractmethod
    def step(self, state: Any, n_updates: int = 1) -> tuple[Any, NamedTuple]:
        """The state after n_updates updates of every chain, and what happened."""

    def thermalise(self, state: Any, done: float) -> Any:
        """The state after one update that is thrown away; `done` is the part of the thermalisation that lies behind.

        A sampler that learns something from its own chains learns it here, and keeps it in the state.
        """
        return self.step(state)[0]

    def moved(self, state: Any, x: Array) -> Any:
        """The state of the same chains at other configurations x (B, *event)."""
        return self.init(x, state.streams)

    def target(self, state: Any, x: Array) -> Array:
        """Minus the log density that the chains have, at x (B, *event), up to a constant: (B,)."""
        return self.action.evaluate(x)

    @property
    def tuned(self) -> bool:
        """Whether nothing is left for `tune` to find."""
        return True

    def tune(self, state: Any, n_updates: int, report: Report = silent) -> "Sampler":
        """This sampler with what its arguments left open, found in the order of n_updates updates of these chains.

        `report` is called now and then with what is on trial; what it raises ends the tuning.
        """
        return self

    def findings(self) -> dict[str, Any]:
        """What `tune` found, in JSON's types; an ensemble stores it beside the card's settings."""
        return {}

    def with_findings(self, settings: Mapping[str, Any]) -> "Sampler":
        """This sampler as `tune` left it, from the stored settings."""
        return self


SamplerFactory = Callable[[Action], Sampler]
"""A sampler whose action is still open."""
