"""Maps by name and options: what a card may write, and what checkpoints have always said."""

import pytest
import torch

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import CIRCLE_MAPS, LINE_MAPS, checkerboard_coupling, hybrid, plaquette_coupling
from lattice_flows.flows.line_transform import Shift, SinhArcsinh
from lattice_flows.flows.plaquette_coupling import PlaquetteCouplingFlow
from lattice_flows.theories import ImprovedU1, Phi4
from lattice_flows.training import path_gradient, reverse_kl

pytestmark = pytest.mark.quick

LINKS = '[theory]\nname = "u1"\nshape = [8, 8]\nbeta = 2\n[flow]\nname = "plaquette_coupling"\n'
HYBRID = LINKS.replace("plaquette_coupling", "hybrid")
SCALARS = '[theory]\nname = "phi4"\nshape = [4, 4]\nm2 = -4\nlam = 8\n[flow]\nname = "checkerboard_coupling"\n'


def header(text: str) -> dict:
    return parse_card(text).flow.as_dict()


@pytest.mark.parametrize("catalogue", [CIRCLE_MAPS, LINE_MAPS], ids=["circle", "line"])
def test_every_map_is_made_of_its_name_alone(catalogue):
    for name, constructor in catalogue.maps.items():
        assert type(catalogue.build(name)) is type(catalogue.build({"name": name})) is constructor


def test_options_come_from_the_table_and_else_from_the_flow():
    assert CIRCLE_MAPS.build({"name": "spline", "n_bins": 5}).n_bins == 5
    assert CIRCLE_MAPS.build("spline", n_bins=6, n_components=3).n_bins == 6
    line = LINE_MAPS.build({"name": "spline", "n_bins": 5}, bound=2.0, width=7.0)
    assert (line.n_bins, line.bound) == (5, 2.0)
    assert LINE_MAPS.build("sinh_arcsinh", bound=2.0, width=7.0).width == 7.0


def test_a_table_means_what_the_keys_beside_it_meant():
    """And checkpoints say what they always said."""
    old = {"n_layers": 16, "pattern": "checkerboard", "transform": "spline", "n_components": 4, "n_bins": 5}
    for options in ('transform = "spline"\nn_bins = 5', 'transform = {name = "spline", n_bins = 5}'):
        assert header(LINKS + options) == {"name": "plaquette_coupling", **old, "hidden": [16]}
    assert header(LINKS)["n_components"] == header(LINKS + 'transform = {name = "projection"}')["n_components"] == 4
    one = header(HYBRID)
    assert (one["transform"], one["n_components"], one["n_bins"]) == ("projection", 1, 8)
    assert header(HYBRID + 'transform = {name = "projection", n_components = 3}')["n_components"] == 3
    scalar = {"n_layers": 6, "transform": "spline", "n_bins": 6, "prior": "free", "hidden": [16, 16], "kernel": 5}
    for options in ("n_bins = 6", 'transform = {name = "spline", n_bins = 6}'):
        assert header(SCALARS + options) == {"name": "checkerboard_coupling", **scalar}


def test_both_ways_build_the_same_flow():
    one = plaquette_coupling((4, 4), n_layers=4, transform="spline", n_bins=5)
    other = plaquette_coupling((4, 4), n_layers=4, transform={"name": "spline", "n_bins": 5})
    z = one.prior.sample(3, torch.Generator().manual_seed(1))
    assert torch.equal(one.transform.forward(z)[0], other.transform.forward(z)[0])
    assert hybrid((4, 4), ImprovedU1(2.0, 0.1), n_layers=4, transform={"name": "spline"})


@pytest.mark.parametrize(("name", "kind"), [("sinh_arcsinh", SinhArcsinh), ("shift", Shift)])
def test_a_coupling_of_parameters_of_one_kind(name, kind, generator):
    """The sinh-arcsinh map has even ones alone, and shifts odd ones."""
    flow = checkerboard_coupling((4, 4), Phi4(-4.0, 8.0), n_layers=2, transform=name, hidden=(4,))
    assert isinstance(flow.transform.sequence()[0].line, kind)
    for objective in (reverse_kl, path_gradient):
        objective(flow, Phi4(-4.0, 8.0), 8, generator).loss.backward()
    gradients = [weight.grad for weight in flow.parameters() if weight.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in gradients if gradient.numel()) > 1e-3
    x, log_q = flow.sample(4, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-8, rtol=0)


BAD = [
    (
        LINKS + 'transform = "affine"',
        "[flow]: transform: unknown name 'affine'; available: moebius, projection, spline",
    ),
    (
        LINKS + "transform = {n_bins = 4}",
        "[flow]: transform: unknown name None; available: moebius, projection, spline",
    ),
    (LINKS + 'transform = {name = "spline", n_bin = 4}', "transform: unknown key 'n_bin'; did you mean 'n_bins'?"),
    (LINKS + 'transform = {name = "spline", n_bins = 4.5}', "transform: n_bins = 4.5: input should be a valid integer"),
    (
        LINKS + 'transform = {name = "projection", n_bins = 4}',
        "transform: unknown key 'n_bins'; available: n_components",
    ),
    (LINKS + 'transform = {name = "spline", n_bins = 1}', "[flow]: a spline has 2 to 100 bins, got n_bins = 1"),
    (LINKS + 'transform = {name = "spline", n_bins = 4}\nn_bins = 4', "n_bins is given twice, in transform and beside"),
    (LINKS + "transform = 3", "[flow]: transform = 3: should be a name, or a table such as {name = 'spline'}"),
    (
        SCALARS + 'transform = "projection"',
        "transform: unknown name 'projection'; available: affine, logistic_density, logis",
    ),
    (SCALARS + 'transform = {name = "spline", bound = 3.0}', "transform: unknown key 'bound'; available: n_bins, name"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_wrong_tables_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_tables_in_python():
    with pytest.raises(ValueError, match=r'^transform must be one of "projection", "spline", "moebius", got .none.$'):
        PlaquetteCouplingFlow((4, 4), transform={"name": "none"})
    with pytest.raises(ValueError, match=r"^transform: spline has no option .n_bin.; it has n_bins$"):
        PlaquetteCouplingFlow((4, 4), transform={"name": "spline", "n_bin": 3})
    with pytest.raises(ValueError, match=r"^transform: affine has no option .bound.; it has none$"):
        checkerboard_coupling((4, 4), Phi4(-4.0, 8.0), transform={"name": "affine", "bound": 3})
