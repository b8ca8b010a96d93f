"""Weights of fresh flow samples."""

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.flows import Flow


def evaluate(
    flow: Flow,
    action: Action,
    n: int,
    generator: torch.Generator,
    batch: int = 1024,
    dtype: torch.dtype = torch.float64,
) -> NDArray[np.float64]:
    """log_w = -S(x) - log q(x) of n fresh samples, (n,), maps in double precision unless another `dtype` is given."""
    parts = []
    with torch.no_grad():
        for start in range(0, n, batch):
            x, log_q = flow.sample(min(batch, n - start), generator, dtype)
            parts.append((-action(x) - log_q).double().cpu().numpy())
    return np.concatenate(parts)
