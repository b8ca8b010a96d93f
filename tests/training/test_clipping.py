"""Gradients clipped block by block."""

import pytest
import torch
from torch import Tensor, nn

from lattice_flows.training.clipping import BlockClip, NormClip, parameter_blocks

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 1)])
        self.tables = nn.ParameterList([torch.zeros(4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)])
        self.own = nn.Parameter(torch.zeros(1))


def _set(net: Net, norms: list[float]) -> None:
    """Give each block a gradient of this norm."""
    for block, norm in zip(parameter_blocks(net), norms):
        size = sum(weight.numel() for weight in block)
        for weight in block:
            weight.grad = torch.full_like(weight, norm / size**0.5)


def _norms(net: Net) -> list[float]:
    return [float(torch.cat([w.grad.double().flatten() for w in block]).norm()) for block in parameter_blocks(net)]


def test_a_block_is_what_one_module_holds() -> None:
    """Lists of parameters belong to their owner."""
    net = Net()
    blocks = [[id(weight) for weight in block] for block in parameter_blocks(net)]
    assert blocks == [
        [id(net.own), *map(id, net.tables)],
        *[[id(layer.weight), id(layer.bias)] for layer in net.layers],
    ]


def test_only_what_is_unusual_for_its_block_is_clipped() -> None:
    net = Net()
    clip = BlockClip(net, 1.5)
    for _ in range(50):
        _set(net, [1.0, 100.0, 0.01])
        clip()
        assert _norms(net) == pytest.approx([1.0, 100.0, 0.01], rel=1e-5)
    _set(net, [1.2, 1000.0, 0.01])
    total = clip()
    assert float(total) == pytest.approx(1000.0007, rel=1e-6)
    own, large, small = _norms(net)
    assert (own, small) == pytest.approx((1.2, 0.01), rel=1e-5)
    assert large == pytest.approx(1.5 * (100.0 + 900.0 / 51), rel=1e-5)  # the mean counts it too, once in 51


def test_one_outlier_raises_the_usual_norm_but_little() -> None:
    net = Net()
    clip = BlockClip(net, 1.5)
    for norm in [1.0] * 200 + [1e9]:
        _set(net, [norm] * 3)
        clip()
    assert clip.usual.max() < 1.1


def test_blocks_that_start_without_a_gradient_are_not_held_at_zero() -> None:
    net = Net()
    clip = BlockClip(net, 1.5)
    for norm in [0.0] * 5 + [0.1]:
        _set(net, [1.0, norm, 1.0])
        clip()
    assert _norms(net)[1] > 0.02
    net.own.grad = None  # a parameter that the loss does not depend on
    assert float(clip()) > 0


def test_what_is_not_finite_shows_in_the_norm() -> None:
    net = Net()
    clip = BlockClip(net, 1.5)
    _set(net, [1.0, float("nan"), 1.0])
    assert not torch.isfinite(clip())


def test_state_is_all_of_it() -> None:
    def run(clip: BlockClip, net: Net, norms: list[float]) -> list[Tensor]:
        for norm in norms:
            _set(net, [norm, 2.0, norm])
            clip()
        return [weight.grad for weight in net.parameters()]

    net = Net()
    one, other = BlockClip(net, 1.5), BlockClip(net, 1.5)
    run(one, net, [1.0, 3.0, 2.0])
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    expected = [gradient.clone() for gradient in run(one, net, [5.0, 1.0])]
    assert all(map(torch.equal, expected, run(other, net, [5.0, 1.0])))


def test_the_whole_gradient() -> None:
    net = Net()
    _set(net, [3.0, 4.0, 0.0])
    assert float(NormClip(net, 1.0)()) == pytest.approx(5.0)
    assert _norms(net) == pytest.approx([0.6, 0.8, 0.0], rel=1e-5)
