"""Invertible maps of the circle, at parameters from nothing to extreme."""

import math
from collections.abc import Callable

import pytest
import torch
from cases import CIRCLES, CircleCase
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lattice_flows.flows import CircleTransform, CircularSpline, Moebius, ProjectionMixture, root

EVERY = pytest.mark.parametrize("case", CIRCLES, ids=lambda case: case.name)
SIZES = st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0, 1000.0])
SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=30, deadline=None, derandomize=True)


def _draw(case: CircleCase, size: float, seed: int, n: int = 200) -> tuple[Tensor, Tensor]:
    """Angles over several turns, the ends of the interval among them, and parameters of the given size."""
    generator = torch.Generator().manual_seed(seed)
    x = 8.0 * torch.randn(n, generator=generator, dtype=torch.float64)
    x[:4] = torch.tensor([-math.pi, math.pi, 0.0, 3 * math.pi])
    parameters = size * torch.randn(n, case.circle.n_parameters, generator=generator, dtype=torch.float64)
    return x, parameters


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_inverse_undoes_forward(case: CircleCase, size: float, seed: int) -> None:
    x, parameters = _draw(case, size, seed)
    y, log_derivative = case.circle.forward(x, parameters)
    back, inverse_log_derivative = case.circle.inverse(y, parameters)
    # Where the map is steep only the image can be held to rounding; where it is flat, only the origin.
    image, _ = case.circle.forward(back, parameters)
    assert (torch.minimum((image - y).abs(), (back - x).abs()) < 1e-11).all()
    if size <= 5.0:
        torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
        torch.testing.assert_close(inverse_log_derivative, -log_derivative, atol=1e-7, rtol=0)


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_log_derivative_is_autograds(case: CircleCase, size: float, seed: int) -> None:
    x, parameters = _draw(case, size, seed)
    for function in (case.circle.forward, case.circle.inverse):
        x = x.detach().requires_grad_(True)
        y, log_derivative = function(x, parameters)
        (derivative,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(torch.exp(log_derivative), derivative, rtol=1e-5, atol=1e-9)


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_is_monotone_and_of_degree_one(case: CircleCase, size: float, seed: int) -> None:
    _, parameters = _draw(case, size, seed, n=4)
    x = torch.linspace(-math.pi, 3 * math.pi, 801, dtype=torch.float64)[:, None]
    y, log_derivative = case.circle.forward(x.expand(-1, 4), parameters.expand(801, -1, -1))
    assert (y.diff(dim=0) > 0).all()
    assert torch.isfinite(log_derivative).all()
    torch.testing.assert_close(y[400:], y[:401] + 2 * math.pi, atol=1e-9, rtol=0)


@EVERY
@given(size=st.sampled_from([0.3, 3.0]), seed=SEEDS)
@quick
def test_inverse_is_differentiable_in_its_parameters(case: CircleCase, size: float, seed: int) -> None:
    """x(y(x, p), p) = x: the derivative with respect to p at fixed y is -(dy/dp) / (dy/dx)."""
    x, parameters = _draw(case, size, seed, n=20)
    parameters.requires_grad_(True)
    y, log_derivative = case.circle.forward(x, parameters)
    (forward_gradient,) = torch.autograd.grad((y * torch.exp(-log_derivative.detach())).sum(), parameters)
    back, _ = case.circle.inverse(y.detach(), parameters)
    (inverse_gradient,) = torch.autograd.grad(back.sum(), parameters)
    torch.testing.assert_close(inverse_gradient, -forward_gradient, rtol=1e-6, atol=1e-8)


@EVERY
def test_zero_parameters_are_the_identity(case: CircleCase, seed: int) -> None:
    x, parameters = _draw(case, 0.0, seed)
    y, log_derivative = case.circle.forward(x, parameters)
    torch.testing.assert_close(y, x, atol=1e-13, rtol=0)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x), atol=1e-13, rtol=0)


@pytest.mark.parametrize("n_components", [1, 3])
def test_vectors_turn_with_the_circle(n_components: int, generator: torch.Generator) -> None:
    """The mixture is built of vectors: turning x and them turns y."""
    circle = ProjectionMixture(n_components)
    x, logits, u, v = (torch.randn(50, k, generator=generator, dtype=torch.float64) for k in (1, *[n_components] * 3))
    x, cos, sin = x.squeeze(1), math.cos(0.7), math.sin(0.7)
    y, _ = circle.forward(x, torch.cat([logits, u, v], -1))
    turned, _ = circle.forward(x + 0.7, torch.cat([logits, cos * u - sin * v, sin * u + cos * v], -1))
    torch.testing.assert_close(turned, y + 0.7, atol=1e-12, rtol=0)


@EVERY
def test_mirror_image(case: CircleCase, seed: int) -> None:
    """-y(-x) has mirrored scalars and vectors; mirroring does nothing exactly where that is declared."""
    x, parameters = _draw(case, 1.0, seed)
    scalars, vectors = parameters.split([case.circle.n_scalars, 2 * case.circle.n_vectors], -1)
    mirrored = case.circle.mirror(scalars.T).T
    signs = torch.tensor([1.0, -1.0]).repeat_interleave(case.circle.n_vectors)
    y, _ = case.circle.forward(x, parameters)
    image, _ = case.circle.forward(-x, torch.cat([mirrored, signs * vectors], -1))
    torch.testing.assert_close(-image, y, atol=1e-12, rtol=0)
    assert torch.equal(mirrored, scalars) == case.circle.even_scalars


@pytest.mark.parametrize("s", [-1.5, 0.4, 2.0])
def test_one_component_is_the_papers_projection(s: float) -> None:
    """arXiv:2101.08176: x -> 2 atan(e^s tan(x/2)), which is kappa = tanh(s/2) with centre 0."""
    kappa = math.tanh(s / 2) / 0.99
    h = kappa / math.sqrt(1.0 - kappa**2)
    x = torch.linspace(-3.0, 3.0, 31, dtype=torch.float64)
    parameters = torch.tensor([0.0, h, 0.0], dtype=torch.float64).expand(31, 3)
    y, _ = ProjectionMixture(1).forward(x, parameters)
    torch.testing.assert_close(y, 2.0 * torch.atan(math.exp(s) * torch.tan(x / 2)), atol=1e-12, rtol=0)


def test_moebius_maps_are_those_of_the_disc(generator: torch.Generator) -> None:
    """By complex numbers; without a turn one component of the mixture, and h_omega of arXiv:2002.02428."""
    x, turn, u, v = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    parameters = torch.stack([turn, u, v], -1)
    y, log_slope = Moebius().forward(x, parameters)
    omega = 0.99 * torch.complex(u, v) / torch.sqrt(1.0 + u * u + v * v)
    z, phase = torch.exp(1j * x), torch.exp(1j * turn)
    torch.testing.assert_close(torch.exp(1j * y), phase * (z - omega) / (1.0 - omega.conj() * z))
    papers = (1.0 - omega.abs() ** 2) / (z - omega).abs() ** 2 * (z - omega) - omega
    torch.testing.assert_close(torch.exp(1j * (y - turn)), papers)
    one, log_one = ProjectionMixture(1).forward(x, torch.stack([torch.zeros_like(u), u, v], -1))
    torch.testing.assert_close(y - turn, one, atol=1e-14, rtol=1e-14)
    torch.testing.assert_close(log_slope, log_one, atol=1e-14, rtol=1e-14)


def test_smoothness_is_declared_as_it_is() -> None:
    """Across a knot the mixture's second derivative is continuous, the spline's jumps."""
    jumps = []
    for circle in (ProjectionMixture(3), Moebius(), CircularSpline(8)):
        generator = torch.Generator().manual_seed(5)
        parameters = torch.randn(circle.n_parameters, generator=generator, dtype=torch.float64)
        x = torch.linspace(-math.pi, math.pi, 200_001, dtype=torch.float64).requires_grad_(True)
        _, log_derivative = circle.forward(x, parameters.expand(len(x), -1))
        (second,) = torch.autograd.grad(log_derivative.sum(), x)
        jumps.append(float(second.diff().abs().max()))
        assert circle.smooth == (jumps[-1] < 1e-2)


@pytest.mark.parametrize(("circle", "size"), [(ProjectionMixture, 0), (CircularSpline, 1), (CircularSpline, 101)])
def test_refuses_impossible_sizes(circle: Callable[[int], CircleTransform], size: int) -> None:
    with pytest.raises(ValueError, match=f"n_(components|bins) = {size}"):
        circle(size)


def test_an_inverse_that_is_not_found_is_told_with_its_numbers(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """With so few iterations that Newton cannot be done."""
    monkeypatch.setattr(root, "_ITERATIONS", 3)
    y = 3.0 * (2.0 * torch.rand(50, generator=generator, dtype=torch.float64) - 1.0)
    parameters = 3.0 * torch.randn(50, 9, generator=generator, dtype=torch.float64)
    told = r"of 50 roots are not found after 3 iterations; the worst is off by [\d.e-]+"
    with pytest.raises(RuntimeError, match=told):
        ProjectionMixture(3).inverse(y, parameters)
