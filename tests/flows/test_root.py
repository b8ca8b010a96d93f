"""Roots of monotone functions on the real line, and which of their derivatives are right."""

import pytest
import torch
from torch import Tensor

from lattice_flows.flows import root
from lattice_flows.flows.root import between, doubled, root_of, solved

pytestmark = pytest.mark.quick


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def cubic(y: Tensor, a: Tensor) -> root.Function:
    """x + a x^3 = y."""
    return lambda x: (x + a * x**3 - y, 1.0 + 3.0 * a * x * x)


def derivatives(n_steps: int, order: int) -> tuple[Tensor, Tensor]:
    """d^order x / dy^order and d^order x / da^order at x = 1.5, a = 0.7, by `solved`."""
    found = []
    for by in (0, 1):
        given = [numbers(1.5 + 0.7 * 1.5**3).requires_grad_(True), numbers(0.7).requires_grad_(True)]
        x = solved(cubic(*given), between(numbers(-10.0), numbers(10.0)), "x", n_steps)
        for _ in range(order):
            x = x + 0.0 * given[by]  # also where it is constant
            (x,) = torch.autograd.grad(x.sum(), given[by], create_graph=True)
        found.append(x.detach())
    return found[0], found[1]


def expected(order: int) -> tuple[Tensor, Tensor]:
    """The same by y(x) and a(x) = (y - x) / x^3 as functions of x, whose derivatives are inverted."""
    results = []
    for of in (lambda x: x + 0.7 * x**3, lambda x: (1.5 + 0.7 * 1.5**3 - x) / x**3):
        x = numbers(1.5).requires_grad_(True)
        step = x
        for _ in range(order):  # d/dy = (1 / y'(x)) d/dx
            slope = torch.autograd.grad(of(x).sum(), x, create_graph=True)[0]
            step = torch.autograd.grad(step.sum(), x, create_graph=True)[0] / slope
        results.append(step.detach())
    return results[0], results[1]


@pytest.mark.parametrize(("n_steps", "order", "right"), [(1, 1, True), (1, 2, False), (2, 2, True), (2, 3, True)])
def test_derivatives_are_right_to_the_order_that_is_said(n_steps: int, order: int, right: bool) -> None:
    for found, true in zip(derivatives(n_steps, order), expected(order)):
        assert torch.allclose(found, true, rtol=1e-9) == right
        assert not torch.allclose(1.001 * found, true, rtol=1e-9)


@pytest.mark.parametrize("y", [0.0, -3.0, 2e4, -7e9, 1e15], ids=str)
def test_a_doubled_bracket_holds_the_root(y: float) -> None:
    f = cubic(numbers(y, -y, 1.0), numbers(1e-12, 0.3, 0.0))
    bracket = doubled(f, numbers(0.0, 5.0, -2.0), "x")
    x = root_of(f, bracket, "x")
    low, high = bracket.start - bracket.half_width, bracket.start + bracket.half_width
    assert bool(((low <= x) & (x <= high)).all())
    assert bool((f(low)[0] <= 0).all() & (f(high)[0] >= 0).all())
    torch.testing.assert_close(x + numbers(1e-12, 0.3, 0.0) * x**3, numbers(y, -y, 1.0), rtol=1e-13, atol=1e-12)


def test_a_function_without_a_root_is_told() -> None:
    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.atan(x) - numbers(0.0, 2.0, -3.0), 1.0 / (1.0 + x * x)

    with pytest.raises(RuntimeError, match=r"^a map: 2 of 3 roots are not bracketed$"):
        doubled(f, numbers(0.0, 0.0, 0.0), "a map")


def test_large_roots_are_found_relative_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As rounding lets them be, and in few iterations; to an absolute tolerance they never are."""
    monkeypatch.setattr(root, "_ITERATIONS", 16)
    y = torch.linspace(2e8, 9e8, 50, dtype=torch.float64)
    f, bracket = cubic(y, numbers(1e-18)), between(0.1 * y, 2.0 * y)
    x = solved(f, bracket, "x")
    torch.testing.assert_close(x + 1e-18 * x**3, y, rtol=1e-15, atol=0)
    with pytest.raises(
        RuntimeError, match=r"^x: \d+ of 50 roots are not found after 16 iterations; the worst is off by"
    ):
        root_of(f, bracket._replace(unit=1.0), "x")
