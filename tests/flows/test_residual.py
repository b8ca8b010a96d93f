"""Residual maps: contractions of exact norm, inverses that are solutions, and estimates for the training alone."""

import math
from pathlib import Path

import pytest
import torch

import lattice_flows.flows.transforms.residual as residual
from lattice_flows.flows import TRANSFORMS, ComposedFlow, Fields, estimated_log_dets, initialise
from lattice_flows.flows.transforms.contracting_network import ContractingConvolution
from lattice_flows.lattice import REAL
from lattice_flows.theories import Phi4
from lattice_flows.training import TrainingSettings, evaluate, train

ACTION = Phi4(1.0, 1.0)


def built(shape, sites, generator, size=1.0, **options):
    transform = TRANSFORMS.build({"name": "residual", **options}).assemble(Fields(shape, sites, REAL, 1.0, ACTION))
    initialise(transform, generator)
    with torch.no_grad():
        for weight in transform.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return transform.double()


def jacobian_of(transform, z):
    jacobian = torch.autograd.functional.jacobian(lambda z: transform.forward(z)[0], z)
    return jacobian.reshape(z.numel(), z.numel())


@pytest.mark.quick
@pytest.mark.parametrize(
    ("sites", "kernel"), [((), 3), ((6,), 3), ((5, 4), 3), ((2, 3), 5), ((3, 2, 2), 3), ((4, 4), 1)]
)
def test_the_norm_of_a_convolution_is_that_of_its_matrix(sites, kernel, generator):
    convolution = ContractingConvolution(2, 3, sites, kernel, offset=False).double()
    convolution.draw(generator, 1.0)
    n = 2 * math.prod(sites)
    matrix = convolution.convolved(convolution.weight, torch.eye(n).double().reshape(2, -1, n)).flatten(0, 1)
    torch.testing.assert_close(convolution.norm(), torch.linalg.matrix_norm(matrix, 2))
    limited = torch.linalg.matrix_norm(matrix, 2) / convolution.norm() * 0.3
    small = convolution.convolved(convolution.limited(0.3), torch.eye(n).double().reshape(2, -1, n)).flatten(0, 1)
    torch.testing.assert_close(torch.linalg.matrix_norm(small, 2), limited)
    assert torch.equal(convolution.limited(100.0), convolution.weight)
    (gradient,) = torch.autograd.grad(convolution.norm(), convolution.weight)
    direction, h = torch.randn(gradient.shape, generator=generator).double(), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            convolution.weight.add_(sign * h * direction)
            values.append(convolution.norm())
            convolution.weight.sub_(sign * h * direction)
    torch.testing.assert_close((gradient * direction).sum(), (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.quick
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize(("shape", "sites"), [((5,), ()), ((4, 4), (4, 4)), ((2, 3, 4), (3, 4))])
def test_it_contracts_whatever_the_weights(shape, sites, odd, generator):
    """And comes near to the bound, which is no looser than the product over the layers."""
    transform = built(shape, sites, generator, size=10.0, hidden=(8,), contraction=0.8, odd=odd)
    z = 0.1 * torch.randn(1, *shape, generator=generator, dtype=torch.float64)
    norm = torch.linalg.matrix_norm(jacobian_of(transform, z) - torch.eye(z.numel()), 2)
    assert 0.1 < norm <= 0.8
    one, other = 3.0 * torch.randn(2, 50, *shape, generator=generator, dtype=torch.float64)
    moved = (transform.forward(one)[0] - one - transform.forward(other)[0] + other).flatten(1).norm(dim=1)
    assert (moved <= 0.8 * (one - other).flatten(1).norm(dim=1)).all()


@pytest.mark.quick
@pytest.mark.parametrize(("shape", "sites"), [((3,), ()), ((2, 3), (2, 3))])
def test_the_inverse_has_the_derivatives_of_the_solution(shape, sites, generator):
    """With respect to x and to every weight, against finite differences."""
    transform = built(shape, sites, generator, hidden=(3,))
    names = [name for name, _ in transform.named_parameters()]
    weights = [weight.detach().clone().requires_grad_(True) for weight in transform.parameters()]
    x = torch.randn(2, *shape, generator=generator, dtype=torch.float64, requires_grad=True)

    class Inverted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transform

        def forward(self, x):
            return self.inner.inverse(x)

    def inverse(x, *weights):
        named = {f"inner.{name}": weight for name, weight in zip(names, weights)}
        return torch.func.functional_call(Inverted(), named, (x,))

    assert torch.autograd.gradcheck(inverse, (x, *weights), atol=1e-5, fast_mode=True, check_undefined_grad=False)


@pytest.mark.quick
def test_a_map_that_does_not_contract_is_told_in_one_line(generator, monkeypatch):
    transform = built((4,), (), generator, size=5.0)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    transform.inverse(x)
    monkeypatch.setattr(ContractingConvolution, "limited", lambda self, limit: self.weight)
    told = r"^residual: the inverse is not found after \d+ iterations, the last of which moved by \S+$"
    with pytest.raises(RuntimeError, match=told):
        transform.inverse(x)


@pytest.mark.quick
def test_pieces_of_the_jacobian_make_the_same_log_det(generator, monkeypatch):
    transform = built((4, 4), (4, 4), generator)
    z = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    results = []
    for at_once in (2**24, 1):
        monkeypatch.setattr(residual, "_NUMBERS_AT_ONCE", at_once)
        log_det = transform.forward(z)[1]
        gradients = torch.autograd.grad(log_det.sum(), list(transform.parameters()), materialize_grads=True)
        results.append((log_det.detach(), *gradients))
    torch.testing.assert_close(*results)


def test_estimates_have_no_bias_but_their_exponentials_do(generator):
    """5 % off is seen. log_det and its gradient; a weight made of such an estimate would be wrong."""
    transform = built((4, 4), (4, 4), generator, size=3.0, hidden=(6,), log_det="roulette")
    z = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)
    weight = transform.network.layers[0].weight
    exact = transform.forward(z)[1]
    (slope,) = torch.autograd.grad(exact.sum(), weight)
    n = 10_000
    with estimated_log_dets(generator):
        copies = torch.cat([transform.forward(z.expand(200, 4, 4))[1].detach() for _ in range(n // 200)])
        slopes = torch.stack(
            [torch.autograd.grad(transform.forward(z.expand(50, 4, 4))[1].mean(), weight)[0] for _ in range(100)]
        )
    exact = exact.detach()
    blocks = copies.unflatten(0, (-1, 200)).mean(1)  # of one random length each
    error = float(blocks.std()) / math.sqrt(len(blocks))
    assert abs(float(blocks.mean() - exact)) < 4.5 * error
    assert abs(float(blocks.mean() - 1.05 * exact)) > 4.5 * error
    weights = torch.exp(copies - exact).unflatten(0, (-1, 200)).mean(1)
    assert float(weights.mean()) - 1.0 > 4.5 * float(weights.std()) / math.sqrt(len(weights))
    direction = slope / slope.norm()
    along = (slopes * direction).flatten(1).sum(1)
    error = float(along.std()) / math.sqrt(len(along))
    assert abs(float(along.mean() - slope.norm())) < 4.5 * error
    assert error < 0.1 * float(slope.norm())


@pytest.mark.quick
def test_terms_that_are_seldom_kept_weigh_more(generator, monkeypatch):
    """Of g(z) = -0.6 z the vector leaves no noise, and 35 % of log_det = n log 0.4 are in the terms after the first."""
    monkeypatch.setattr(residual, "_CERTAIN_TERMS", 1)
    transform = built((5,), (), generator, hidden=(5,), odd=True, log_det="roulette")
    with torch.no_grad():
        for layer, sign in zip(transform.network.layers, (1.0, -1.0)):
            layer.weight.copy_(sign * 0.6**0.5 * torch.eye(5)[:, :, None])
        z = torch.zeros(1, 5, dtype=torch.float64)
        torch.testing.assert_close(transform.forward(z)[1], torch.tensor([5.0 * math.log(0.4)]).double())
        with estimated_log_dets(generator):
            estimates = torch.cat([transform.forward(z)[1] for _ in range(800)])
    error = float(estimates.std()) / math.sqrt(len(estimates))
    assert abs(float(estimates.mean()) - 5.0 * math.log(0.4)) < 4.5 * error
    assert 4.5 * error < 0.1 * 5.0 * abs(math.log(0.4))


def flow_of(log_det):
    table = {"name": "residual", "hidden": (4,), "log_det": log_det}
    return ComposedFlow((3, 2), ACTION, transforms=(table,), n_repeats=2, prior="gaussian").build().double()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("objective", "n_estimates"), [("reverse_kl", 2), ("path_gradient", 2), ("reinforce", 0), ("log_variance", 0)]
)
def test_only_training_steps_that_are_linear_in_log_det_use_estimates(
    objective, n_estimates, tmp_path: Path, monkeypatch
):
    calls = []
    estimate = residual._estimated_log_det
    monkeypatch.setattr(residual, "_estimated_log_det", lambda *given: calls.append(1) or estimate(*given))
    settings = TrainingSettings(max_steps=3, objective=objective, batch_size=16, monitor_samples=64)
    for log_det, n in (("roulette", 3 * n_estimates), ("exact", 0)):
        calls.clear()
        train(flow_of(log_det), ACTION, settings, tmp_path / log_det, seed=1, header={})
        assert len(calls) == n


@pytest.mark.quick
def test_weights_and_latent_actions_are_exact(generator):
    flow, twin = flow_of("roulette"), flow_of("exact")
    with torch.no_grad():
        for weight, other in zip(flow.parameters(), twin.parameters()):
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
            other.copy_(weight)
    z = torch.randn(5, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(flow.image(z), twin.image(z))
    log_w = [evaluate(one, ACTION, 64, torch.Generator().manual_seed(2)) for one in (flow, twin)]
    assert (log_w[0] == log_w[1]).all()


@pytest.mark.quick
def test_a_training_with_estimates_is_resumed_to_the_bit(tmp_path: Path):
    weights = []
    settings = TrainingSettings(max_steps=6, batch_size=16, monitor_samples=64)
    for number, stops in enumerate([(), (3,)]):
        flow = flow_of("roulette")
        for stop in (*stops, 6):
            looks = iter(range(1, 7))
            result = train(
                flow,
                ACTION,
                settings,
                tmp_path / str(number),
                seed=1,
                header={},
                should_stop=lambda looks=looks, stop=stop: next(looks) == stop,
            )
            assert result.step == stop
        weights.append(torch.cat([weight.detach().flatten() for weight in flow.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contraction": 1.0}, "contraction must be above 0 and at most 0.999, got 1.0"),
        ({"kernel": 4}, "kernel must be odd and between 1 and 99, got 4"),
        ({"hidden": ()}, "hidden must be a list"),
        ({"log_det": "random"}, "log_det must be"),
    ],
)
def test_bad_values_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ComposedFlow((4, 4), ACTION, transforms=({"name": "residual", **options},))
