"""Weights drawn from an explicit generator."""

from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Initialisable(Protocol):
    """A module that knows how to draw its own weights, and those of its parts."""

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw all weights."""


def initialise(flow: nn.Module, generator: torch.Generator) -> None:
    """Redraw the weights of every network, in the order of `flow.modules()`; the generator is on the CPU."""
    if isinstance(flow, Initialisable):
        flow.initialise(generator)
        return
    for part in flow.children():
        initialise(part, generator)
