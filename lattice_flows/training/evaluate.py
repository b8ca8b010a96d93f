"""Weights of fresh flow samples, and of configurations from elsewhere."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows import Proposer, reduced
from lattice_flows.theories.action import Action
from lattice_flows.training.ranks import ALONE, Ranks

_BATCH = 256


def evaluate(
    flow: Proposer,
    action: Action,
    n: int,
    generator: torch.Generator,
    batch: int = _BATCH,
    dtype: torch.dtype = torch.float64,
    ranks: Ranks = ALONE,
) -> NDArray[np.float64]:
    """log_w = -S(x) - log q(x) of n fresh samples, (n,), maps in double precision unless another `dtype` is given.

    Several `ranks` share the work; the samples do not depend on the number of ranks.
    """
    flow, action = reduced(flow, action)
    parts = []
    with torch.no_grad():
        for start in range(0, n, batch):
            n_now = min(batch, n - start)
            drawn = flow.latents(n_now, generator, dtype)
            own = [part[ranks.rows(n_now)] for part in drawn]
            parts.append(ranks.gathered(_of_latents(flow, action, *own), n_now).cpu().numpy())
    return np.concatenate(parts)


def evaluate_on(
    flow: Proposer,
    action: Action,
    x: Tensor,
    generator: torch.Generator,
    batch: int = _BATCH,
    dtype: torch.dtype = torch.float64,
    ranks: Ranks = ALONE,
) -> NDArray[np.float64]:
    """log_w of configurations x (n, *event), (n,): on samples of the target its mean is log Z + KL(p|q).

    The generator is for what is random in paths back, see `Proposer.path_log_q`.
    """
    device = next(flow.parameters(), x).device
    parts = []
    with torch.no_grad():
        for some in x.split(batch):
            drawn = some.to(device=device, dtype=dtype), *flow.noise(len(some), generator)
            own = [part[ranks.rows(len(some))] for part in drawn]
            parts.append(ranks.gathered(_of_configurations(flow, action, *own), len(some)).cpu().numpy())
    return np.concatenate(parts)


def _of_latents(flow: Proposer, action: Action, z: Tensor, *noise: Tensor) -> Tensor:
    """log_w of the images of z (n, *event), (n,); n is 0 where there are more processes than rows."""
    if len(z) == 0:
        return z.new_zeros(0, dtype=torch.float64)
    x, log_q = flow.image(z, *noise)
    return (-action(x) - log_q).double()


def _of_configurations(flow: Proposer, action: Action, x: Tensor, *noise: Tensor) -> Tensor:
    """log_w of x (n, *event), (n,); n may be 0."""
    if len(x) == 0:
        return x.new_zeros(0, dtype=torch.float64)
    return (-action(x) - flow.path_log_q(x, *noise)).double()
