"""A flow yet to be built: its options are checked at once, its weights and tables are made when they are wanted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, Literal, ParamSpec, final

import torch

from lattice_flows.flows.flow import Flow, Proposer
from lattice_flows.flows.initialise import initialise
from lattice_flows.lattice import Space

MOST_LAYERS = 1000
_WIDEST = 10_000

Options = ParamSpec("Options")

Ability = Literal["inverse", "gradient", "score", "paths", "regions", "layers"]
"""Of a flow: it has an inverse, and so a density at given fields; its samples can be differentiated with respect to its
parameters; d log q / dx of a sample can be carried along (`forward_with_score`); there are paths back from given fields
(`Proposer.path_log_q`), by an inverse or at random; the law of what is inside a square region is known from the
region's flux alone, whatever the lattice (`block_tree`); it is made of layers along a path of actions, which may be
random (`samplers.StochasticFlow`)."""


class FlowPlan(ABC):
    """What a flow is to be, on one lattice and for one theory.

    Subclasses are frozen dataclasses whose fields are the lattice's `shape`, where they need it the `action`, and the
    keys of a card's [flow]. Their constructors raise ValueError for whatever `assemble` could not build, and look at
    shapes and numbers alone: many commands read a card and need no flow, and a large one takes long to build.
    """

    shape: tuple[int, ...]

    space: ClassVar[Space]
    """Where the variables live that the flow is a density of; a property where it depends on the action."""

    offers: ClassVar[frozenset[Ability]] = frozenset({"inverse", "gradient", "score"})
    """What objectives and samplers can ask of the flow."""

    integrated: ClassVar[bool] = False
    """Whether its maps are integrated in steps, see `refine`, and so exact only to the error of these."""

    precisions: ClassVar[tuple[str, ...]] = ("float32", "float64")
    """In which it can be trained."""

    added: ClassVar[Mapping[str, Any]] = {}
    """Keys that came later than the class, each with the value that a checkpoint means which does not have it."""

    @property
    def table_bytes(self) -> int:
        """What the flow needs beside its weights, where that may be much: tables of sites, for example. At least."""
        return 0

    @abstractmethod
    def assemble(self) -> Proposer:
        """The flow, its weights in any state."""

    @final
    def build(self) -> Proposer:
        """The flow, its weights drawn from a generator of seed 0: call `initialise` for others."""
        flow = self.assemble()
        assert flow.space == self.space, f"{type(self).__name__} names another space than that of its flow"
        initialise(flow, torch.Generator().manual_seed(0))
        return flow


def abilities(plan: FlowPlan) -> frozenset[Ability]:
    """What the flow offers; with an inverse there are paths back, too."""
    return plan.offers | {"paths"} if "inverse" in plan.offers else plan.offers


def check_between(key: str, value: int, least: int, most: int) -> None:
    """Raise ValueError for a value beyond either."""
    if not least <= value <= most:
        raise ValueError(f"{key} must be between {least} and {most}, got {value}")


def check_widths(hidden: Sequence[int], fewest: int = 0) -> None:
    """Raise ValueError for widths of a network's hidden layers that make none: fewer than `fewest`, or beyond use."""
    if not fewest <= len(hidden) <= MOST_LAYERS or not all(1 <= width <= _WIDEST for width in hidden):
        raise ValueError(
            f"hidden must be a list of {fewest} to {MOST_LAYERS} widths between 1 and {_WIDEST}, got {list(hidden)}"
        )


def check_torus(name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a lattice that is not of two sides of 2 or more."""
    if len(shape) != 2 or min(shape) < 2:
        text = " x ".join(str(side) for side in shape) or "no lattice"
        raise ValueError(f"{name} needs a lattice of two sides of 2 or more; got {text}")


def building(plan: Callable[Options, FlowPlan]) -> Callable[Options, Flow]:
    """The function of a plan's arguments that builds its flow at once."""

    @wraps(plan, updated=())
    def build(*args: Options.args, **kwargs: Options.kwargs) -> Flow:
        flow = plan(*args, **kwargs).build()
        assert isinstance(flow, Flow)
        return flow

    return build
