"""A flow yet to be built: its options are checked at once, its weights and tables are made when they are wanted."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import ClassVar, ParamSpec, final

import torch

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.initialise import initialise
from lattice_flows.lattice import Space

Options = ParamSpec("Options")


class FlowPlan(ABC):
    """What a flow is to be, on one lattice and for one theory.

    Subclasses are frozen dataclasses whose fields are the lattice's `shape`, where they need it the `action`, and the
    keys of a card's [flow]. Their constructors raise ValueError for whatever `assemble` could not build, and look at
    shapes and numbers alone: many commands read a card and need no flow, and a large one takes long to build.
    """

    shape: tuple[int, ...]

    space: ClassVar[Space]
    """Where the variables live that the flow is a density of."""

    @abstractmethod
    def assemble(self) -> Flow:
        """The flow, its weights in any state."""

    @final
    def build(self) -> Flow:
        """The flow, its weights drawn from a generator of seed 0: call `initialise` for others."""
        flow = self.assemble()
        assert flow.prior.space is self.space, f"{type(self).__name__} names another space than its prior"
        initialise(flow, torch.Generator().manual_seed(0))
        return flow


def building(plan: Callable[Options, FlowPlan]) -> Callable[Options, Flow]:
    """The function of a plan's arguments that builds its flow at once."""

    @wraps(plan, updated=())
    def build(*args: Options.args, **kwargs: Options.kwargs) -> Flow:
        return plan(*args, **kwargs).build()

    return build
