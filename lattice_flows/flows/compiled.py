"""torch.compile for plaquette couplings."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lattice_flows.flows.plaquette_coupling import PlaquetteCoupling, move_active


def compile_couplings(flow: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let all plaquette couplings of `flow` run compiled code, in place; numbers change by rounding only.

    torch's default backend needs a C++ compiler and takes from seconds to a minute at the first forward and backward,
    again at every new batch size or lattice: it pays in long trainings only.
    """
    from torch._functorch import config  # the path gradient goes back through each layer several times

    config.donated_buffer = False
    compiled = torch.compile(move_active, dynamic=False, backend=backend)
    for part in flow.modules():
        if isinstance(part, PlaquetteCoupling):
            part.move_active = compiled
