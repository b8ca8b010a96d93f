"""Networks of less precision: the density stays that of the samples, only what the networks say is coarser."""

import copy

import pytest
import torch
from devices.registry import Pair, pair_named
from torch import Tensor

from lattice_flows.flows import Flow
from lattice_flows.flows.network_dtype import network_dtype, networks_in
from lattice_flows.training import path_gradient, reverse_kl
from lattice_flows.training.precision import network_precision

COUPLINGS = pytest.mark.parametrize("name", ["projection", "spline", "scalar affine", "scalar spline"])
CPU = torch.device("cpu")


def _pair(name: str) -> Pair:
    """Networks in float32, not far from the identity: there what is coarse by 1/256 shows as no more than that."""
    pair = pair_named(name)
    with torch.no_grad():
        for weight in pair.flow.transform.parameters():
            weight.mul_(0.3)
    pair.flow.float()
    return pair


def _gradient(pair: Pair, precision: str | None, n: int = 64) -> tuple[Tensor, Tensor]:
    """Of the transform's weights, and log_w."""
    with torch.no_grad():
        batch = path_gradient.draw(pair.flow, pair.action, n, torch.Generator().manual_seed(5), torch.float64)
    with network_precision(precision, CPU):
        loss, log_w = path_gradient.loss(pair.flow, pair.action, batch)
        gradients = torch.autograd.grad(loss, list(pair.flow.transform.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return torch.cat([gradient.flatten().double() for gradient in gradients]), log_w


@COUPLINGS
def test_the_gradient_is_close_to_that_of_single_precision(name: str) -> None:
    exact, log_w = _gradient(_pair(name), None)
    coarse, coarse_log_w = _gradient(_pair(name), "bfloat16")
    error = float((coarse - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.05, "not the same, for the networks are coarser, and not another one"
    assert coarse_log_w.dtype == torch.float64
    assert 0.0 < float((coarse_log_w - log_w).abs().max()) < 1.0
    same, _ = _gradient(_pair(name), "float32")
    assert torch.equal(same, exact)


@COUPLINGS
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_det_is_that_of_the_coarse_map(name: str, direction: str) -> None:
    """A layer's Jacobian is triangular whatever slope autograd gives to the rounding of a network."""
    pair = _pair(name).one_layer()
    function = getattr(pair.flow.transform, direction)
    x = pair.field(1, "cpu")
    copies = x.repeat(x.numel(), *[1] * (x.ndim - 1)).requires_grad_(True)
    with network_precision("bfloat16", CPU):
        images, log_det = function(copies)
        (jacobian,) = torch.autograd.grad(images.flatten(1).diagonal().sum(), copies)
    _, expected = torch.linalg.slogdet(jacobian.flatten(1))
    torch.testing.assert_close(log_det[0], expected, atol=1e-9, rtol=0)
    assert float((log_det[0] - function(x)[1][0]).detach().abs()) > 1e-6, "it is another map than that of float32"


@COUPLINGS
def test_forward_and_inverse_agree_with_the_same_networks(name: str) -> None:
    """All but for the rare angle whose last digit, differing on the way back, rounds another way in a network."""
    pair = _pair(name)
    z = pair.field(200, "cpu")
    with network_precision("bfloat16", CPU), torch.no_grad():
        x, log_det = pair.flow.transform.forward(z)
        back, inverse_log_det = pair.flow.transform.inverse(x)
    assert (x.dtype, log_det.dtype) == (torch.float64, torch.float64)
    error = (back - z).flatten(1).abs().amax(1)
    assert float((error < 1e-9).double().mean()) > 0.8
    assert float(error.max()) < 0.1
    exact = error < 1e-9
    torch.testing.assert_close(inverse_log_det[exact], -log_det[exact], atol=1e-8, rtol=0)


class Recorded(torch.overrides.TorchFunctionMode):
    """The types in which matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.addmm, torch.matmul, Tensor.matmul, Tensor.__matmul__):
            self.types.add(result.dtype)
        return result


def _types(flow: Flow, precision: str | None, dtype: torch.dtype) -> set[torch.dtype]:
    z = flow.prior.sample(2, torch.Generator().manual_seed(1), dtype)
    with network_precision(precision, CPU), Recorded() as recorded:
        x, log_det = flow.transform.forward(z)
    assert x.dtype == log_det.dtype == dtype
    return recorded.types


def test_only_networks_are_coarse() -> None:
    """The sums of plaquettes that make loops keep the type of the angles."""
    flow = _pair("projection").flow
    assert _types(flow, None, torch.float64) == {torch.float32, torch.float64}
    assert _types(flow, "bfloat16", torch.float64) == {torch.bfloat16, torch.float64}
    assert _types(flow, "bfloat16", torch.float32) == {torch.bfloat16, torch.float32}
    assert _types(_pair("scalar affine").flow, "bfloat16", torch.float32) == {torch.bfloat16}


def test_trees_are_left_alone() -> None:
    pair = pair_named("tree mlp")
    z = pair.field(3, "cpu")
    expected = pair.flow.transform.forward(z)
    with network_precision("bfloat16", CPU):
        found = pair.flow.transform.forward(z)
    assert all(map(torch.equal, found, expected))


def _fail_in(precision: str) -> None:
    assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
    raise KeyError


def test_outside_all_is_as_before() -> None:
    pair = _pair("projection")
    z, weight = pair.field(3, "cpu"), next(pair.flow.parameters())
    expected = pair.flow.transform.forward(z)[0]
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(KeyError), network_precision(precision, CPU):
            _fail_in(precision)
        assert torch.get_float32_matmul_precision() == "highest"
        assert network_dtype(weight) == torch.float32
        assert torch.equal(pair.flow.transform.forward(z)[0], expected)
    with networks_in(torch.bfloat16):
        with networks_in(None):
            assert network_dtype(weight) == torch.float32
        assert network_dtype(weight) == torch.bfloat16


def test_tf32_is_off_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where something else had switched it on."""
    torch.set_float32_matmul_precision("high")
    try:
        for precision in (None, "float32", "bfloat16"):
            with network_precision(precision, CPU):
                assert torch.get_float32_matmul_precision() == "highest"
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    gpu = torch.device("cuda:0")
    for name, device, text in (("fp8", CPU, "float32, tf32"), ("tf32", gpu, "too old"), ("bfloat16", gpu, "too old")):
        with pytest.raises(ValueError, match=f"network_precision.*{text}") as caught, network_precision(name, device):
            pass
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with network_precision("tf32", gpu):
        assert torch.get_float32_matmul_precision() == "high"


def test_a_training_goes_on_with_coarse_networks(generator: torch.Generator) -> None:
    """Fifty steps bring the loss down as in single precision."""
    ends = []
    for precision in (None, "bfloat16"):
        pair = _pair("projection")
        flow = copy.deepcopy(pair.flow)
        adam = torch.optim.Adam(flow.parameters(), 0.01)
        source = torch.Generator().manual_seed(2)
        for _ in range(50):
            with network_precision(precision, CPU):
                loss = path_gradient(flow, pair.action, 32, source, torch.float32).loss
                adam.zero_grad()
                loss.backward()
            adam.step()
        with torch.no_grad():
            ends.append(float(reverse_kl(flow, pair.action, 500, torch.Generator().manual_seed(3)).loss))
    with torch.no_grad():
        start = float(reverse_kl(_pair("projection").flow, pair.action, 500, torch.Generator().manual_seed(3)).loss)
    assert start - ends[0] > 0.5
    assert abs(ends[1] - ends[0]) < 0.1 * (start - ends[0])
