"""Planar and Sylvester maps: bijections whatever their weights, whose inverses have the right derivatives."""

import pytest
import torch

from lattice_flows.flows import initialise
from lattice_flows.flows.transforms.planar import Planar, Sylvester

pytestmark = pytest.mark.quick


def agitated(transform, generator, size=1.0):
    initialise(transform, generator)
    with torch.no_grad():
        for weight in transform.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return transform.double()


@pytest.mark.parametrize("length", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("along", [-20.0, -1.0, 3.0])
def test_planar_is_a_bijection_for_every_w_and_u(length, along, generator):
    """w.u^ > -1, which u + (m(w.u) - w.u) w / |w|, with the norm itself, is not where |w| is not 1."""
    planar = agitated(Planar(5), generator)
    with torch.no_grad():
        planar.w.mul_(length / planar.w.norm())
        planar.u.add_((along - planar.w @ planar.u) / length**2 * planar.w)  # w.u = along
        w, u, bend, _ = planar.vectors(torch.float64)
        torch.testing.assert_close(w @ u, bend)
        assert w @ u > -1.0
        wrong = planar.u + (bend - w @ planar.u) / w.norm() * w
        assert length == 1.0 or abs(float(w @ wrong - bend)) > 0.1
        z = torch.randn(200, 5, generator=generator, dtype=torch.float64)
        x, log_det = planar.forward(z)
        back, inverse_log_det = planar.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-6, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_sylvester_has_orthonormal_columns_and_slopes_above_0(rank, generator):
    transform = agitated(Sylvester(5, rank), generator, size=3.0)
    q, outer, inner, _ = transform.matrices(torch.float64)
    torch.testing.assert_close(q.T @ q, torch.eye(rank, dtype=torch.float64))
    assert (outer.diagonal() * inner.diagonal() > -1.0).all()
    assert (outer.tril(-1) == 0).all()
    assert (inner.tril(-1) == 0).all()


@pytest.mark.parametrize("build", [lambda: Planar(4), lambda: Sylvester(4, 3)], ids=["planar", "sylvester"])
def test_the_inverse_has_the_derivatives_of_a_root(build, generator):
    """With respect to x and to every weight, against finite differences."""
    transform = agitated(build(), generator)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    weights = [weight.detach().clone().requires_grad_(True) for weight in transform.parameters()]
    names = [name for name, _ in transform.named_parameters()]

    class Inverted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transform

        def forward(self, x):
            return self.inner.inverse(x)

    def inverse(x, *weights):
        named = {f"inner.{name}": weight for name, weight in zip(names, weights)}
        return torch.func.functional_call(Inverted(), named, (x,))

    assert torch.autograd.gradcheck(inverse, (x.requires_grad_(True), *weights), atol=1e-5)
