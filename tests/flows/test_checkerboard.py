"""Flows of scalar fields: bijections with the right density, their symmetries, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from scalar_cases import SCALAR_FLOWS, ScalarFlowCase
from torch import Tensor

from lattice_flows.flows import Flow, Inverse, Pullback, forward_with_score, initialise
from lattice_flows.flows.checkerboard import checkerboard_coupling
from lattice_flows.flows.site_coupling import stencil
from lattice_flows.lattice import REAL
from lattice_flows.theories import Phi4, WilsonU1
from lattice_flows.training import path_gradient, reverse_kl

pytestmark = pytest.mark.quick

Shape = tuple[int, ...]

EVERY = pytest.mark.parametrize("case", SCALAR_FLOWS, ids=lambda case: case.name)
ALL = pytest.mark.parametrize(
    ("case", "shape"),
    [pytest.param(case, shape, id=f"{case.name} {shape}") for case in SCALAR_FLOWS for shape in case.shapes],
)


def _field(shape: Shape, generator: torch.Generator, n: int = 4) -> Tensor:
    return 1.5 * torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def _assert_same(flow: Flow, z: Tensor, expected: Tensor, log_det: Tensor) -> None:
    x, moved_log_det = flow.transform.forward(z)
    torch.testing.assert_close(x, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(moved_log_det, log_det, atol=1e-9, rtol=0)


@ALL
def test_inverse_undoes_forward(case: ScalarFlowCase, shape: Shape, generator: torch.Generator) -> None:
    flow, z = case.build(shape), _field(shape, generator)
    x, log_det = flow.transform.forward(z)
    back, inverse_log_det = flow.transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-8, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-7, rtol=0)
    assert log_det.shape == (4,)
    assert (x - z).abs().amin(0).min() > 0  # every site has moved


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@ALL
def test_log_det_is_that_of_the_jacobian(
    case: ScalarFlowCase, shape: Shape, direction: str, generator: torch.Generator
) -> None:
    function = getattr(case.build(shape).transform, direction)
    x = _field(shape, generator, n=1)
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x)[0], x, vectorize=True)
    sign, expected = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))
    assert sign == 1
    torch.testing.assert_close(function(x)[1][0], expected, atol=1e-8, rtol=0)
    assert abs(float(expected)) > 0.01


@ALL
def test_commutes_with_the_sign_of_the_field(case: ScalarFlowCase, shape: Shape, generator: torch.Generator) -> None:
    flow, z = case.build(shape), _field(shape, generator)
    x, log_det = flow.transform.forward(z)
    _assert_same(flow, -z, -x, log_det)
    torch.testing.assert_close(flow.log_prob(-x), flow.log_prob(x), atol=1e-8, rtol=0)


@ALL
def test_commutes_with_translations_by_even_steps(
    case: ScalarFlowCase, shape: Shape, generator: torch.Generator
) -> None:
    """And not with others: each site is in one of two classes."""
    flow, z = case.build(shape), _field(shape, generator)
    axes = tuple(range(1, z.ndim))
    x, log_det = flow.transform.forward(z)
    steps = (1, 1, *(0,) * len(shape))[: len(shape)] if len(shape) > 1 else (2,)
    _assert_same(flow, z.roll(steps, axes), x.roll(steps, axes), log_det)
    odd = flow.transform.forward(z.roll(1, 1))[0]
    assert (odd - x.roll(1, 1)).abs().max() > 1e-3


@ALL
def test_score_is_the_gradient_of_log_prob(case: ScalarFlowCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    z = flow.prior.sample(3, generator).detach().requires_grad_(True)
    (start,) = torch.autograd.grad(flow.prior.log_prob(z).sum(), z)
    x, log_det, score = forward_with_score(flow.transform, z, start)
    expected_x, expected_log_det = flow.transform.forward(z)
    torch.testing.assert_close(x, expected_x, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_det, expected_log_det, atol=1e-12, rtol=0)
    end = x.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)
    assert not score.requires_grad
    assert expected.abs().max() > 1


@EVERY
def test_path_gradient_vanishes_on_target(case: ScalarFlowCase, generator: torch.Generator) -> None:
    """Sample by sample, the prior's mass included; the reparametrised gradient does so only on average."""
    flow, twin = case.build((4, 4)), case.build((4, 4))

    class OwnDensity(Phi4):
        """S = -log q of a twin of the flow."""

        def __call__(self, x: Tensor) -> Tensor:
            return -twin.log_prob(x)

        def force(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                return torch.autograd.grad(twin.log_prob(x).sum(), x)[0]

    largest = []
    for objective in (path_gradient, reverse_kl):
        flow.zero_grad()
        objective(flow, OwnDensity(-4.0, 8.0), 16, generator).loss.backward()
        largest.append(max(float(weight.grad.abs().max()) for weight in flow.parameters()))
    assert largest[0] < 1e-6
    assert largest[1] > 1e-2


@ALL
def test_log_prob_of_a_sample_is_its_log_q(case: ScalarFlowCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    x, log_q = flow.sample(5, generator)
    assert x.shape == (5, *shape)
    assert x.dtype == log_q.dtype == torch.float64
    assert flow.prior.space is REAL
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-7, rtol=0)


@EVERY
def test_inverse_is_a_transform_too(case: ScalarFlowCase, generator: torch.Generator) -> None:
    flow, z = case.build((4, 4)), _field((4, 4), generator)
    inverse = Inverse(flow.transform)
    x, log_det, score = forward_with_score(inverse, z, -z)
    end = x.detach().requires_grad_(True)
    back, inverse_log_det = inverse.inverse(end)
    (expected,) = torch.autograd.grad((inverse_log_det - 0.5 * back.square().sum((1, 2))).sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-7, rtol=0)


@EVERY
def test_force_in_latent_space_is_the_finite_difference(case: ScalarFlowCase, generator: torch.Generator) -> None:
    flow = case.build((4, 4))
    pullback = Pullback(Phi4(-4.0, 8.0), flow.transform)
    z = flow.prior.sample(6, generator).detach()
    direction = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    along = (pullback.force(z) * direction).flatten(1).sum(1)
    h = 1e-5
    with torch.no_grad():
        expected = -(pullback(z + h * direction) - pullback(z - h * direction)) / (2 * h)
    deviation = ((along - expected).abs() / expected.abs().clamp_min(1.0)).sort().values
    assert deviation[3] < 1e-5  # the spline's kinks spoil a difference across them
    assert ((1.01 * along - expected).abs() / expected.abs().clamp_min(1.0)).median() > 1e-4  # 1 % off is seen


@EVERY
def test_weights_do_not_know_the_volume(case: ScalarFlowCase, generator: torch.Generator) -> None:
    """The weights of 4 x 6 do on a periodic copy in 8 x 18 what they do at home."""
    small, large = case.build((4, 6)), case.build((8, 18))
    initialise(large, generator)
    large.load_state_dict(small.state_dict())
    z = _field((4, 6), generator)
    x, log_det = small.transform.forward(z)
    _assert_same(large, z.tile(1, 2, 3), x.tile(1, 2, 3), 6 * log_det)
    case.build((32, 2)).load_state_dict(small.state_dict())


@EVERY
def test_float32_networks_carry_float64_maps(case: ScalarFlowCase, generator: torch.Generator) -> None:
    flow = case.build((4, 4)).float()
    x, log_q = flow.sample(20, generator)
    assert x.dtype == log_q.dtype == torch.float64
    z = flow.prior.sample(20, generator).detach()
    back = flow.transform.inverse(flow.transform.forward(z)[0])[0].detach()
    torch.testing.assert_close(back, z, atol=1e-2, rtol=0)
    assert float((back - z).abs().median()) < 1e-6
    x32, log_q32 = flow.sample(3, generator, torch.float32)
    assert x32.dtype == log_q32.dtype == torch.float32


@pytest.mark.parametrize("transform", ["affine", "spline"])
@pytest.mark.parametrize("prior", ["gaussian", "free"])
def test_begins_as_the_identity(transform: str, prior: str, generator: torch.Generator) -> None:
    """Yet no two weights of one layer are alike; and another seed gives other weights."""
    flow = checkerboard_coupling((4, 4), Phi4(-4.0, 8.0), transform=transform, prior=prior)
    z = _field((4, 4), generator)
    _assert_same(flow, z, z, torch.zeros(4, dtype=torch.float64))
    first = torch.cat([weight.detach().flatten() for weight in flow.parameters()])
    initialise(flow, generator)
    second = torch.cat([weight.detach().flatten() for weight in flow.parameters()])
    assert (first != second).float().mean() > 0.3
    _assert_same(flow, z, z, torch.zeros(4, dtype=torch.float64))


@EVERY
def test_extreme_fields_stay_finite(case: ScalarFlowCase) -> None:
    """A chain may start anywhere; weights then vanish, but nothing overflows."""
    flow = case.build((4, 4))
    x = torch.tensor([0.0, 1e3, -1e3], dtype=torch.float64).reshape(3, 1, 1).expand(3, 4, 4)
    for result in (flow.log_prob(x), *flow.transform.forward(x), *flow.transform.inverse(x)):
        assert torch.isfinite(result).all()


@EVERY
def test_density_integrates_to_one(case: ScalarFlowCase, generator: torch.Generator) -> None:
    """E_r[q / r] = 1, and 1 - 1/100 is told from it: two sites, maps not far from the identity, a wider r."""
    flow = case.build((2,))
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.3)
        width = float(flow.sample(2000, generator).x.std())
        r = torch.distributions.Normal(0.0, torch.tensor(1.5 * width, dtype=torch.float64))
        x = width * _field((2,), generator, 400_000)  # standard deviation 1.5 width
        ratio = torch.exp(flow.log_prob(x) - r.log_prob(x).sum(1))
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 1 / 500
    assert abs(float(ratio.mean()) - 1.0) < 4.5 * error


@EVERY
def test_refuses_shapes_in_one_line(case: ScalarFlowCase) -> None:
    for shape in case.refused:
        with pytest.raises(ValueError, match=r"even sides.*got " + " x ".join(map(str, shape))) as caught:
            case.build(shape)
        assert "\n" not in str(caught.value)


def test_refuses_gauge_theories() -> None:
    with pytest.raises(ValueError, match=r"^checkerboard_coupling is a flow of phi4 and phi4_hopping, got WilsonU1$"):
        checkerboard_coupling((4, 4), WilsonU1(1.0))


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 0},
        {"transform": "projection"},
        {"prior": "haar"},
        {"hidden": (0,)},
        {"hidden": ()},
        {"kernel": 1},
        {"kernel": 4},
        {"n_bins": 1},
    ],
    ids=str,
)
def test_builder_refuses_bad_values_by_name(options: dict) -> None:
    name, value = list(options.items())[-1]
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    with pytest.raises(ValueError, match=f"{name}.*{shown}"):
        checkerboard_coupling((4, 4), Phi4(-4.0, 8.0), **options)


@pytest.mark.parametrize(
    ("shape", "reach", "n_neighbours"), [((8,), 2, 2), ((6, 8), 1, 4), ((8, 8), 2, 12), ((4, 4, 4), 1, 14)]
)
def test_stencil_holds_the_other_colour_within_reach(shape: Shape, reach: int, n_neighbours: int) -> None:
    odd = np.indices(shape).sum(0) % 2 == 1
    active, neighbours = stencil(odd, ~odd, reach)
    assert neighbours.shape == (n_neighbours, odd.sum())
    assert odd.flat[active].all()
    assert not odd.flat[neighbours].any()
    here, there = (np.stack(np.unravel_index(sites, shape)) for sites in (active.numpy(), neighbours.numpy()))
    steps = (there - here[:, None] + reach) % np.array(shape)[:, None, None]  # (D, n_neighbours, n_active)
    assert (steps <= 2 * reach).all()
    assert (steps == steps[:, :, :1]).all()  # the same places around every site
