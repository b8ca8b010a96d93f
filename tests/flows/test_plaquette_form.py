"""A flow and its target in plaquettes: the weights are those of the links."""

import math

import pytest
import torch
from cases import exact_tree, hybrid_flow, mlp_tree, projection_flow, structured_tree
from torch import Tensor

from lattice_flows.flows import (
    Flow,
    Multiscale,
    PlaquetteTree,
    checkerboard_coupling,
    forward_with_score,
    multiscale,
    reduced,
)
from lattice_flows.lattice import plaquette
from lattice_flows.theories import Action, ImprovedU1, Phi4, WilsonU1

pytestmark = pytest.mark.quick

TREES = pytest.mark.parametrize("build", [mlp_tree, structured_tree, exact_tree])
SHAPES = pytest.mark.parametrize("shape", [(4, 4), (6, 4), (3, 5)], ids=str)
THEORIES = [WilsonU1(2.0), ImprovedU1(1.5, 1.0 / 12.0)]


def _tree(flow: Flow) -> Multiscale:
    assert isinstance(flow.transform, Multiscale)
    return flow.transform


def _links(transform: Multiscale, shares: Tensor) -> Tensor:
    """Links (B, 2, L0, L1) whose regions have the given shares."""
    return transform._link_change(transform._plaquettes(shares))


@pytest.mark.parametrize("action", THEORIES, ids=str)
@SHAPES
@TREES
def test_links_with_the_same_latent_shares_have_the_same_weight(
    build, shape, action: Action, generator: torch.Generator
) -> None:
    flow = build(shape)
    pair = reduced(flow, action)
    shares = pair.flow.prior.sample(20, generator)
    assert shares.shape == (20, shape[0] * shape[1] - 1)
    x, log_det = flow.transform.forward(_links(_tree(flow), shares))
    plaquettes, reduced_log_det = pair.flow.transform.forward(shares)
    turns = (plaquette(x, 0, 1) - plaquettes) / (2.0 * math.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-10, rtol=0)
    log_w = -action(x) + log_det
    torch.testing.assert_close(-pair.action(plaquettes) + reduced_log_det, log_w, atol=1e-10, rtol=0)
    torch.testing.assert_close(pair.flow.prior.log_prob(shares), torch.zeros(20).double(), atol=0, rtol=0)
    assert log_w.std() > (1e-7 if build is exact_tree and action is THEORIES[0] else 0.1)


@TREES
def test_density_of_plaquettes_is_that_of_their_links(build, generator: torch.Generator) -> None:
    flow = build((6, 4))
    pair = reduced(flow, WilsonU1(2.0))
    x, log_q = flow.sample(20, generator)
    torch.testing.assert_close(pair.flow.log_prob(plaquette(x, 0, 1)), log_q, atol=1e-8, rtol=0)


def test_fresh_weights_have_one_distribution(generator: torch.Generator) -> None:
    """Mean and variance of log w; a coupling 2 % off is told."""

    def moments(pair_of: Flow, action: Action) -> Tensor:
        with torch.no_grad():
            x, log_q = pair_of.sample(20_000, generator)
            log_w = -action(x) - log_q
        centred = (log_w - log_w.mean()) ** 2
        return torch.stack([torch.stack([v.mean(), v.std() / math.sqrt(len(v))]) for v in (log_w, centred)])

    flow, action = mlp_tree((4, 4)), WilsonU1(2.0)
    pair = reduced(flow, action)
    links, plaquettes = moments(flow, action), moments(*pair)
    wrong = moments(pair.flow, reduced(flow, WilsonU1(2.04)).action)
    pulls = [(links - one)[:, 0] / torch.hypot(links[:, 1], one[:, 1]) for one in (plaquettes, wrong)]
    assert pulls[0].abs().max() < 4.5
    assert pulls[1].abs().max() > 4.5


@pytest.mark.parametrize("build", [mlp_tree, structured_tree])
def test_parameters_are_shared(build, generator: torch.Generator) -> None:
    """One gradient, by either way, of any function of log_q at given latent shares."""
    flow = build((4, 4))
    small, _ = reduced(flow, WilsonU1(2.0))
    weights = list(flow.parameters())
    assert [w.data_ptr() for w in small.parameters()] == [w.data_ptr() for w in weights]
    shares = small.prior.sample(8, generator)
    z = _links(_tree(flow), shares)
    gradients = [
        torch.autograd.grad(transform.forward(latent)[1].sin().sum(), weights)
        for transform, latent in ((flow.transform, z), (small.transform, shares))
    ]
    for by_links, by_plaquettes in zip(*gradients):
        torch.testing.assert_close(by_plaquettes, by_links, atol=1e-10, rtol=1e-9)
    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-3


@pytest.mark.parametrize(
    ("flow", "action"),
    [
        (projection_flow((4, 4)), WilsonU1(2.0)),
        (hybrid_flow((4, 4)), ImprovedU1(1.5, 1.0 / 12.0)),
        (checkerboard_coupling((4, 4), Phi4(-4.0, 8.0), n_layers=2), Phi4(-4.0, 8.0)),
        (mlp_tree((4, 4)), Phi4(1.0, 0.0)),
    ],
    ids=["plaquette_coupling", "hybrid", "checkerboard_coupling", "another action"],
)
def test_what_allows_no_reduction_passes_as_it_is(flow: Flow, action: Action) -> None:
    pair = reduced(flow, action)
    assert pair.flow is flow
    assert pair.action is action


def test_a_scaled_action_is_that_of_the_scaled_coupling(generator: torch.Generator) -> None:
    """Of the exact flow at half the coupling every weight is Z; with 1 % more they differ."""
    flow = multiscale((4, 4), WilsonU1(1.0), conditioner="exact")
    spread = []
    for factor in (0.5, 0.505):
        pair = reduced(flow, WilsonU1(2.0).scaled(factor))
        with torch.no_grad():
            x, log_q = pair.flow.sample(200, generator)
        log_w = -pair.action(x) - log_q
        spread.append(float(abs(log_w - WilsonU1(1.0).closed_forms((4, 4)).log_z).max()))
    assert spread[0] < 3e-3
    assert spread[1] > 3e-2


@SHAPES
@TREES
def test_score_is_the_slope_of_log_q_along_the_constraint(build, shape, generator: torch.Generator) -> None:
    """Against autograd through the inverse, and against differences of log q; the sum of the plaquettes is fixed."""
    small, _ = reduced(build(shape), WilsonU1(2.0))
    shares = small.prior.sample(6, generator)
    x, log_det, score = forward_with_score(small.transform, shares, torch.zeros_like(shares))
    assert score.shape == x.shape == (6, *shape)
    assert not score.requires_grad
    end = x.detach().requires_grad_(True)
    log_q = small.log_prob(end)
    torch.testing.assert_close(log_q, -log_det, atol=1e-8, rtol=0)
    (slope,) = torch.autograd.grad(log_q.sum(), end)
    tangent = [g - g.mean((1, 2), keepdim=True) for g in (score, slope)]
    torch.testing.assert_close(tangent[0], tangent[1], atol=1e-6, rtol=1e-6)
    assert tangent[1].abs().max() > 0.1

    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    direction = direction - direction.mean((1, 2), keepdim=True)
    expected = (score * direction).sum((1, 2))
    with torch.no_grad():
        ends = [small.log_prob(x + step * direction) for step in (1e-6, -1e-6)]
    found = (ends[0] - ends[1]) / 2e-6
    close = (found - expected).abs() < 1e-3 * (1.0 + expected.abs())
    assert close.sum() >= 5, (found, expected)  # the splines' second derivative jumps: one step may cross a knot


def test_shares_with_a_score_are_refused() -> None:
    small, _ = reduced(mlp_tree((4, 4)), WilsonU1(2.0))
    shares = torch.zeros(2, 15, dtype=torch.float64)
    with pytest.raises(ValueError, match="their score is zero"):
        forward_with_score(small.transform, shares, torch.ones_like(shares))


@TREES
@torch.no_grad()
def test_float32_shares_give_the_map_of_their_values(build, generator: torch.Generator) -> None:
    """Computed in double precision, rounded at the end; so with links, whose sums are rounded before.

    A steep map carries that rounding on: 1.2e-5 was seen, and log_det is held to 1e-4 likewise.
    """
    flow = build((4, 4))
    small = reduced(flow, WilsonU1(2.0)).flow.transform
    assert isinstance(small, PlaquetteTree)
    for transform, z in ((small, torch.rand(5, 15, generator=generator)), (flow.transform, _links32(generator))):
        x, log_det = transform.forward(z)
        x64, log_det64 = transform.forward(z.double())
        assert x.dtype == log_det.dtype == torch.float32
        torch.testing.assert_close(torch.sin(0.5 * (x - x64)), torch.zeros_like(x64), atol=1e-4, rtol=0)
        torch.testing.assert_close(log_det.double(), log_det64, atol=1e-4, rtol=0)
        back, back_log_det = transform.inverse(x)
        assert back.dtype == back_log_det.dtype == torch.float32
        assert float((torch.sin(0.5 * (back - z))).abs().median()) < 1e-5


def _links32(generator: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(5, 2, 4, 4, generator=generator) - 1.0) * math.pi
