"""Flows: density, precision, shapes, weights that know no volume."""

import math

import pytest
import torch
from cases import FLOW_CASES, FlowCase

from lattice_flows.flows import Flow, HaarU1, initialise, plaquette_coupling

pytestmark = pytest.mark.quick

EVERY = pytest.mark.parametrize("case", FLOW_CASES, ids=lambda case: case.name)


def _state(flow: Flow) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in flow.parameters()])


@EVERY
def test_log_prob_of_a_sample_is_its_log_q(case: FlowCase, generator: torch.Generator) -> None:
    for shape in case.shapes:
        flow = case.build(shape)
        x, log_q = flow.sample(5, generator)
        assert x.shape == (5, 2, *shape)
        assert x.dtype == log_q.dtype == torch.float64
        assert ((x >= -math.pi) & (x < math.pi)).all()
        torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-8 + 2.0 * flow.transform.error, rtol=0)


@pytest.mark.parametrize("case", [case for case in FLOW_CASES if case.identity], ids=lambda case: case.name)
def test_density_integrates_to_one(case: FlowCase, generator: torch.Generator) -> None:
    """E_prior[q(x)] = 1, and 1 - 1/300 is told from it. Weights near the identity keep the variance of q small."""
    flow = case.build(case.shapes[0])
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.02)
        q = torch.exp(flow.log_prob(flow.prior.sample(4000, generator)))
    error = float(q.std()) / math.sqrt(len(q))
    assert error < 1 / 1500
    assert abs(float(q.mean()) - 1.0) < 4 * error


@EVERY
def test_refuses_shapes_in_one_line(case: FlowCase) -> None:
    for shape in case.refused:
        with pytest.raises(ValueError, match=rf"{case.needs}.*got " + " x ".join(map(str, shape))) as caught:
            case.build(shape)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", [case for case in FLOW_CASES if case.any_volume], ids=lambda case: case.name)
def test_weights_do_not_know_the_volume(case: FlowCase, generator: torch.Generator) -> None:
    """The weights of 8 x 8 do on a periodic copy in 16 x 24 what they do at home."""
    small, large = case.build((8, 8)), case.build((16, 24))
    initialise(small, generator)
    large.load_state_dict(small.state_dict())
    z = small.prior.sample(2, generator)
    x, log_det = small.transform.forward(z)
    large_x, large_log_det = large.transform.forward(z.tile(1, 1, 2, 3))
    torch.testing.assert_close(large_x, x.tile(1, 1, 2, 3), atol=1e-10, rtol=0)
    torch.testing.assert_close(large_log_det, 6 * log_det, atol=1e-9, rtol=0)
    case.build((32, 32)).load_state_dict(small.state_dict())


@EVERY
def test_float32_networks_carry_float64_maps(case: FlowCase, generator: torch.Generator) -> None:
    """Only the parameters are rounded: the map inverts far beyond single precision, and its output is double."""
    flow = case.build((4, 4)).float()
    z = flow.prior.sample(50, generator)
    x, log_det = flow.transform.forward(z)
    assert x.dtype == log_det.dtype == torch.float64
    back = flow.transform.inverse(x)[0].detach()
    torch.testing.assert_close(back, z, atol=1e-3, rtol=0)
    assert float((back - z).abs().median()) < 1e-8 + flow.transform.error
    x32, log_q32 = flow.sample(3, generator, torch.float32)
    assert x32.dtype == log_q32.dtype == torch.float32


@pytest.mark.parametrize("case", [case for case in FLOW_CASES if case.drawn], ids=lambda case: case.name)
def test_initialisation_depends_on_its_generator_alone(case: FlowCase, seed: int) -> None:
    torch_state = torch.get_rng_state()
    a, b = case.build((4, 4)), case.build((4, 4))
    assert torch.equal(_state(a), _state(b))
    initialise(a, torch.Generator().manual_seed(seed))
    assert not torch.equal(_state(a), _state(b))
    initialise(b, torch.Generator().manual_seed(seed))
    assert torch.equal(_state(a), _state(b))
    assert torch.equal(torch.get_rng_state(), torch_state)


@EVERY
def test_samples_depend_on_the_generator_alone(case: FlowCase, seed: int) -> None:
    flow = case.build((4, 4))
    first, second = (flow.sample(3, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, flow.sample(3, torch.Generator().manual_seed(seed + 1)).x)


def test_haar_prior_is_uniform(generator: torch.Generator) -> None:
    prior = HaarU1((2, 4, 4))
    z = prior.sample(4000, generator)
    assert ((z >= -math.pi) & (z < math.pi)).all()
    assert torch.equal(prior.log_prob(z), torch.zeros(4000, dtype=torch.float64))
    n = z.numel()
    for k in (1, 2, 3):
        for moment in (torch.cos(k * z).mean(), torch.sin(k * z).mean()):
            assert abs(float(moment)) < 4.5 * math.sqrt(0.5 / n)


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 0},
        {"transform": "affine"},
        {"hidden": (0,)},
        {"pattern": "stripes"},
        {"transform": "spline", "n_bins": 1},
        {"transform": "projection", "n_components": 0},
    ],
    ids=str,
)
def test_builder_refuses_bad_values_by_name(options: dict) -> None:
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match=f"{name}.*{value[0] if isinstance(value, tuple) else value}"):
        plaquette_coupling((4, 4), **options)


@pytest.mark.parametrize("n_layers", [1, 3, 6])
def test_any_number_of_layers(n_layers: int, generator: torch.Generator) -> None:
    flow = plaquette_coupling((8, 4), n_layers=n_layers, hidden=(4, 3)).double()
    x, log_q = flow.sample(2, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-9, rtol=0)
