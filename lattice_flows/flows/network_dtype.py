"""The type in which context networks compute: that of their weights, unless a training asks for less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_asked: torch.dtype | None = None


def network_dtype(weight: torch.Tensor) -> torch.dtype:
    """The type in which a network with these weights computes now."""
    return weight.dtype if _asked is None else _asked


@contextmanager
def networks_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Make context networks compute in `dtype` inside the block (None: in that of their weights).

    Weights and features are cast on their way in and outputs on their way out, which autograd undoes on its way back:
    weights, gradients, maps and log_det keep their types. The conditioners of a region tree are not affected.
    """
    global _asked
    before, _asked = _asked, dtype
    try:
        yield
    finally:
        _asked = before
