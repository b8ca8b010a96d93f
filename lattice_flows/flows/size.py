"""The memory of a flow before it is built: it is made on torch's meta device, whose tensors have no values."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_parameter_registration_hook

from lattice_flows.flows.flow import Proposer
from lattice_flows.flows.kept import Kept
from lattice_flows.flows.plan import FlowPlan


class FlowTooLarge(ValueError):
    """A flow's weights need more bytes than there are; the attribute `size` holds what was counted up to there."""

    def __init__(self, size: "FlowSize") -> None:
        super().__init__(f"the weights need more than {size.n_bytes} bytes")
        self.size = size


@dataclass
class FlowSize:
    """What is known of a flow's weights: their number, and their bytes. At least that, where it cannot be counted."""

    n_parameters: int = 0
    n_bytes: int = 0
    n_outputs: int = 0  # of all layers: rows of the weights
    flow: Proposer | None = None  # on the meta device; None where it cannot be made there

    def n_bytes_of_graph(self, n: int, dtype: torch.dtype, most: float = math.inf) -> int:
        """Bytes that autograd keeps of n samples until their gradient is taken, counted until there are more than
        `most`; those of the samples where that cannot be told without values."""
        if self.flow is None:
            return 0
        event, kept = self.flow.prior.shape, Kept(most)
        with _unless_values_are_needed(), saved_tensors_hooks(kept.add, lambda tensor: tensor):
            self.flow.to("meta").image(torch.empty(n, *event, dtype=dtype, device="meta"))
        return max(kept.n_bytes, n * math.prod(event) * dtype.itemsize)


def size_of(plan: FlowPlan, most: int) -> FlowSize:
    """The size of the flow that this plan would build, without the memory for it.

    Raises FlowTooLarge as soon as its weights have more bytes than `most`.
    """
    size = FlowSize()

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        size.n_parameters += parameter.numel()
        size.n_bytes += parameter.numel() * parameter.element_size()
        size.n_outputs += parameter.shape[0] if parameter.ndim else 1
        if size.n_bytes > most:
            raise FlowTooLarge(size)

    hook = register_module_parameter_registration_hook(count)
    try:
        with _unless_values_are_needed(), torch.device("meta"):
            size.flow = plan.assemble()
    finally:
        hook.remove()
    return size


@contextmanager
def _unless_values_are_needed() -> Iterator[None]:
    """Stop where code looks at values, which a meta tensor does not have, or leaves torch: it raises what it likes."""
    try:
        yield
    except FlowTooLarge:
        raise
    except Exception:
        return
