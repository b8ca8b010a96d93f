"""The contract of the catalogue of transforms: bijections with the log_det of their Jacobian, and their symmetries."""

import itertools

import pytest
import torch
from torch import Tensor
from transform_cases import CATALOGUE, CatalogueCase

from lattice_flows.flows import Flow, abilities, forward_with_score, initialise

pytestmark = pytest.mark.quick

Shape = tuple[int, ...]

EVERY = pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: case.name)
PAIRS = [(case, shape) for case in CATALOGUE for shape in case.shapes]


def pairs(claims=lambda case: True):
    chosen = [pytest.param(case, shape, id=f"{case.name} {shape}") for case, shape in PAIRS if claims(case)]
    return pytest.mark.parametrize(("case", "shape"), chosen)


def inverted(case: CatalogueCase) -> bool:
    return "inverse" in case.plan(case.shapes[0]).offers


def _fields(flow: Flow, generator: torch.Generator, n: int = 4) -> Tensor:
    """Normal deviates half as wide again as usual, or uniform angles."""
    z = flow.prior.sample(n, generator).detach()
    return z if flow.prior.flat else 1.5 * z


def _off(x: Tensor, y: Tensor, flow: Flow) -> float:
    """The largest distance of two fields where they live."""
    difference = x - y
    return float((flow.space.wrap(difference) if flow.prior.flat else difference).abs().max().detach())


@pairs(inverted)
def test_inverse_undoes_forward(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    z = _fields(flow, generator)
    x, log_det = flow.transform.forward(z)
    back, inverse_log_det = flow.transform.inverse(x)
    assert _off(back, z, flow) < 1e-8 + flow.transform.error
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-7 + 2.0 * flow.transform.error, rtol=0)
    assert log_det.shape == (4,)
    assert _off(x, z, flow) > 0.01


@pairs()
def test_log_det_is_that_of_the_jacobian(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    z = _fields(flow, generator, 2)
    directions = [flow.transform.forward, *([flow.transform.inverse] if inverted(case) else [])]
    for move in directions:
        n = z[0].numel()
        for one in z:
            copies = one.expand(n, *one.shape).clone().requires_grad_(True)
            (jacobian,) = torch.autograd.grad(move(copies)[0].flatten(1).diagonal().sum(), copies)
            expected = torch.linalg.slogdet(jacobian.flatten(1)).logabsdet
            torch.testing.assert_close(move(one[None])[1][0], expected, atol=1e-7 + flow.transform.error, rtol=0)


@pairs(lambda case: {"inverse", "score"} <= case.plan(case.shapes[0]).offers)
def test_score_is_the_gradient_of_log_prob(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    z = flow.prior.sample(3, generator).detach().requires_grad_(True)
    (start,) = torch.autograd.grad(flow.prior.log_prob(z).sum() + 0.0 * z.sum(), z)
    x, log_det, score = forward_with_score(flow.transform, z, start)
    torch.testing.assert_close(log_det, flow.transform.forward(z)[1], atol=1e-10, rtol=0)
    end = x.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)
    assert not score.requires_grad


@pairs(inverted)
def test_log_prob_of_a_sample_is_its_log_q(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    x, log_q = flow.sample(5, generator)
    assert x.dtype == log_q.dtype == torch.float64
    assert x.shape == (5, *flow.prior.shape)
    assert flow.space == case.action.space
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-7 + 2.0 * flow.transform.error, rtol=0)


def _assert_commutes(flow: Flow, z: Tensor, move) -> None:
    x, log_det = flow.transform.forward(z)
    moved, moved_log_det = flow.transform.forward(move(z))
    torch.testing.assert_close(moved, move(x), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(moved_log_det, log_det, atol=1e-8, rtol=0)


@pairs(lambda case: case.odd)
def test_commutes_with_the_sign_of_the_field(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    _assert_commutes(flow, _fields(flow, generator), lambda field: -field)


@pairs(lambda case: case.turns)
def test_commutes_with_a_rotation_of_all_angles(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    _assert_commutes(flow, _fields(flow, generator), lambda field: field + 0.7)


@pairs(lambda case: case.period > 0)
def test_commutes_with_translations(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    """By the period along each axis; a diagonal step is one of two colours."""
    flow = case.build(shape)
    for axis in range(1, len(shape) + 1):
        _assert_commutes(flow, _fields(flow, generator), lambda field, axis=axis: field.roll(case.period, axis))


@pairs(lambda case: case.rotations)
def test_commutes_with_reflections_and_rotations(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    flow = case.build(shape)
    z = _fields(flow, generator)
    axes = range(1, len(shape) + 1)
    for axis in axes:  # about a site
        _assert_commutes(flow, z, lambda field, axis=axis: field.flip(axis).roll(1, axis))
    for one, other in itertools.combinations(axes, 2):
        if shape[one - 1] == shape[other - 1]:
            _assert_commutes(flow, z, lambda field, one=one, other=other: field.transpose(one, other))


@pairs(lambda case: case.any_volume and case.shapes[0] != ())
def test_weights_do_not_know_the_volume(case: CatalogueCase, shape: Shape, generator: torch.Generator) -> None:
    small, large = case.build(shape), case.build(tuple(2 * side for side in shape))
    large.load_state_dict(small.state_dict())
    z = _fields(small, generator)
    x, log_det = small.transform.forward(z)
    copies = (1, *(2,) * len(shape))
    there, there_log_det = large.transform.forward(z.tile(copies))
    torch.testing.assert_close(there, x.tile(copies), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(there_log_det, 2 ** len(shape) * log_det, atol=1e-8, rtol=1e-9)


@EVERY
def test_begins_where_it_says(case: CatalogueCase, generator: torch.Generator) -> None:
    """At the identity, or with weights that another generator draws otherwise."""
    shape = case.shapes[0]
    flow = case.plan(shape).build().double()
    z = _fields(flow, generator)
    initialise(flow, generator)
    x, log_det = flow.transform.forward(z)
    if case.identity:
        assert _off(x, z, flow) < 1e-9
        assert float(log_det.abs().max().detach()) < 1e-9
    else:
        assert torch.isfinite(x).all()
        assert torch.isfinite(log_det).all()


@EVERY
def test_extreme_fields_stay_finite(case: CatalogueCase) -> None:
    flow = case.build(case.shapes[0])
    ones = torch.ones(1, *flow.prior.shape, dtype=torch.float64)
    fields = torch.cat([size * ones for size in (0.0, case.extreme, -case.extreme)])
    results = [*flow.transform.forward(fields), *(flow.transform.inverse(fields) if inverted(case) else ())]
    assert all(torch.isfinite(result).all() for result in results)


@EVERY
def test_float32_networks_carry_float64_maps(case: CatalogueCase, generator: torch.Generator) -> None:
    flow = case.build(case.shapes[0]).float()
    x, log_q = flow.sample(20, generator)
    assert x.dtype == log_q.dtype == torch.float64
    x32, log_q32 = flow.sample(3, generator, torch.float32)
    assert x32.dtype == log_q32.dtype == torch.float32


@EVERY
def test_weights_are_real_numbers_and_no_random_stream_of_others_is_used(case: CatalogueCase) -> None:
    """A checkpoint holds nothing else."""
    before = torch.random.get_rng_state()
    flow = case.plan(case.shapes[0]).build()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(weight.is_floating_point() for weight in flow.state_dict().values())


@EVERY
def test_an_empty_batch_stays_empty(case: CatalogueCase) -> None:
    flow = case.build(case.shapes[0])
    nothing = torch.zeros(0, *flow.prior.shape, dtype=torch.float64)
    x, log_det = flow.transform.forward(nothing)
    assert x.shape == nothing.shape
    assert log_det.shape == (0,)


@EVERY
def test_refuses_shapes_in_one_line(case: CatalogueCase) -> None:
    for shape in case.refused:
        with pytest.raises(ValueError, match=r"^transforms\[\d+\] \(\w+\): ") as caught:
            case.plan(shape)
        assert "\n" not in str(caught.value)


@EVERY
def test_what_it_offers_is_what_its_transforms_offer(case: CatalogueCase) -> None:
    plan = case.plan(case.shapes[0])
    assert abilities(plan) >= {"gradient"}
    assert plan.offers == frozenset.intersection(*(one.offers for one in plan.plans))
