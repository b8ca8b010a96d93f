"""The tree with couplings on top."""

import math

import pytest
import torch
from torch import Tensor

from lattice_flows.flows import Chain, Flow, forward_with_score, initialise
from lattice_flows.flows.hybrid import hybrid
from lattice_flows.lattice import conjugate, gauge_transform
from lattice_flows.theories import ImprovedU1, Phi4, WilsonU1

ACTION = ImprovedU1(3.0, 1 / 12)


def _far(shape: tuple[int, int], size: float = 0.2) -> Flow:
    """A flow whose couplings are no identities."""
    flow = hybrid(shape, ACTION, tree_beta=1.5, n_layers=8).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return flow


def _couplings(flow: Flow) -> Chain:
    return Chain(*flow.transform.sequence()[1:])


def test_couplings_begin_as_the_identity(generator: torch.Generator) -> None:
    flow = hybrid((8, 4), ACTION)
    initialise(flow, generator)
    z = flow.prior.sample(5, generator)
    x, log_det = _couplings(flow).forward(z)
    torch.testing.assert_close(x, z, atol=1e-13, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), atol=1e-12, rtol=0)
    assert (_couplings(_far((8, 4))).forward(z)[0] - z).abs().max() > 0.1


def test_without_rectangles_the_untrained_flow_is_the_target(generator: torch.Generator) -> None:
    for action in (WilsonU1(2.0), ImprovedU1(2.0, 0.0)):
        x, log_q = hybrid((4, 8), action).sample(500, generator)
        assert (-action(x) - log_q).std() < 0.01
    x, log_q = hybrid((4, 8), WilsonU1(2.0), tree_beta=1.9).sample(500, generator)
    assert (-WilsonU1(2.0)(x) - log_q).std() > 0.1


@pytest.mark.parametrize(
    ("action", "beta"),
    [(WilsonU1(2.0), 2.0), (ImprovedU1(6.0, 1 / 12), math.sqrt(24)), (ImprovedU1(3.0, -1 / 12), math.sqrt(12))],
    ids=str,
)
def test_tree_has_a_mean_stiffness_of_the_target(
    action: WilsonU1 | ImprovedU1, beta: float, generator: torch.Generator
) -> None:
    """beta sqrt[(c0 + 4 c1)(c0 + 8 c1)]: the same flow as with that tree_beta, and not that with 1 % more."""
    default, given, larger = (hybrid((4, 4), action, tree_beta=b) for b in (None, beta, 1.01 * beta))
    z = default.prior.sample(3, generator)
    x = default.transform.forward(z)[0]
    torch.testing.assert_close(given.transform.forward(z)[0], x, atol=1e-4, rtol=0)
    assert (larger.transform.forward(z)[0] - x).abs().max() > 1e-3


def test_several_components_begin_near_the_identity_and_different(generator: torch.Generator) -> None:
    flow = hybrid((4, 4), ACTION, n_components=2)
    z = flow.prior.sample(5, generator)
    distance = (_couplings(flow).forward(z)[0] - z).abs().max()
    assert 1e-3 < distance < 0.5
    weight = next(w for name, w in flow.named_parameters() if name.endswith("weights.1"))
    amplitudes = weight[2:].unflatten(0, (2, -1))
    assert not torch.equal(amplitudes[0], amplitudes[1])


@pytest.mark.parametrize("shape", [(4, 4), (8, 4)])
def test_is_a_bijection_with_its_jacobian_and_score(shape: tuple[int, int], generator: torch.Generator) -> None:
    flow = _far(shape)
    z = flow.prior.sample(2, generator)
    x, log_det, score = forward_with_score(flow.transform, z, torch.zeros_like(z))
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.transform.forward(z)[0], z[:1])
    torch.testing.assert_close(
        log_det[0], torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1))[1], atol=1e-8, rtol=0
    )
    end = x.detach().requires_grad_(True)
    log_q = flow.log_prob(end)
    torch.testing.assert_close(log_q, -log_det, atol=1e-8, rtol=0)
    torch.testing.assert_close(score, torch.autograd.grad(log_q.sum(), end)[0], rtol=1e-6, atol=1e-6)


def test_commutes_with_gauge_transformations_and_charge_conjugation(generator: torch.Generator) -> None:
    flow = _far((8, 4))
    z = flow.prior.sample(3, generator)
    alpha = torch.randn(3, 8, 4, generator=generator, dtype=torch.float64)
    x, log_det = flow.transform.forward(z)
    for moved, expected in ((gauge_transform(z, alpha), gauge_transform(x, alpha)), (conjugate(z), conjugate(x))):
        image, image_log_det = flow.transform.forward(moved)
        torch.testing.assert_close(torch.sin(0.5 * (image - expected)), torch.zeros_like(x), atol=1e-9, rtol=0)
        torch.testing.assert_close(image_log_det, log_det, atol=1e-8, rtol=0)


def _log_z(log_w: Tensor) -> tuple[float, float]:
    w = torch.exp(log_w - log_w.max())
    return float(log_w.max() + torch.log(w.mean())), float(w.std() / w.mean()) / math.sqrt(len(w))


def test_flows_of_different_density_have_one_log_z(generator: torch.Generator) -> None:
    """The mean weight is Z whatever the flow; an action 2 % larger is told from it."""
    values = []
    tree, near = hybrid((4, 4), ACTION, tree_beta=1.5), _far((4, 4), size=0.02)
    for flow, factor in ((tree, 1.0), (near, 1.0), (near, 1.02)):
        with torch.no_grad():
            x, log_q = flow.sample(20_000, generator)
        assert log_q.std() > 0.1
        values.append(_log_z(-factor * ACTION(x) - log_q))
    pulls = [(value - values[0][0]) / math.hypot(error, values[0][1]) for value, error in values[1:]]
    assert abs(pulls[0]) < 4.5
    assert abs(pulls[1]) > 4.5


def test_initialise_draws_the_weights_of_tree_and_couplings(generator: torch.Generator) -> None:
    flow = hybrid((4, 4), ACTION, conditioner="mlp", n_layers=4)
    before = {name: weight.detach().clone() for name, weight in flow.named_parameters()}
    initialise(flow, generator)
    changed = {name.split(".")[2] for name, weight in flow.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {"0", "1"}  # the parts of the chain


@pytest.mark.parametrize(
    ("shape", "action", "message"),
    [
        ((6, 4), ACTION, "hybrid needs .* multiples of 4.*got 6 x 4"),
        ((4, 4), Phi4(1.0, 1.0), "actions of 2D plaquettes.*Phi4"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_serve(shape: tuple[int, int], action: ImprovedU1, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hybrid(shape, action)
