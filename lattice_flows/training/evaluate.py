"""Weights of fresh flow samples, and of configurations from elsewhere."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.flows import Flow, reduced

_BATCH = 256


def evaluate(
    flow: Flow,
    action: Action,
    n: int,
    generator: torch.Generator,
    batch: int = _BATCH,
    dtype: torch.dtype = torch.float64,
) -> NDArray[np.float64]:
    """log_w = -S(x) - log q(x) of n fresh samples, (n,), maps in double precision unless another `dtype` is given."""
    flow, action = reduced(flow, action)
    parts = []
    with torch.no_grad():
        for start in range(0, n, batch):
            x, log_q = flow.sample(min(batch, n - start), generator, dtype)
            parts.append((-action(x) - log_q).double().cpu().numpy())
    return np.concatenate(parts)


def evaluate_on(
    flow: Flow, action: Action, x: Tensor, batch: int = _BATCH, dtype: torch.dtype = torch.float64
) -> NDArray[np.float64]:
    """log_w of configurations x (n, *event), (n,): on samples of the target its mean is log Z + KL(p|q)."""
    device = next(flow.parameters(), x).device
    parts = []
    with torch.no_grad():
        for some in x.split(batch):
            some = some.to(device=device, dtype=dtype)
            parts.append((-action(some) - flow.log_prob(some)).double().cpu().numpy())
    return np.concatenate(parts)
