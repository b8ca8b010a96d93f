"""The path gradient of stochastic flows: of each transform between the actions before and after it."""

import torch
from torch import Tensor

from lattice_flows.flows import forward_with_score
from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers import StochasticFlow
from lattice_flows.samplers.path_layers import Deterministic, Random
from lattice_flows.samplers.stochastic_flow import streams_of
from lattice_flows.theories.action import Action
from lattice_flows.training.objectives import Paths, paths


@paths.register
def _(flow: StochasticFlow, action: Action, z: Tensor, *noise: Tensor) -> Paths:
    """Between two random layers transforms map exp(-S_(k-1)), as which their configurations are taken, towards
    exp(-S_k): the gradient of KL(T exp(-S_(k-1)) | exp(-S_k)) goes through T(x) alone, with the score of T's image.

    The sum over all of them; the random layers' own configurations are constants. It vanishes for every single path
    where the transforms are perfect.
    """
    streams = streams_of(*noise)
    x, score, log_q = z, flow.first.force(z), flow.prior.log_prob(z)
    along, mapped = torch.zeros_like(z), False
    for k, layer in enumerate(flow.sequence()):
        if isinstance(layer, Random):
            along, mapped = along + (_along(flow, layer.action, x, score) if mapped else 0.0), False
            x, log_ratio = layer.forward(x.detach(), split_streams(streams, k))
            score = layer.action.force(x)
        else:
            assert isinstance(layer, Deterministic)
            x, log_ratio, score = forward_with_score(layer.transform, x, score)
            mapped = True
        log_q = log_q - log_ratio.detach()
    if mapped:
        along = along + _along(flow, action, x, score)
    return Paths(along, -action(flow.space.wrap(x.detach())) - log_q)


def _along(flow: StochasticFlow, action: Action, x: Tensor, score: Tensor) -> Tensor:
    """x (B, *event) times what moves it: the score of its density less that of exp(-S)."""
    return x * (score - action.force(flow.space.wrap(x.detach())))
