"""The contract of every transform: a bijection whose log_det is that of autograd's Jacobian, with its symmetries."""

import math

import pytest
import torch
from cases import TRANSFORMS, TransformCase
from torch import Tensor

from lattice_flows.flows import Chain, Inverse, Transform
from lattice_flows.lattice import conjugate, gauge_transform, translate

ALL = [pytest.param(case, shape, id=f"{case.name} {shape}") for case in TRANSFORMS for shape in case.shapes]
GAUGE = [param for param in ALL if param.values[0].gauge]
TRANSLATED = [param for param in ALL if param.values[0].translation]
CONJUGATED = [param for param in ALL if param.values[0].conjugation]


def _links(shape: tuple[int, ...], generator: torch.Generator, n: int = 4) -> Tensor:
    return (2.0 * torch.rand(n, 2, *shape, generator=generator, dtype=torch.float64) - 1.0) * math.pi


def _assert_equivariant(transform: Transform, z: Tensor, moved: Tensor, expected: Tensor, log_det: Tensor) -> None:
    """forward(moved) is `expected` up to whole turns, with the same log_det; and the map is not trivially so."""
    x, moved_log_det = transform.forward(moved)
    torch.testing.assert_close(torch.sin(0.5 * (x - expected)), torch.zeros_like(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(moved_log_det, log_det, atol=1e-9, rtol=0)
    assert (transform.forward(z)[0] - z).abs().amax() > 0.5


@pytest.mark.parametrize(("case", "shape"), ALL)
def test_inverse_undoes_forward(case: TransformCase, shape: tuple[int, ...], generator: torch.Generator) -> None:
    transform = case.build(shape)
    z = _links(shape, generator)
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-9 + transform.error, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-8 + 2.0 * transform.error, rtol=0)
    assert log_det.shape == (4,)
    assert log_det.abs().min() > 0.1


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize(("case", "shape"), ALL)
def test_log_det_is_that_of_the_jacobian(
    case: TransformCase, shape: tuple[int, ...], direction: str, generator: torch.Generator
) -> None:
    transform = case.build(shape)
    function = getattr(transform, direction)
    x = _links(shape, generator, n=1)
    copies = x.repeat(x.numel(), 1, 1, 1).requires_grad_(True)  # row i of the Jacobian is the gradient in copy i
    (jacobian,) = torch.autograd.grad(function(copies)[0].flatten(1).diagonal().sum(), copies)
    sign, expected = torch.linalg.slogdet(jacobian.flatten(1))
    assert sign == 1
    torch.testing.assert_close(function(x)[1][0], expected, atol=1e-9 + transform.error, rtol=0)


@pytest.mark.parametrize(("case", "shape"), GAUGE)
def test_commutes_with_gauge_transformations(
    case: TransformCase, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    transform, z = case.build(shape), _links(shape, generator)
    alpha = 10.0 * torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    x, log_det = transform.forward(z)
    _assert_equivariant(transform, z, gauge_transform(z, alpha), gauge_transform(x, alpha), log_det)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("case", "shape"), TRANSLATED)
def test_commutes_with_translations(
    case: TransformCase, shape: tuple[int, ...], axis: int, generator: torch.Generator
) -> None:
    transform, z = case.build(shape), _links(shape, generator)
    offset = (case.translation, 0) if axis == 0 else (0, case.translation)
    x, log_det = transform.forward(z)
    _assert_equivariant(transform, z, translate(z, offset), translate(x, offset), log_det)


@pytest.mark.parametrize(("case", "shape"), CONJUGATED)
def test_commutes_with_charge_conjugation(
    case: TransformCase, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    transform, z = case.build(shape), _links(shape, generator)
    x, log_det = transform.forward(z)
    _assert_equivariant(transform, z, conjugate(z), conjugate(x), log_det)


@pytest.mark.parametrize(("case", "shape"), ALL)
def test_whole_turns_of_a_link_pass_through(
    case: TransformCase, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    transform, z = case.build(shape), _links(shape, generator)
    turns = 2.0 * math.pi * torch.randint(-2, 3, z.shape, generator=generator).double()
    x, log_det = transform.forward(z)
    _assert_equivariant(transform, z, z + turns, x, log_det)


def test_a_layer_that_is_not_gauge_equivariant_is_caught(generator: torch.Generator) -> None:
    class Leaky(Transform):
        """Adds a little of a link's own angle: no loop."""

        def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return z + 1e-6 * torch.sin(z), torch.log1p(1e-6 * torch.cos(z)).flatten(1).sum(1)

        def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

    z = _links((4, 4), generator)
    alpha = torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)
    x, log_det = Leaky().forward(z)
    with pytest.raises(AssertionError):
        _assert_equivariant(Leaky(), z, gauge_transform(z, alpha), gauge_transform(x, alpha), log_det)


class Iterated(Transform):
    """x = z + 0.5 sin z, whose inverse takes a few steps of a fixed point; each halves the error, |x - z| <= 0.5."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.error = n, 0.5**n

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z + 0.5 * torch.sin(z), torch.log1p(0.5 * torch.cos(z)).flatten(1).sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x
        for _ in range(self.n):
            z = x - 0.5 * torch.sin(z)
        return z, -torch.log1p(0.5 * torch.cos(z)).flatten(1).sum(1)


def test_the_error_of_an_iterated_inverse_is_within_its_bound(generator: torch.Generator) -> None:
    z = 3.0 * torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    for n in (3, 8, 20):
        transform = Iterated(n)
        chain = Chain(transform, Inverse(Iterated(5)), transform)
        assert chain.error == 2.0 * 0.5**n + 0.5**5
        back, _ = transform.inverse(transform.forward(z)[0])
        off = float((back - z).abs().max())
        assert 1e-3 * transform.error < off < transform.error  # the bound is not there for show
