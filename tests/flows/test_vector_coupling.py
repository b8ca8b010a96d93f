"""Flows of vectors: bijections with the right density, in the right space, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor
from vector_cases import VECTOR_FLOWS, Chain5, VectorFlowCase

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import Flow, Inverse, Pullback, VectorCouplingFlow, forward_with_score, initialise
from lattice_flows.flows.onto_box import OntoBox
from lattice_flows.lattice import CIRCLE, REAL, Interval, Product
from lattice_flows.theories import DoubleWell, MuellerBrown, Phi4

pytestmark = pytest.mark.quick

EVERY = pytest.mark.parametrize("case", VECTOR_FLOWS, ids=lambda case: case.name)


def _points(flow: Flow, generator: torch.Generator, n: int = 6) -> Tensor:
    return flow.prior.width * torch.randn(n, *flow.prior.shape, generator=generator, dtype=torch.float64)


@EVERY
def test_inverse_undoes_forward(case: VectorFlowCase, generator: torch.Generator) -> None:
    flow = case.build()
    z = _points(flow, generator)
    x, log_det = flow.transform.forward(z)
    back, inverse_log_det = flow.transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-7, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-7, rtol=0)
    assert log_det.abs().mean() > 0.1
    assert flow.space == flow.transform.codomain == case.action.space
    assert case.action.space.fault(x) is None
    again, _ = Inverse(flow.transform).inverse(z)
    assert torch.equal(again, x)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@EVERY
def test_log_det_is_that_of_the_jacobian(case: VectorFlowCase, direction: str, generator: torch.Generator) -> None:
    flow = case.build()
    z = _points(flow, generator)
    points = z if direction == "forward" else flow.transform.forward(z)[0].detach()
    function = getattr(flow.transform, direction)
    points.requires_grad_(True)
    rows = [torch.autograd.grad(column.sum(), points, retain_graph=True)[0] for column in function(points)[0].unbind(1)]
    jacobian = torch.stack(rows, 1)
    sign, expected = torch.linalg.slogdet(jacobian)
    assert (sign == 1).all()
    torch.testing.assert_close(function(points)[1], expected, atol=1e-7, rtol=0)


@EVERY
def test_score_is_the_gradient_of_log_prob(case: VectorFlowCase, generator: torch.Generator) -> None:
    flow = case.build()
    z = flow.prior.sample(5, generator).requires_grad_(True)
    (score,) = torch.autograd.grad(flow.prior.log_prob(z).sum(), z)
    x, _, carried = forward_with_score(flow.transform, z, score)
    end = x.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(carried, expected, rtol=1e-6, atol=1e-6)
    assert expected.abs().max() > 0.5


@EVERY
def test_a_sample_has_its_log_q_and_lies_in_the_space(case: VectorFlowCase, generator: torch.Generator) -> None:
    flow = case.build()
    x, log_q = flow.sample(200, generator)
    assert x.dtype == log_q.dtype == torch.float64
    assert ((flow.log_prob(x) - log_q).abs() < 1e-7).double().mean() > 0.98  # but for points at a wall
    assert case.action.space.fault(x) is None
    assert torch.isfinite(case.action(x)).all()


@EVERY
def test_density_integrates_to_one(case: VectorFlowCase, generator: torch.Generator) -> None:
    """E_r[q / r] = 1, and 1 - 1/50 is told from it: maps not far from the identity; r is wider on the line, uniform in
    a box.
    """
    flow, log_r = case.build(), 0.0
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.3)
        width = float(flow.sample(2000, generator).x.std())
        x = 1.5 * width * torch.randn(60_000, *flow.prior.shape, generator=generator, dtype=torch.float64)
        r = torch.distributions.Normal(0.0, torch.tensor(1.5 * width, dtype=torch.float64))
        for k, part in enumerate(case.parts):
            if isinstance(part, Interval):
                x[:, k] = part.low + part.length * torch.rand(len(x), generator=generator, dtype=torch.float64)
                log_r = log_r - math.log(part.length)
            else:
                log_r = log_r + r.log_prob(x[:, k])
        ratio = torch.exp(flow.log_prob(x) - log_r)
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 1 / 50 / 4.5
    assert abs(float(ratio.mean()) - 1.0) < 4.5 * error


@EVERY
def test_every_coordinate_depends_on_every_other(case: VectorFlowCase, generator: torch.Generator) -> None:
    flow = case.build()
    z = _points(flow, generator, 1)
    jacobian = torch.func.jacrev(lambda one: flow.transform.forward(one[None])[0][0])(z[0])
    assert (jacobian.abs() > 1e-9).all()


@EVERY
def test_zero_last_layers_are_the_identity_on_the_line_and_uniform_in_a_box(case: VectorFlowCase, seed: int) -> None:
    flow = case.build()
    initialise(flow, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        z = flow.prior.sample(50, torch.Generator().manual_seed(seed))
        x, log_q = flow.image(z)
    for k, part in enumerate(case.parts):
        if isinstance(part, Interval):
            expected = part.low + part.length * ndtr(z[:, k].numpy() / flow.prior.width)
        else:
            expected = z[:, k].numpy()
        np.testing.assert_allclose(x[:, k].numpy(), expected, atol=1e-12)
    if isinstance(case.action, MuellerBrown):
        torch.testing.assert_close(log_q, torch.full_like(log_q, -2.0 * math.log(3.2)), atol=1e-12, rtol=0)


@EVERY
def test_the_force_of_the_pullback_is_the_finite_difference(case: VectorFlowCase, generator: torch.Generator) -> None:
    pullback = Pullback(case.action, case.build().transform)
    assert pullback.space == REAL
    z = 0.3 * _points(case.build(), generator, 8)
    direction, h = torch.randn(z.shape, generator=generator, dtype=torch.float64), 1e-5
    near = pullback(z + h * direction) - pullback(z - h * direction)
    far = pullback(z + 2 * h * direction) - pullback(z - 2 * h * direction)
    along = (pullback.force(z) * direction).sum(1)
    deviation = ((along + (8 * near - far) / (12 * h)).abs() / along.abs().clamp_min(1.0)).sort().values
    assert deviation[5] < 1e-5  # differences across a knot are of lower order


@EVERY
def test_float32_networks_carry_float64_maps(case: VectorFlowCase, generator: torch.Generator) -> None:
    flow = case.build().float()
    z = flow.prior.sample(50, generator)
    x, log_det = flow.transform.forward(z)
    assert x.dtype == log_det.dtype == torch.float64
    back = flow.transform.inverse(x)[0].detach()
    assert float((back - z).abs().median()) < 1e-7
    x32, log_q32 = flow.sample(1000, generator, torch.float32)
    assert x32.dtype == log_q32.dtype == torch.float32
    assert torch.isfinite(case.action(x32)).all()


@EVERY
def test_extreme_points_stay_finite(case: VectorFlowCase) -> None:
    flow = case.build()
    far = torch.tensor([0.0, 1e3, -1e3], dtype=torch.float64)[:, None].expand(3, *flow.prior.shape)
    for result in flow.transform.forward(far):
        assert torch.isfinite(result).all()
    walls = case.action.space.wrap(far)
    for result in (flow.log_prob(walls), *flow.transform.inverse(walls)):
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("width", [1.0, 2.5])
def test_walls_are_never_infinitely_far(width: float) -> None:
    box = OntoBox(Product((Interval(-1.8, 1.4), REAL)), width)
    x = torch.tensor([[-1.8, 5.0], [1.4, -5.0], [-0.2, 0.0]], dtype=torch.float64)
    z, log_det = box.inverse(x)
    assert torch.isfinite(z).all()
    assert torch.isfinite(log_det).all()
    assert (z[:2, 0].abs() > 7.0 * width).all()
    torch.testing.assert_close(box.forward(z)[0], x, atol=1e-14, rtol=0)
    assert torch.equal(z[:, 1], x[:, 1])
    assert float(z[2, 0]) == 0.0


REFUSED = [
    ((4, 4), Phi4(1.0, 1.0), {}, "a flow of theories without a lattice, got one on 4 x 4 sites"),
    ((), DoubleWell(), {"n_layers": 0}, "n_layers must be between 1 and 1000, got 0"),
    ((), DoubleWell(), {"hidden": ()}, r"hidden must be .*, got \[\]"),
    ((), DoubleWell(), {"hidden": (4, 0)}, r"hidden must be .*, got \[4, 0\]"),
    ((), DoubleWell(), {"prior_width": 0.0}, "prior_width must be positive and finite, got 0.0"),
    ((), DoubleWell(), {"transform": "projection"}, 'transform must be one of "affine", "spline", "sinh_arcsinh"'),
    ((), DoubleWell(), {"transform": {"name": "spline", "n_bins": 1}}, "n_bins = 1"),
]


@pytest.mark.parametrize(("shape", "action", "options", "message"), REFUSED)
def test_refuses_in_one_line(shape, action, options, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        VectorCouplingFlow(shape, action, **options)
    assert "\n" not in str(caught.value)


def test_refuses_coordinates_of_other_kinds() -> None:
    with pytest.raises(ValueError, match=r"^vectors are made of real numbers and intervals, not of angles$"):
        VectorCouplingFlow((), Chain5(CIRCLE))


CARD = '[theory]\nname = "mueller_brown"\n[flow]\nname = "vector_coupling"\n'


def test_a_card_plans_it() -> None:
    card = parse_card(CARD + 'transform = {name = "spline", n_bins = 6}\nhidden = [8]')
    assert card.flow.as_dict() == {
        "name": "vector_coupling",
        "n_layers": 4,
        "transform": {"name": "spline", "n_bins": 6},
        "hidden": [8],
        "prior_width": 1.0,
    }
    assert card.flow.built_flow.space == MuellerBrown().space
    assert (card.training.objective, card.training.anneal) == ("reverse_kl", 0.5)
    with_data = parse_card(CARD + '[training]\nobjective = "mixture"\ndata = "x.h5"')
    assert (with_data.training.anneal, with_data.training.batch_size) == (0.0, 1024)


BAD = [
    (
        CARD.replace("vector_coupling", "plaquette_coupling"),
        "plaquette_coupling needs two sides that are multiples of 4",
    ),
    (
        CARD.replace("vector_coupling", "multiscale"),
        "needs a lattice of two sides and two plaquettes or more; got no lattice",
    ),
    (CARD.replace("vector_coupling", "hybrid"), "hybrid needs two sides"),
    (CARD.replace("vector", "checkerboard"), "is a flow of phi4 and phi4_hopping, got MuellerBrown"),
    (CARD + 'transform = {name = "spline", n_bin = 6}', "transform: unknown key 'n_bin'; did you mean 'n_bins'?"),
    (
        CARD.replace("mueller_brown", "phi4").replace("[flow]", "shape = [4, 4]\nm2 = 1\nlam = 1\n[flow]"),
        "got one on 4 x 4",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_cards_of_other_flows_or_theories_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_card(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
