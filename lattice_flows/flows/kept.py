"""What autograd keeps of a forward pass, counted, and passes through a chain that keep little."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lattice_flows.flows.transform import Chain, Transform

_MOST_BYTES = 2**29  # 512 MiB


class EnoughSeenError(Exception):
    """There is more to keep than there can be."""


class Kept:
    """The storages that autograd keeps, each counted once; ends the computation once there are more than `most`."""

    def __init__(self, most: float = math.inf) -> None:
        self.most, self.n_bytes = most, 0
        self._seen: dict[int, Any] = {}  # held, lest another one come to be at the same place

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage
            self.n_bytes += storage.nbytes()
            if self.n_bytes > self.most:
                raise EnoughSeenError
        return tensor


def forward_keeping_little(transform: Transform, z: Tensor, most_bytes: int = _MOST_BYTES) -> tuple[Tensor, Tensor]:
    """transform.forward(z), whose graph of autograd is bounded in memory where there are many transforms in a chain.

    Once the graph has `most_bytes`, only the input of each further transform is kept, which is computed again when its
    gradient is taken: the numbers are the same, and those transforms are computed once more. A transform with
    parameters that need a gradient is kept as a whole: recomputed ones give a gradient with respect to z alone.
    """
    if not (torch.is_grad_enabled() and z.requires_grad):
        return transform.forward(z)
    kept, total = Kept(), z.new_zeros(z.shape[0])
    for part in _parts(transform):
        if kept.n_bytes < most_bytes or any(weight.requires_grad for weight in part.parameters()):
            with saved_tensors_hooks(kept.add, lambda tensor: tensor):
                z, log_det = part.forward(z)
        else:
            z, log_det = _Recomputed.apply(z, part)
        total = total + log_det
    return z, total


def _parts(transform: Transform) -> Iterator[Transform]:
    """The transforms of a chain, and of the chains in it."""
    if isinstance(transform, Chain):
        for part in transform.sequence():
            yield from _parts(part)
    else:
        yield transform


class _Recomputed(torch.autograd.Function):
    """The map of a transform, of which nothing but z is kept."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, transform: Transform) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        ctx.transform = transform
        return transform.forward(z)

    @staticmethod
    def backward(ctx: Any, by_x: Tensor, by_log_det: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        z = ctx.saved_tensors[0].detach().requires_grad_(True)
        with torch.enable_grad():
            ends = ctx.transform.forward(z)
        # The log_det of a linear map depends on nothing.
        kept = [(end, by) for end, by in zip(ends, (by_x, by_log_det), strict=True) if end.requires_grad]
        (gradient,) = torch.autograd.grad([end for end, _ in kept], z, [by for _, by in kept])
        return gradient, None
