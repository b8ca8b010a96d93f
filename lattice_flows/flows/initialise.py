"""Weights drawn from an explicit generator."""

import torch
from torch import nn

from lattice_flows.flows.context import LoopContext


def initialise(flow: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every context network anew, in the order of `flow.modules()`; the generator is on the CPU."""
    for module in flow.modules():
        if isinstance(module, LoopContext):
            module.initialise(generator)
