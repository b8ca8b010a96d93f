"""The path gradient of flows whose samples are moved by symmetries."""

import torch
from torch import Tensor

from lattice_flows.flows.symmetrised import RandomlyMoved
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Paths, paths


@paths.register
def _(flow: RandomlyMoved, action: Action, z: Tensor, *noise: Tensor) -> Paths:
    """d log q / dx from the density at the moved samples, by the inverse of the flow; elements are constants."""
    x = flow.wrapped(flow.flow.image(z).x, *noise)
    end = x.detach().requires_grad_(True)
    log_q = flow.path_log_q(end, *noise)
    (score,) = torch.autograd.grad(log_q.sum(), end)
    return Paths(x * (score - action.force(x.detach())), -action(x.detach()) - log_q.detach())
