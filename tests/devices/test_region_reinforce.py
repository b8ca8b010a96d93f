"""The score-function gradient by regions in torch: that of the compiled kernels, on any device, without waiting."""

import pytest
import torch
from cases import mlp_tree, structured_tree
from devices.watch import Watch
from torch import Tensor

from lattice_flows.flows import Flow, reduced
from lattice_flows.theories import WilsonU1
from lattice_flows.training import region_torch
from lattice_flows.training.region_reinforce import region_reinforce
from lattice_flows.training.region_torch import torch_region_reinforce

ACTION = WilsonU1(2.0)
TREES = pytest.mark.parametrize("build", [mlp_tree, structured_tree])
N = 40


def _shares(flow: Flow, device: torch.device | str) -> Tensor:
    shape = (N, *reduced(flow, ACTION).flow.prior.shape)
    if torch.device(device).type == "meta":
        return torch.empty(shape, device=device)
    return (6.0 * torch.rand(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 3.0).to(device)


def _estimate(function, flow: Flow, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss, log_w = function(z, reduced(flow, ACTION).flow.transform, ACTION)
    gradients = torch.autograd.grad(loss, list(flow.parameters()))
    assert loss.device == log_w.device == z.device
    return loss.detach().cpu(), log_w.cpu(), torch.cat([part.flatten() for part in gradients]).cpu()


def _assert_same(flow: Flow, there: Flow, device: torch.device) -> None:
    expected = _estimate(region_reinforce, flow, _shares(flow, "cpu"))
    found = _estimate(torch_region_reinforce, there, _shares(flow, device))
    for value, other in zip(found, expected):
        scale = float(other.abs().max())
        torch.testing.assert_close(value / scale, other / scale, atol=1e-9, rtol=0)


@TREES
@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (3, 5), (8, 8)], ids=str)
def test_it_is_that_of_the_kernels(build, shape: tuple[int, int], device: torch.device) -> None:
    flow = build(shape)
    _assert_same(flow, build(shape).to(device), device)


@pytest.mark.parametrize("constant", ["STIFFNESS", "_ALONE", "N_KNOTS"])
def test_another_baseline_is_caught(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = mlp_tree((4, 4))
    monkeypatch.setattr(region_torch, constant, {"STIFFNESS": 0.1001, "_ALONE": 0.2, "N_KNOTS": 32}[constant])
    with pytest.raises(AssertionError, match="not close"):
        _assert_same(flow, flow, torch.device("cpu"))


@TREES
def test_it_does_not_wait(build) -> None:
    flow = build((4, 4)).to("meta")
    _estimate_on_meta(flow)
    with Watch("meta") as watch:
        _estimate_on_meta(flow)
    assert watch.waits == []


def _estimate_on_meta(flow: Flow) -> None:
    loss, log_w = torch_region_reinforce(_shares(flow, "meta"), reduced(flow, ACTION).flow.transform, ACTION)
    assert (loss.device.type, log_w.shape) == ("meta", (N,))
    loss.backward()
