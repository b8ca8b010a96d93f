"""torch.compile changes nothing but rounding. A backend that runs the traced operations stands for the slow C++ one."""

import copy

import pytest
import torch
from torch import Tensor

from lattice_flows.actions import WilsonU1
from lattice_flows.flows import Flow, plaquette_coupling
from lattice_flows.flows.compiled import compile_couplings
from lattice_flows.training import path_gradient


def _loss_and_gradient(flow: Flow, seed: int) -> Tensor:
    loss = path_gradient(flow, WilsonU1(1.0), 3, torch.Generator().manual_seed(seed), torch.float64).loss
    gradients = torch.autograd.grad(loss, list(flow.parameters()))
    return torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in gradients)])


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's tracer warns of its own doing
@pytest.mark.parametrize("transform", ["projection", "spline"])
def test_compiled_couplings_give_the_same_numbers(transform: str, seed: int) -> None:
    flow = plaquette_coupling((4, 4), n_layers=2, transform=transform, hidden=(4,), n_bins=3).double()
    expected = _loss_and_gradient(flow, seed)
    names = set(flow.state_dict())
    traced: list[int] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        traced.append(len(inputs))
        return module

    compile_couplings(flow, backend)
    for compiled in (flow, copy.deepcopy(flow)):
        torch.testing.assert_close(_loss_and_gradient(compiled, seed), expected, atol=1e-12, rtol=1e-10)
    assert len(traced) == 1, "one compilation serves all layers"
    assert set(flow.state_dict()) == names
    assert expected.abs().max() > 0.1
