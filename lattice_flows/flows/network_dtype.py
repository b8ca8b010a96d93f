"""The type in which context networks compute: that of their weights, unless a training asks for less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_asked: torch.dtype | None = None


def network_dtype(weight: torch.Tensor) -> torch.dtype:
    """In which a network with such weights computes now."""
    return weight.dtype if _asked is None else _asked


@contextmanager
def networks_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Inside, context networks compute in `dtype`, None: in that of their weights. What they return stays as it is.

    Weights and features are cast on their way in and outputs on their way out, which autograd undoes on its way back:
    weights, gradients, maps and log_det keep their types. The conditioners of a region tree are no such networks.
    """
    global _asked
    before, _asked = _asked, dtype
    try:
        yield
    finally:
        _asked = before
