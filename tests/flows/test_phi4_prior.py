"""Gaussian priors of scalar fields: densities against closed forms, samples against moments."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.lattice import REAL
from lattice_flows.theories import FreeField, Phi4, Phi4Hopping

pytestmark = pytest.mark.quick

SHAPES = [(6,), (2, 2), (5, 4), (2, 3, 4)]


def _moments(phi: Tensor) -> Tensor:
    """The means over the lattice of phi^2 and phi(x) phi(x+mu), and the squared magnetisation: (3, B)."""
    axes = tuple(range(1, phi.ndim))
    link = torch.stack([(phi * phi.roll(-1, mu)).mean(axes) for mu in axes]).mean(0)
    return torch.stack([phi.square().mean(axes), link, phi.mean(axes).square()])


def _pulls(phi: Tensor, expected: FreeField) -> Tensor:
    moments = _moments(phi)
    exact = torch.tensor([expected.phi_squared, expected.link_energy, expected.magnetisation_squared])
    return (moments.mean(1) - exact) / (moments.std(1) / math.sqrt(phi.shape[0]))


@pytest.mark.parametrize("width", [1.0, 0.3])
def test_gaussian_density_and_samples(width: float, generator: torch.Generator) -> None:
    prior = GaussianPrior((4, 3), width)
    z = prior.sample(20_000, generator)
    assert z.shape == (20_000, 4, 3)
    assert z.dtype == torch.float64
    assert prior.space is REAL
    expected = torch.distributions.Normal(0.0, torch.tensor(width, dtype=torch.float64)).log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(prior.log_prob(z), expected, atol=1e-11, rtol=0)
    squares, n = (z / width).square(), z.numel()
    assert abs(float(squares.mean() - 1.0)) < 4.5 * math.sqrt(2.0 / n)
    assert abs(float(squares.mean() * 1.02 - 1.0)) > 4.5 * math.sqrt(2.0 / n)  # a width 1 % off is seen
    assert abs(float(z.mean()) / width) < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_free_density_is_that_of_the_free_action(shape: tuple[int, ...], generator: torch.Generator) -> None:
    """log r = -S - log Z of phi^4 theory at lam = 0, for both normalisations of the field."""
    z = torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    kappa = 0.15
    hopping = Phi4Hopping(kappa, 0.0)
    for action, prior in (
        (Phi4(0.7, 0.0), FreeFieldPrior(shape, 0.7)),
        (hopping, FreeFieldPrior(shape, hopping.to_phi4(len(shape)).m2, kappa)),
    ):
        exact = action.closed_forms(shape)
        assert exact is not None
        torch.testing.assert_close(prior.log_prob(z), -action(z) - exact.log_z, atol=1e-11, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_free_samples_have_the_moments_of_the_free_field(shape: tuple[int, ...], generator: torch.Generator) -> None:
    prior = FreeFieldPrior(shape, 0.4, 0.8)
    phi = prior.sample(40_000, generator)
    assert phi.shape == (40_000, *shape)
    assert phi.dtype == torch.float64
    assert _pulls(phi, FreeField(0.4, shape, 0.8)).abs().max() < 4.5
    assert _pulls(phi, FreeField(0.44, shape, 0.8)).abs().max() > 4.5  # a planted error


def test_learnable_mass_begins_at_its_value_and_moves_density_and_samples(seed: int) -> None:
    shape, prior = (4, 6), FreeFieldPrior((4, 6), 0.5, learnable=True)
    z = prior.sample(3, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(prior.log_prob(z), FreeFieldPrior(shape, 0.5).log_prob(z), atol=0, rtol=0)
    assert prior.log_factor is not None
    with torch.no_grad():
        prior.log_factor.fill_(math.log(2.0))
    twice = FreeFieldPrior(shape, 1.0)
    torch.testing.assert_close(prior.log_prob(z), twice.log_prob(z), atol=1e-5, rtol=0)  # a float32 parameter
    sample = prior.sample(3, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(sample, twice.sample(3, torch.Generator().manual_seed(seed)), atol=1e-6, rtol=0)
    assert not list(twice.parameters())


def test_samples_are_differentiable_in_the_mass(seed: int) -> None:
    prior = FreeFieldPrior((4, 6), 0.5, learnable=True).double()
    assert prior.log_factor is not None
    z = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)

    def value(factor: float) -> Tensor:
        with torch.no_grad():
            prior.log_factor.fill_(factor)
        sample = prior.sample(2, torch.Generator().manual_seed(seed))
        return sample.pow(3).sum() + prior.log_prob(z).sum()

    (gradient,) = torch.autograd.grad(value(0.3), prior.log_factor)
    difference = (value(0.3 + 1e-5) - value(0.3 - 1e-5)).detach() / 2e-5
    torch.testing.assert_close(gradient, difference, rtol=1e-7, atol=1e-7)
    assert abs(float(gradient)) > 1e-3


def test_single_precision_stays_single() -> None:
    for prior in (GaussianPrior((4, 4)), FreeFieldPrior((4, 4), 1.0, learnable=True)):
        z = prior.sample(2, torch.Generator().manual_seed(1), torch.float32)
        assert z.dtype == prior.log_prob(z).dtype == torch.float32


@pytest.mark.parametrize(("arguments", "message"), [((-1.0,), "m2 = -1.0"), ((1.0, 0.0), "hop = 0.0")], ids=str)
def test_refuses_what_is_no_free_field(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FreeFieldPrior((4, 4), *arguments)
    with pytest.raises(ValueError, match="width must be positive and finite, got 0"):
        GaussianPrior((4, 4), np.float64(0.0))
