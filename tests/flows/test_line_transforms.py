"""Invertible maps of the real line, at parameters from nothing to extreme."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scalar_cases import LINES, LineCase
from torch import Tensor

from lattice_flows.flows import logistics
from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, SinhArcsinh, bounded
from lattice_flows.flows.logistics import LogisticDensity, LogisticMixture
from lattice_flows.flows.monotone import MonotoneNetwork

EVERY = pytest.mark.parametrize("case", LINES, ids=lambda case: case.name)
MODERATE = st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0])
SIZES = st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0, 1000.0])  # slopes at two knots of a bin then differ by 1e5
SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=30, deadline=None, derandomize=True)

Drawn = tuple[Tensor, Tensor, Tensor]


def _draw(case: LineCase, size: float, seed: int, n: int = 200) -> Drawn:
    """Numbers inside and far outside, the ends of the spline's interval among them, and parameters of this size."""
    generator = torch.Generator().manual_seed(seed)
    x = 3.0 * torch.randn(n, generator=generator, dtype=torch.float64)
    x[:6] = torch.tensor([-4.0, 4.0, 0.0, 1.5, -50.0, 1e4])
    even, odd = (
        size * torch.randn(k, n, generator=generator, dtype=torch.float64) for k in (case.line.n_even, case.line.n_odd)
    )
    return x, even, odd


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_inverse_undoes_forward(case: LineCase, size: float, seed: int) -> None:
    x, even, odd = _draw(case, size, seed)
    y, log_slope = case.line.forward(x, even, odd)
    back, inverse_log_slope = case.line.inverse(y, even, odd)
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_slope).all()
    scale = x.abs().clamp_min(1.0)
    # Where the map is flat, only the image can be held to rounding.
    image, _ = case.line.forward(back, even, odd)
    error = torch.minimum((back - x).abs() / scale, (image - y).abs() / y.abs().clamp_min(1.0))
    assert error.max() < 1e-10
    if size <= 1.0:
        torch.testing.assert_close(back / scale, x / scale, atol=1e-9, rtol=0)
        torch.testing.assert_close(inverse_log_slope, -log_slope, atol=1e-7, rtol=0)


@EVERY
@given(size=MODERATE, seed=SEEDS)
@quick
def test_log_slope_is_autograds(case: LineCase, size: float, seed: int) -> None:
    x, even, odd = _draw(case, size, seed)
    for function in (case.line.forward, case.line.inverse):
        x = x.detach().requires_grad_(True)
        y, log_slope = function(x, even, odd)
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(torch.exp(log_slope), slope, rtol=1e-5, atol=1e-9)


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_rises_everywhere(case: LineCase, size: float, seed: int) -> None:
    _, even, odd = _draw(case, size, seed, n=6)
    x = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64)[:, None].expand(-1, 6)
    y, _ = case.line.forward(x, even[:, None].expand(-1, 601, -1), odd[:, None].expand(-1, 601, -1))
    assert (y.diff(dim=0) > 0).all()


@EVERY
def test_zero_parameters_are_the_identity(case: LineCase, seed: int) -> None:
    x, even, odd = _draw(case, 0.0, seed)
    y, log_slope = case.line.forward(x, even, odd)
    torch.testing.assert_close(y, x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), atol=1e-13, rtol=0)


@EVERY
@given(size=SIZES, seed=SEEDS)
@quick
def test_mirrored_map_has_the_opposite_odd_parameters(case: LineCase, size: float, seed: int) -> None:
    x, even, odd = _draw(case, size, seed)
    y, log_slope = case.line.forward(x, even, odd)
    image, mirrored_log_slope = case.line.forward(-x, even, -odd)
    torch.testing.assert_close(-image, y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mirrored_log_slope, log_slope, rtol=1e-9, atol=1e-9)
    if size >= 1.0 and case.line.n_odd:
        assert (case.line.forward(-x, even, odd)[0] + y).abs().max() > 0.1  # the sign matters


@EVERY
@given(seed=SEEDS)
@quick
def test_inverse_is_differentiable_in_its_parameters(case: LineCase, seed: int) -> None:
    """x(y(x, p), p) = x: the derivative with respect to p at fixed y is -(dy/dp) / (dy/dx)."""
    x, even, odd = _draw(case, 0.5, seed, n=20)
    inputs = [one.requires_grad_(True) for one in (even, odd) if len(one)]
    y, log_slope = case.line.forward(x, even, odd)
    expected = torch.autograd.grad((y * torch.exp(-log_slope.detach())).sum(), inputs)
    found = torch.autograd.grad(case.line.inverse(y.detach(), even, odd)[0].sum(), inputs)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, -other, rtol=1e-6, atol=1e-6)


def test_sinh_arcsinh_makes_quartic_tails(generator: torch.Generator) -> None:
    """d = -log 2: y^2 / 2 goes to w |x| far outside."""
    bounded_to = 1.5 * math.atanh(-math.log(2.0) / 1.5)
    even = torch.tensor([[0.0], [bounded_to]], dtype=torch.float64)
    y, _ = SinhArcsinh(0.7).forward(torch.tensor([1e8], dtype=torch.float64), even, even[:0])
    torch.testing.assert_close(y.square() * 2.0, torch.tensor([0.7e8], dtype=torch.float64), rtol=1e-6, atol=0)


@EVERY
def test_smoothness_is_declared_as_it_is(case: LineCase) -> None:
    """Across a knot the derivative of the log slope jumps, elsewhere it does not."""
    generator = torch.Generator().manual_seed(5)
    even, odd = (
        torch.randn(k, 1, generator=generator, dtype=torch.float64) for k in (case.line.n_even, case.line.n_odd)
    )
    x = torch.linspace(-5.0, 5.0, 200_001, dtype=torch.float64).requires_grad_(True)
    y, log_slope = case.line.forward(x, even.expand(-1, len(x)), odd.expand(-1, len(x)))
    (second,) = torch.autograd.grad(log_slope.sum() + 0.0 * y.sum(), x)
    assert case.line.smooth == (float(second.diff().abs().max()) < 1e-2)


def _kl_to_two_peaks(line: LineTransform, generator: torch.Generator) -> float:
    """KL of the images of normal deviates to exp(2 x^2 - x^4 / 2), after 300 steps on even parameters from zero."""
    even = torch.zeros(line.n_even, 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([even], lr=0.03)
    z = torch.randn(1000, generator=generator, dtype=torch.float64)
    grid = torch.linspace(-5.0, 5.0, 5001, dtype=torch.float64)
    log_z = torch.log(torch.trapezoid(torch.exp(2.0 * grid**2 - 0.5 * grid**4), grid))
    for _ in range(300):
        x, log_slope = line.forward(z, even, torch.zeros(line.n_odd, 1, dtype=torch.float64))
        loss = (0.5 * x**4 - 2.0 * x**2 - log_slope - 0.5 * z * z).mean() + log_z - 0.5 * math.log(2.0 * math.pi)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_components_that_begin_alike_become_different(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """Also without odd parameters, and with their centres in one place they do not."""
    assert _kl_to_two_peaks(LogisticMixture(4), generator) < 0.2
    monkeypatch.setattr(logistics, "_OUTERMOST", 0.0)
    assert _kl_to_two_peaks(LogisticMixture(4), generator) > 0.5


def test_the_density_of_two_logistics_has_two_peaks(generator: torch.Generator) -> None:
    assert _kl_to_two_peaks(LogisticDensity(2), generator) < 0.02
    assert _kl_to_two_peaks(LogisticMixture(2), generator) > 0.5


def test_monotone_networks_make_two_peaks(generator: torch.Generator) -> None:
    assert _kl_to_two_peaks(MonotoneNetwork(8), generator) < 0.1
    assert _kl_to_two_peaks(Affine(), generator) > 0.5


def test_one_logistic_is_affine(generator: torch.Generator) -> None:
    """y = w e^s e^a (x / w - m) + t."""
    x, even, odd = (torch.randn(k, 50, generator=generator, dtype=torch.float64) for k in (1, 3, 2))
    y, log_slope = LogisticMixture(1, 0.7).forward(x[0], even, odd)
    s, a, m = bounded(even[0], 3.0), bounded(even[2], 1.5), bounded(odd[1], 2.0)
    torch.testing.assert_close(y, torch.exp(s + a) * (x[0] - 0.7 * m) + odd[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_slope, s + a, rtol=1e-12, atol=1e-12)


def test_a_mixture_has_the_distribution_function_that_it_says(generator: torch.Generator) -> None:
    """By its formula, in components: weights, centres, moves and steepnesses."""
    line = LogisticMixture(3, 2.0)
    x, even, odd = (torch.randn(k, 50, generator=generator, dtype=torch.float64) for k in (1, 6, 5))
    y, _ = line.forward(x[0], even, odd)
    logits = torch.stack([even[1] + odd[1], even[2], even[1] - odd[1]])
    a = bounded(torch.stack([even[3] + odd[2], even[4], even[3] - odd[2]]), 1.5)
    m = bounded(torch.stack([odd[3] + even[5], odd[4], odd[3] - even[5]]), 2.0)
    c = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)[:, None]
    cdf = (torch.softmax(logits, 0) * torch.sigmoid(c + (x / 2.0 - c - m) * torch.exp(a))).sum(0)
    expected = 2.0 * torch.exp(bounded(even[0], 3.0)) * torch.logit(cdf) + odd[0]
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


def test_a_monotone_network_is_the_integral_of_its_slope(generator: torch.Generator) -> None:
    """From the slope at 0 to those at both ends, and in between by quadrature; y(0) = t."""
    line = MonotoneNetwork(5, 2.0)
    even, odd = (torch.randn(k, 1, generator=generator, dtype=torch.float64) for k in (line.n_even, line.n_odd))
    x = torch.linspace(0.0, 3.0, 20_001, dtype=torch.float64)
    y, log_slope = line.forward(x, even, odd)
    integral = torch.cumulative_trapezoid(torch.exp(log_slope), x)
    torch.testing.assert_close(y[1:], odd[0] + integral, rtol=0, atol=1e-7)
    far, _ = line.forward(torch.tensor([1e6, -1e6], dtype=torch.float64), even, odd)
    ends = torch.exp(bounded(torch.stack([even[0] - odd[1], even[0] + odd[1]]), 3.0))[:, 0]
    torch.testing.assert_close(far / torch.tensor([1e6, -1e6], dtype=torch.float64), ends, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LogisticMixture(0), "a mixture has 1 to 100 components, got n_components = 0"),
        (lambda: LogisticDensity(101), "a mixture has 1 to 100 components, got n_components = 101"),
        (lambda: MonotoneNetwork(0), "a monotone network has 1 to 100 units, got n_units = 0"),
        (lambda: MonotoneNetwork(101), "a monotone network has 1 to 100 units, got n_units = 101"),
        (lambda: MonotoneNetwork(8, math.inf), "a monotone network's interval has bound > 0, got bound = inf"),
    ],
)
def test_refuses_impossible_mixtures_and_networks(build: Callable[[], LineTransform], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()


@pytest.mark.parametrize(
    ("n_bins", "bound", "message"), [(1, 4.0, "n_bins = 1"), (101, 4.0, "n_bins = 101"), (8, 0.0, "bound = 0")]
)
def test_refuses_impossible_splines(n_bins: int, bound: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineSpline(n_bins, bound)
