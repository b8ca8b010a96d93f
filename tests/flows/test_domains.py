"""Where maps come from and lead to: what fits together, where images are wrapped and latent chains live."""

import copy

import numpy as np
import pytest
import torch
from cases import FLOW_CASES
from gaussian import GaussianAction, gaussian_flow
from scalar_cases import SCALAR_FLOWS
from torch import Tensor

from lattice_flows.flows import Chain, Flow, GaussianPrior, HaarU1, Inverse, Pullback, Transform, forward_with_score
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import CIRCLE, REAL, Interval
from lattice_flows.samplers import FlowHMC
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.training import path_gradient, reverse_kl

UNIT = Interval(-1.0, 1.0)


class Scaling(Transform):
    """x = 2 z, in any space."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return 2.0 * z, z.new_full((len(z),), z[0].numel() * np.log(2.0))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * x, x.new_full((len(x),), -x[0].numel() * np.log(2.0))


class Squash(Transform):
    """x = tanh z, from the line into an interval."""

    domain, codomain = REAL, UNIT

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(z)
        return x, torch.log1p(-x * x).flatten(1).sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.atanh(x), -torch.log1p(-x * x).flatten(1).sum(1)


class Shift(Transform):
    """x = z + 3, of angles."""

    domain = codomain = CIRCLE

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z + 3.0, z.new_zeros(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x - 3.0, x.new_zeros(len(x))


class Slope(Action):
    """S = x in the interval, where <x> = 1 - coth 1."""

    space = UNIT

    def field(self, lattice_shape):
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1).double()


def spaces(transform: Transform) -> tuple[object, object]:
    return transform.domain, transform.codomain


def test_a_chain_leads_from_its_first_space_to_its_last():
    assert spaces(Chain()) == spaces(Chain(Scaling())) == (None, None)
    assert spaces(Chain(Scaling(), Squash())) == (REAL, UNIT)
    assert spaces(Chain(Squash(), Scaling(), Inverse(Squash()))) == (REAL, REAL)
    assert spaces(Chain(Shift(), Chain(Scaling(), Shift()))) == (CIRCLE, CIRCLE)
    assert spaces(Inverse(Squash())) == (UNIT, REAL)
    assert spaces(Inverse(Chain(Scaling(), Squash()))) == (UNIT, REAL)


def test_what_does_not_fit_together_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^Squash maps to numbers in \[-1, 1\], but Shift after it maps angles$"):
        Chain(Squash(), Scaling(), Shift())
    with pytest.raises(ValueError, match=r"^the prior is one of angles, but its transform maps real numbers$"):
        Flow(HaarU1((3,)), Chain(Scaling(), Squash()))
    with pytest.raises(ValueError, match=r"^the flow maps to numbers in \[-1, 1\], but the target lives in angles$"):
        Pullback(WilsonU1(1.0), Squash())


def test_images_are_wrapped_where_they_live(generator):
    z = torch.tensor([[0.5, 2.0, -3.0]], dtype=torch.float64)
    assert torch.equal(Flow(GaussianPrior((3,)), Squash()).image(z).x, torch.tanh(z))
    assert torch.equal(Flow(GaussianPrior((3,)), Scaling()).image(z).x, 2.0 * z)
    turned = Flow(HaarU1((3,)), Shift()).image(z).x
    torch.testing.assert_close(turned, CIRCLE.wrap(z + 3.0))
    torch.testing.assert_close(turned[0, 1], torch.tensor(5.0 - 2 * np.pi, dtype=torch.float64))
    # 1.5 is no variable of the interval: it comes back from the wall.
    back = Flow(GaussianPrior((1,)), Chain(Squash(), Scaling())).image(torch.atanh(torch.tensor([[0.75]]))).x
    torch.testing.assert_close(back, torch.tensor([[0.5]]))


def test_a_flow_into_an_interval_has_a_density_there(generator):
    flow = Flow(GaussianPrior((1,)), Squash())
    assert flow.space == UNIT
    x = torch.linspace(-1.0, 1.0, 200_003, dtype=torch.float64)[1:-1, None]
    assert float(torch.exp(flow.log_prob(x)).sum() * (x[1] - x[0])) == pytest.approx(1.0, abs=1e-4)
    x, log_q = flow.sample(5, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-6, rtol=0)


def test_the_pullback_lives_where_the_latent_variables_do(generator):
    pullback = Pullback(Slope(), Squash())
    assert pullback.space == REAL
    z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    x = torch.tanh(z)
    torch.testing.assert_close(pullback(z), x.sum(1) - torch.log1p(-x * x).sum(1))
    assert torch.equal(pullback.image(z).x, x)
    assert Pullback(WilsonU1(1.0), Shift()).space == CIRCLE
    assert Pullback(WilsonU1(1.0), Scaling()).space == CIRCLE


def test_latent_chains_move_on_the_line_and_their_images_between_the_walls(seed):
    """With the right density: <x> is the exact one."""
    sampler = FlowHMC(Slope(), Flow(GaussianPrior((1,)), Squash()), 1.5, 6)
    state = sampler.init(np.zeros((4000, 1)), make_streams(seed, "test", range(4000)))
    for _ in range(8):
        state, _ = sampler.step(state)
    assert (np.abs(state.x) < 1).all()
    assert np.abs(state.latent.x).max() > 2.0
    np.testing.assert_allclose(state.x, np.tanh(state.latent.x), atol=1e-12)
    exact = 1.0 - 1.0 / np.tanh(1.0)
    assert abs(state.x.mean() - exact) < 4.5 * state.x.std() / np.sqrt(4000)
    assert abs(state.x.mean() - 0.9 * exact) > 2.0 * state.x.std() / np.sqrt(4000)


def test_objectives_see_images_where_they_live(generator):
    flow = Flow(GaussianPrior((1,)), Squash())
    z = flow.prior.sample(200, generator)
    x, log_q = flow.image(z)
    for objective in (reverse_kl, path_gradient):
        estimate = objective.loss(flow, Slope(), (z.clone(),))
        torch.testing.assert_close(estimate.log_w, -Slope()(x) - log_q)
    score = forward_with_score(flow.transform, z.clone().requires_grad_(True), -z).score
    end = x.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", [*FLOW_CASES, *SCALAR_FLOWS], ids=lambda case: case.name)
def test_flows_of_links_and_scalars_stay_in_their_space(case):
    flow = case.build(case.shapes[0])
    space = CIRCLE if case in FLOW_CASES else REAL
    assert spaces(flow.transform) == (space, space)
    copied = copy.deepcopy(flow)  # as production copies that of a card
    assert copied.space == flow.space == space
    Flow(copied.prior, flow.transform)


def test_a_transform_that_names_no_space_lives_anywhere():
    flow = gaussian_flow([0.0], [0.0])
    assert flow.space == REAL
    assert Pullback(GaussianAction((0.0,), (1.0,)), flow.transform).space == REAL
