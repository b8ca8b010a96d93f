"""Autoregressive maps: who knows of whom, both directions and their derivatives, and what a card refuses."""

import pytest
import torch

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import TRANSFORMS, ComposedFlow, Fields, initialise
from lattice_flows.flows.transforms.autoregressive import MAPS, MaskedAutoregressive
from lattice_flows.lattice import REAL
from lattice_flows.theories import DoubleWell, Phi4

pytestmark = pytest.mark.quick

EVERY_MAP = pytest.mark.parametrize("name", sorted(MAPS.maps))


def agitated(name, generator, n=4, size=0.3, **options):
    transform = MaskedAutoregressive(n, MAPS.build(name, bound=4.0, width=1.0), (8, 8), **options).double()
    initialise(transform, generator)
    with torch.no_grad():
        for weight in transform.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return transform


def jacobian_of(move, x):
    return torch.autograd.functional.jacobian(lambda x: move(x)[0], x[None])[0, :, 0]


@EVERY_MAP
@pytest.mark.parametrize("reverse", [False, True])
def test_each_variable_depends_on_those_before_it(name, reverse, generator):
    transform = agitated(name, generator, reverse=reverse)
    x = torch.randn(4, generator=generator, dtype=torch.float64)
    for move in (transform.inverse, transform.forward):
        jacobian = jacobian_of(move, x)
        jacobian = jacobian.flip(0, 1) if reverse else jacobian
        assert (jacobian.triu(1) == 0).all()
        assert (jacobian.tril() != 0).sum() == 10
        assert (jacobian.diagonal() > 0).all()


def test_two_groups_make_a_coupling_and_fewer_passes_than_groups_no_inverse(generator):
    transform = agitated("affine", generator, n=5, n_passes=2)
    x = torch.randn(5, generator=generator, dtype=torch.float64)
    jacobian = jacobian_of(transform.inverse, x)
    assert (jacobian[:3] != 0).sum() == 3  # those move by themselves
    assert (jacobian[3:] != 0).sum() == 8
    deep = agitated("affine", generator)
    z, _ = deep.inverse(x[None, :4])
    for n_passes, found in ((4, True), (3, False)):
        deep.groups = deep.groups[:n_passes]
        assert torch.allclose(deep.forward(z)[0], x[None, :4], rtol=0, atol=1e-12) == found


@EVERY_MAP
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_both_directions_have_derivatives_with_respect_to_fields_and_weights(name, direction, generator):
    transform = agitated(name, generator, n=2)
    names = [name for name, _ in transform.named_parameters()]
    weights = [weight.detach().clone().requires_grad_(True) for weight in transform.parameters()]
    x = torch.randn(2, 2, generator=generator, dtype=torch.float64, requires_grad=True)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transform

        def forward(self, x):
            return getattr(self.inner, direction)(x)

    def move(x, *weights):
        named = {f"inner.{name}": weight for name, weight in zip(names, weights)}
        return torch.func.functional_call(Module(), named, (x,))

    assert torch.autograd.gradcheck(move, (x, *weights), atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", ["naf", "umnn"])
def test_networks_are_inverted_far_out(name, generator):
    """Where a fixed interval of bisection would silently give its end."""
    line = MAPS.build(name, bound=4.0, width=1.0).double()
    initialise(line, generator)
    even = torch.randn(line.n_even, 7, generator=generator, dtype=torch.float64)
    y = torch.tensor([-1e4, -30.0, -1.0, 0.0, 2.0, 11.0, 1e3], dtype=torch.float64)
    x, log_slope = line.inverse(y, even, even[:0])
    back, inverse_log_slope = line.forward(x, even, even[:0])
    torch.testing.assert_close(back, y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(inverse_log_slope, -log_slope)
    assert x.abs().max() > 20.0


def test_log_slope_of_an_integral_is_that_of_its_map_whatever_the_nodes(generator):
    """With two nodes, too, where the integrand's own value is off by a thousandth."""
    for n_nodes, alike in ((2, False), (32, True)):
        line = MAPS.build({"name": "umnn", "n_nodes": n_nodes}, bound=4.0).double()
        initialise(line, generator)
        with torch.no_grad():
            line.network[-1].weight.add_(torch.randn(line.network[-1].weight.shape, generator=generator).double())
        even = torch.randn(line.n_even, 50, generator=generator, dtype=torch.float64)
        x = 2.0 * torch.randn(50, generator=generator, dtype=torch.float64)
        log_slope = line.forward(x, even, even[:0])[1].detach()
        h = 1e-6
        above, below = (line.forward(x + step, even, even[:0])[0] for step in (h, -h))
        torch.testing.assert_close(log_slope, torch.log((above - below) / (2 * h)), rtol=0, atol=1e-6)
        given = torch.cat([x[None], even[2:]]).T
        log_g = 3.0 * torch.tanh(line.network(given).detach().squeeze(1) / 3.0) + 3.0 * torch.tanh(even[0] / 3.0)
        inner = x.abs() < 4.0
        assert (float((log_g - log_slope)[inner].abs().max()) < 1e-6) == alike


@EVERY_MAP
def test_it_begins_near_the_identity_and_draws_from_its_generator_alone(name, generator):
    state = torch.get_rng_state()
    transform = MaskedAutoregressive(6, MAPS.build(name, bound=4.0, width=1.0), (8,)).double()
    assert torch.equal(torch.get_rng_state(), state)
    initialise(transform, generator)
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    z, log_det = transform.inverse(x)
    assert float((z - x).detach().abs().max()) < 0.05
    assert float(log_det.detach().abs().max()) < 0.2
    drawn = [weight.detach().clone() for weight in transform.parameters()]
    initialise(transform, torch.Generator().manual_seed(4))
    again = [weight.detach().clone() for weight in transform.parameters()]
    initialise(transform, torch.Generator().manual_seed(4))
    assert all(torch.equal(one, other) for one, other in zip(again, transform.parameters()))
    assert not all(torch.equal(one, other) for one, other in zip(drawn, again))


def test_iaf_has_its_slow_inverse_in_python(generator):
    flow = ComposedFlow((3, 2), Phi4(1.0, 1.0), transforms=("iaf",), prior="gaussian").build().double()
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    x, log_q = flow.sample(5, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q)


CARD = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 1.0
[flow]
name = "composed"
transforms = [{{name = "{name}", map = "spline"}}]
prior = "gaussian"
[training]
objective = "{objective}"
[[ensemble]]
name = "e"
sampler = "{sampler}"
"""


@pytest.mark.parametrize(
    ("objective", "sampler", "told"),
    [
        ("path_gradient", "flow_samples", "objective = 'path_gradient' needs the score of the flow"),
        ("reinforce", "flow_samples", "objective = 'reinforce' needs the inverse of the flow"),
        (
            "reverse_kl",
            "flow_hmc",
            r"FlowHMC needs the inverse.*, because of transforms\[0\] \(iaf\)",
        ),
        ("reverse_kl", "flow_metropolis", "FlowMetropolis needs the paths of the flow, which composed does not have"),
    ],
)
def test_a_card_that_needs_the_slow_direction_of_iaf_is_refused(objective, sampler, told):
    with pytest.raises(InputError, match=told) as caught:
        parse_card(CARD.format(name="iaf", objective=objective, sampler=sampler))
    assert "\n" not in str(caught.value)
    assert parse_card(CARD.format(name="maf", objective=objective, sampler=sampler))
    assert parse_card(CARD.format(name="iaf", objective="reverse_kl", sampler="flow_samples"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "maf", "passes": 1}, "passes must be between 2 and the 16 variables, got 1"),
        ({"name": "maf", "passes": 17}, "passes must be between 2 and the 16 variables, got 17"),
        ({"name": "iaf", "hidden": ()}, "hidden must be a list"),
        ({"name": "maf", "map": {"name": "naf", "hidden": (3,)}}, "hidden must be even widths"),
        ({"name": "maf", "map": {"name": "umnn", "n_nodes": 1}}, "n_nodes must be between 2 and 100, got 1"),
    ],
)
def test_bad_values_are_refused_by_name(table, message):
    with pytest.raises(ValueError, match=message):
        ComposedFlow((4, 4), Phi4(1.0, 1.0), transforms=(table,))


def test_one_variable_is_refused():
    with pytest.raises(ValueError, match="needs 2 variables or more"):
        TRANSFORMS.build("maf").check(Fields((1,), (), REAL, 1.0, DoubleWell()))
