"""Plans of flows: what cannot be built is refused before anything is, and what is built is what was planned."""

import inspect
import pickle

import pytest
import torch

from lattice_flows.flows import FLOWS, Flow, FlowPlan, multiscale
from lattice_flows.flows.hybrid import HybridFlow
from lattice_flows.flows.multiscale import MultiscaleFlow
from lattice_flows.flows.tree import RegionTree
from lattice_flows.theories import ImprovedU1, Phi4, Phi4Hopping, WilsonU1

pytestmark = pytest.mark.quick

U1, IMPROVED, PHI4 = WilsonU1(2.0), ImprovedU1(2.0, 1 / 12), Phi4(-4.0, 8.0)
PLANS = [
    ("plaquette_coupling", (8, 4), None, {}),
    ("plaquette_coupling", (8, 4), None, {"transform": "spline", "pattern": "rows"}),
    ("multiscale", (6, 5), U1, {}),
    ("multiscale", (4, 4), IMPROVED, {"conditioner": "structured"}),
    ("multiscale", (4, 4), U1, {"conditioner": "exact"}),
    ("hybrid", (4, 8), IMPROVED, {"n_components": 2}),
    ("checkerboard_coupling", (4, 6), PHI4, {}),
    ("checkerboard_coupling", (2, 4, 2), Phi4Hopping(0.2, 0.5), {"transform": "affine", "prior": "gaussian"}),
]
EVERY = pytest.mark.parametrize(("name", "shape", "action", "options"), PLANS)


def _plan(name: str, shape: tuple[int, ...], action: object, options: dict[str, object]) -> FlowPlan:
    return FLOWS[name](shape, **({} if action is None else {"action": action}), **options)


@pytest.fixture
def _nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither modules, which hold all weights and tables, nor trees."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a plan builds nothing")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    monkeypatch.setattr(RegionTree, "__post_init__", refuse)


@pytest.mark.usefixtures("_nothing_is_built")
@EVERY
def test_a_plan_builds_nothing(name, shape, action, options):
    _plan(name, tuple(256 * side for side in shape), action, options)


@EVERY
def test_what_is_built_is_what_was_planned(name, shape, action, options):
    plan = _plan(name, shape, action, options)
    flow = plan.build()
    assert flow.space == plan.space
    x, log_q = flow.sample(3, torch.Generator().manual_seed(1))
    sent = pickle.loads(pickle.dumps(plan))  # as rank 0 sends it to the others
    assert sent == plan
    again = sent.build().sample(3, torch.Generator().manual_seed(1))
    assert torch.equal(again.x, x)
    assert torch.equal(again.log_q, log_q)


REFUSED = [
    ("plaquette_coupling", (6, 4), None, {}, "multiples of 4"),
    ("plaquette_coupling", (4, 4, 4), None, {}, "two sides"),
    ("plaquette_coupling", (4, 4), None, {"n_layers": 0}, "n_layers"),
    ("plaquette_coupling", (4, 4), None, {"pattern": "stripes"}, "pattern"),
    ("plaquette_coupling", (4, 4), None, {"transform": "affine"}, "transform"),
    ("plaquette_coupling", (4, 4), None, {"n_components": 0}, "n_components"),
    ("plaquette_coupling", (4, 4), None, {"transform": "spline", "n_bins": 0}, "n_bins"),
    ("plaquette_coupling", (4, 4), None, {"hidden": (4, 0)}, "hidden"),
    ("multiscale", (1, 1), U1, {}, "two sides"),
    ("multiscale", (4, 4), U1, {"conditioner": "none"}, "conditioner"),
    ("multiscale", (4, 4), U1, {"n_bins": 1}, "n_bins"),
    ("multiscale", (4, 4), U1, {"n_knots": 1}, "n_knots"),
    ("multiscale", (4, 4), U1, {"hidden": ()}, "hidden"),
    ("multiscale", (4, 4), U1, {"conditioner": "structured", "n_knots": 24}, "n_knots"),
    ("multiscale", (4, 4), U1, {"conditioner": "structured", "n_harmonics": 0}, "n_harmonics"),
    ("multiscale", (4, 4), WilsonU1(301.0), {"conditioner": "structured"}, "between 0 and 300"),
    ("multiscale", (4, 4), PHI4, {"conditioner": "structured"}, "not for Phi4"),
    ("multiscale", (4, 4), IMPROVED, {"conditioner": "exact"}, "Wilson action"),
    ("multiscale", (4, 4), U1, {"conditioner": "exact", "n_knots": 24}, "n_knots"),
    ("multiscale", (4, 4), WilsonU1(301.0), {"conditioner": "exact"}, "between 0 and 300"),
    ("hybrid", (6, 4), IMPROVED, {}, "hybrid needs two sides"),
    ("hybrid", (4, 4), PHI4, {}, "not for Phi4"),
    ("hybrid", (4, 4), IMPROVED, {"tree_beta": -1.0}, "tree_beta"),
    ("hybrid", (4, 4), IMPROVED, {"n_layers": 0}, "n_layers"),
    ("hybrid", (4, 4), IMPROVED, {"n_components": 0}, "n_components"),
    ("checkerboard_coupling", (3, 4), PHI4, {}, "even sides"),
    ("checkerboard_coupling", (4, 4), U1, {}, "phi4"),
    ("checkerboard_coupling", (4, 4), PHI4, {"n_layers": 0}, "n_layers"),
    ("checkerboard_coupling", (4, 4), PHI4, {"kernel": 4}, "kernel"),
    ("checkerboard_coupling", (4, 4), PHI4, {"hidden": ()}, "hidden"),
    ("checkerboard_coupling", (4, 4), PHI4, {"transform": "projection"}, "transform"),
    ("checkerboard_coupling", (4, 4), PHI4, {"n_bins": 1}, "n_bins"),
    ("checkerboard_coupling", (4, 4), PHI4, {"prior": "haar"}, "prior"),
]


@pytest.mark.usefixtures("_nothing_is_built")
@pytest.mark.parametrize(("name", "shape", "action", "options", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_before(name, shape, action, options, message):
    with pytest.raises(ValueError, match=message):
        _plan(name, shape, action, options)


def test_a_plan_names_the_space_of_its_flow():
    class Wrong(MultiscaleFlow):
        space = FLOWS["checkerboard_coupling"].space

    with pytest.raises(AssertionError, match="another space"):
        Wrong((4, 4), U1).build()


def test_the_functions_take_what_the_plans_take():
    assert inspect.signature(multiscale).parameters == inspect.signature(MultiscaleFlow).parameters
    assert isinstance(multiscale((4, 4), U1, n_bins=4), Flow)
    assert HybridFlow((4, 4), IMPROVED).n_layers == 16
